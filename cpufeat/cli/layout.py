"""Lay out text for people in 80 columns: headings, wrapped text and labelled rows.

A line is a list of (text, style) pairs; :mod:`cpufeat.cli.terminal` defines the styles.
"""

from __future__ import annotations

import textwrap

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 80
Line = list[tuple[str, str]]
"""Pieces of text, each with a style: empty or a key of :data:`cpufeat.cli.terminal.STYLES`."""
LABEL = 24
"""The column at which a row's text starts."""


def section_heading(title: str, note: str = "") -> Iterator[Line]:
    """Yield the heading of a section."""
    yield [(title, "head"), (f"  {note}" if note else "", "note")]


def wrapped(text: str, style: str, indent: int = 0) -> Iterator[Line]:
    """Yield a text, wrapped to the width."""
    for part in textwrap.wrap(text, WIDTH - indent):
        yield [(" " * indent, ""), (part, style)]


def row(label: str, text: str, style: str = "", evidence: str = "", *, label_style: str = "") -> Iterator[Line]:
    """Yield a label, a text beside it, and its evidence: flush right if it fits there, else below."""
    *parts, last = textwrap.wrap(text, WIDTH - LABEL, break_on_hyphens=False) or [""]
    room = WIDTH - LABEL - len(last) - 2
    beside = f"  {evidence.rjust(room)}" if 0 < len(evidence) <= room else ""
    label = f"  {label}"
    for part in parts:
        yield [(label.ljust(LABEL), label_style), (part, style)]
        label = ""
    yield [(label.ljust(LABEL), label_style), (last, style), (beside, "note")]
    for part in [] if beside else textwrap.wrap(evidence, WIDTH - LABEL, break_on_hyphens=False):
        yield [(" " * LABEL, ""), (part, "note")]
