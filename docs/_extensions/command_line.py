"""What the reference of the command line is generated from: every verb's arguments, and the exit statuses."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from cpufeat.cli.parser import STATUSES, VERBS, parser_of

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx


def parser() -> argparse.ArgumentParser:
    """Return the parser; cpufeat itself fills in only the verb that is used."""
    whole = parser_of(None)
    verbs = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for name in VERBS:
        verbs.choices[name] = parser_of(name)
    whole.epilog = None  # the other pages of the site say it
    return whole


class ExitStatuses(SphinxDirective):
    """Lists each exit status and its meaning."""

    def run(self) -> list[Node]:
        """Return the nodes of the list."""
        return self.parse_text_to_nodes("\n".join(f"``{status}``\n    {means}" for status, means in STATUSES.items()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("exit-statuses", ExitStatuses)
    return {"parallel_read_safe": True}
