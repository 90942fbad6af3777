"""Tell what a text is that is no dump of a machine: the output of another program, or of several machines at once."""

from __future__ import annotations

import re

from cpufeat import tables
from cpufeat.errors import DumpError

_FROM_NODE = re.compile(r"([A-Za-z0-9][\w.-]*): ?(.*)")


def named(text: str) -> str:
    """Return a sentence about the program whose output a text is, and what to give instead; empty if none is known."""
    rows = tables.rows("foreign_dumps.tsv")
    return next((f"the output of {program}; give {instead}" for sign, program, instead in rows if sign in text), "")


def without_node(text: str, path: str) -> str:
    """Return the lines that ``pdsh`` or ``clush`` fetched without the name of their node; a text without one as it is.

    Raises DumpError for the lines of several nodes.
    """
    lines = [_FROM_NODE.match(line) for line in text.splitlines() if line.strip()]
    nodes = list(dict.fromkeys(line[1] for line in lines if line))
    if None in lines or not 2 * len(nodes) < len(lines):
        return text
    if len(nodes) > 1:
        shown = ", ".join(nodes[:3]) + (", ..." if len(nodes) > 3 else "")
        raise DumpError(
            f"{path}: lines of {len(nodes)} machines ({shown}), as pdsh and clush print them; give those of one"
        )
    return "".join(f"{line[2]}\n" for line in lines if line)
