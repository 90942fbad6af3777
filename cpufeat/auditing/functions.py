"""Which stretches of the code are functions, from what a file says of them."""

from __future__ import annotations

from bisect import bisect_right

from cpufeat.auditing.image import Function
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cpufeat.auditing.image import Section, Symbol


def functions(
    sections: Sequence[Section], symbols: Iterable[Symbol], unwound: Iterable[tuple[int, int]]
) -> tuple[Function, ...]:
    """Return the functions in executable sections, by address and without overlap.

    ``unwound``: stretches that unwind tables describe. A symbol's own size counts before the next symbol, and both
    before the unwind tables; a label without a type begins a function where nothing else is.
    """
    code = [section for section in sections if section.executable and len(section.content)]
    starts = [section.address for section in code]

    def end_of_section(address: int) -> int:
        at = bisect_right(starts, address) - 1
        return code[at].address + len(code[at].content) if at >= 0 else 0

    named: dict[int, tuple[int, str]] = {}
    labels: dict[int, tuple[int, str]] = {}
    for symbol in symbols:
        known = named if symbol.kind in ("function", "resolver") else labels if symbol.kind == "label" else None
        if known is not None and (symbol.address not in known or symbol.visible):
            known[symbol.address] = (symbol.size, symbol.name)
    sized = {start: (end - start, labels.get(start, (0, ""))[1]) for start, end in unwound}
    for start, (size, name) in named.items():
        named[start] = (size or sized.get(start, (0, ""))[0], name)
    found = _bounded(named, end_of_section)
    for more in (sized, labels):
        found = _with_others(found, _bounded(more, end_of_section))
    return tuple(found)


def _bounded(known: Mapping[int, tuple[int, str]], end_of_section: Callable[[int], int]) -> list[Function]:
    """Return the functions, of (size, name) by start, that begin in a section: each up to its size or the next one."""
    ordered = sorted(start for start in known if start < end_of_section(start))
    nexts = [*ordered[1:], 0]
    found = []
    for start, following in zip(ordered, nexts, strict=False):
        size, name = known[start]
        limit = end_of_section(start)
        if start < following < limit:
            limit = following
        found.append(Function(start, min(start + size, limit) if size else limit, name))
    return found


def _with_others(found: list[Function], others: list[Function]) -> list[Function]:
    """Return functions with those others that begin outside of them, each cut where the next begins."""
    starts = [function.start for function in found]
    ends = [function.end for function in found]
    outside = []
    for other in others:
        at = bisect_right(starts, other.start)
        if at and other.start < ends[at - 1]:
            continue
        limit = starts[at] if at < len(starts) else other.end
        outside.append(other._replace(end=min(other.end, limit)))
    return sorted(found + outside)
