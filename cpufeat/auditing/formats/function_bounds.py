"""Merge symbols and unwind tables into the start, end and name of each function, without overlap."""

from __future__ import annotations

from bisect import bisect_right

from cpufeat.auditing.formats.image import Function
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cpufeat.auditing.formats.image import Section, Symbol

Candidates = dict[int, tuple[int, str]]
"""Start of a function -> its size in bytes, 0 if unknown, and its name."""


def functions(
    sections: Sequence[Section], symbols: Iterable[Symbol], unwound: Iterable[tuple[int, int]]
) -> tuple[Function, ...]:
    """Return the functions in executable sections, by address and without overlap.

    ``unwound``: start and end of each range in the unwind tables; they are equal if only the start is known. Where
    sources disagree, symbols with a size come first, then ranges of the tables, then symbols and tables without a size,
    which end where the next function begins, and labels without a type last.
    """
    named: Candidates = {}
    labels: Candidates = {}
    for symbol in symbols:
        of_kind = labels if symbol.kind == "label" else named if symbol.kind in ("function", "resolver") else None
        if of_kind is not None and (symbol.address not in of_kind or symbol.visible):
            of_kind[symbol.address] = (symbol.size, symbol.name)
    tables = {start: (max(end - start, 0), labels.get(start, (0, ""))[1]) for start, end in unwound}
    for start in named.keys() & tables.keys():
        named[start] = (named[start][0] or tables[start][0], named[start][1])
    bounds: list[Function] = []
    for candidates in (_sized(named), _sized(tables), _unsized(tables) | _unsized(named), labels):
        bounds = _with(bounds, candidates, sections)
    return tuple(bounds)


def _sized(candidates: Candidates) -> Candidates:
    return {start: (size, name) for start, (size, name) in candidates.items() if size}


def _unsized(candidates: Candidates) -> Candidates:
    return {start: (size, name) for start, (size, name) in candidates.items() if not size}


def _with(known: list[Function], candidates: Candidates, sections: Sequence[Section]) -> list[Function]:
    """Return the known functions and the candidates that begin outside of them.

    A candidate ends after its size, or where the next function or candidate begins.
    """
    code = [(section.address, section.address + len(section.content)) for section in sections if section.executable]
    sections_at = [start for start, _ in code]
    starts, ends = [function.start for function in known], [function.end for function in known]
    new_starts: list[tuple[int, int]] = []
    for start in sorted(candidates):
        section = bisect_right(sections_at, start) - 1
        before = bisect_right(starts, start) - 1
        if section >= 0 and start < code[section][1] and (before < 0 or start >= ends[before]):
            limit = code[section][1]
            new_starts.append((start, min(limit, starts[before + 1]) if before + 1 < len(starts) else limit))
    nexts = [start for start, _ in new_starts[1:]]
    new = []
    for index, (start, limit) in enumerate(new_starts):
        size, name = candidates[start]
        end = min(limit, start + size) if size else limit
        new.append(Function(start, min(end, nexts[index]) if index < len(nexts) else end, name))
    return sorted(known + new) if known else new
