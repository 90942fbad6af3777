"""A directive that documents the public names of a package: ``.. public-names:: PACKAGE``, ``:kind: functions``."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, ClassVar

from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils.nodes import Node
    from sphinx.application import Sphinx

DIRECTIVES = {"functions": "autofunction", "values": "autoclass", "errors": "autoexception"}


def kind_of(member: object) -> str:
    """Return the kind of a public name's object, empty for a module or the version. Raises TypeError for another."""
    if not inspect.isclass(member):
        if not (callable(member) or inspect.ismodule(member) or isinstance(member, str)):
            raise TypeError(f"the reference has no place for {member!r}")
        return "functions" if callable(member) else ""
    return "errors" if issubclass(member, BaseException) else "values"


class PublicNames(SphinxDirective):
    """Documents every name of one kind in the ``__all__`` of a package."""

    required_arguments = 1
    option_spec: ClassVar = {"kind": lambda argument: directives.choice(argument, tuple(DIRECTIVES))}

    def run(self) -> list[Node]:
        """Return the nodes of the names, by alphabet."""
        return self.parse_text_to_nodes("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        package, kind = self.arguments[0], self.options["kind"]
        module = importlib.import_module(package)
        for name in sorted(name for name in module.__all__ if kind_of(getattr(module, name)) == kind):
            yield from (f".. {DIRECTIVES[kind]}:: {package}.{name}", "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
