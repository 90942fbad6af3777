"""Leave out the uses of features that a library is known to check for itself (``data/library_checks.tsv``)."""

from __future__ import annotations

from cpufeat import tables
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.checks.unavoidable_needs import Uses
    from cpufeat.auditing.program.functions import Program

_GO = "Go"
"""The library of programs with Go's run time."""
_GO_SECTIONS = (".go.buildinfo", "__go_buildinfo")


class LibraryChecks:
    """The rows of the table that concern one program."""

    def __init__(self, program: Program) -> None:
        """Look at the name of a library and at its sections."""
        self._program = program
        libraries = {"*", program.image.library} | {_GO for section in _GO_SECTIONS if program.image.section(section)}
        self._rows = [row for row in tables.rows("library_checks.tsv") if row[0] in libraries]
        self.reasons: dict[int, str] = {}
        """Why the uses that were left out of a function are checked, by its start."""

    def without(self, uses: Uses) -> Uses:
        """Return the uses without those that are known to be checked, and note the reasons."""
        if not self._rows:
            return uses
        remaining = {}
        for start, features in uses.items():
            checked = dict(self._checked(start))
            if checked.keys() & features.keys():
                self.reasons[start] = next(why for name, why in checked.items() if name in features)
            left = {name: addresses for name, addresses in features.items() if name not in checked}
            if left:
                remaining[start] = left
        return remaining

    def _checked(self, start: int) -> Iterator[tuple[str, str]]:
        """Yield the features that a function is known to check, and how."""
        names = {symbol.name for symbol in self._program.symbols.at(start)}
        for _, function, features, why in self._rows:
            if function == "*" or function in names:
                yield from ((feature, why) for feature in features.split())
