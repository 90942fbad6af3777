"""Which stretches of the code are functions, from what a file says of them."""

from __future__ import annotations

from bisect import bisect_right

from cpufeat.auditing.formats.image import Function
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cpufeat.auditing.formats.image import Section, Symbol

Known = dict[int, tuple[int, str]]
"""Start -> size in bytes, 0 where the file does not say, and name."""


def functions(
    sections: Sequence[Section], symbols: Iterable[Symbol], unwound: Iterable[tuple[int, int]]
) -> tuple[Function, ...]:
    """Return the functions in executable sections, by address and without overlap.

    ``unwound``: stretches that unwind tables describe, empty where they say only where one begins. What has a size
    comes first, symbols before the tables; then what ends where the next begins; and a label without a type begins a
    function where nothing else is.
    """
    named: Known = {}
    labels: Known = {}
    for symbol in symbols:
        known = labels if symbol.kind == "label" else named if symbol.kind in ("function", "resolver") else None
        if known is not None and (symbol.address not in known or symbol.visible):
            known[symbol.address] = (symbol.size, symbol.name)
    tables = {start: (max(end - start, 0), labels.get(start, (0, ""))[1]) for start, end in unwound}
    for start in named.keys() & tables.keys():
        named[start] = (named[start][0] or tables[start][0], named[start][1])
    found: list[Function] = []
    for known in (_sized(named), _sized(tables), _unsized(tables) | _unsized(named), labels):
        found = _with(found, known, sections)
    return tuple(found)


def _sized(known: Known) -> Known:
    return {start: one for start, one in known.items() if one[0]}


def _unsized(known: Known) -> Known:
    return {start: one for start, one in known.items() if not one[0]}


def _with(found: list[Function], known: Mapping[int, tuple[int, str]], sections: Sequence[Section]) -> list[Function]:
    """Return the functions found, and those that begin outside of them: up to their size, or where the next begins."""
    code = [(section.address, section.address + len(section.content)) for section in sections if section.executable]
    sections_at = [start for start, _ in code]
    starts, ends = [one.start for one in found], [one.end for one in found]
    fresh: list[tuple[int, int]] = []
    for start in sorted(known):
        section = bisect_right(sections_at, start) - 1
        before = bisect_right(starts, start) - 1
        if section >= 0 and start < code[section][1] and (before < 0 or start >= ends[before]):
            limit = code[section][1]
            fresh.append((start, min(limit, starts[before + 1]) if before + 1 < len(starts) else limit))
    nexts = [start for start, _ in fresh[1:]]
    new = []
    for index, (start, limit) in enumerate(fresh):
        size, name = known[start]
        end = min(limit, start + size) if size else limit
        new.append(Function(start, min(end, nexts[index]) if index < len(nexts) else end, name))
    return sorted(found + new) if found else new
