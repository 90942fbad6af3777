"""Divide code sections into regions to decode: each function, and each gap between them."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from cpufeat.auditing.formats.image import Function
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cpufeat.auditing.formats.image import Image

LARGEST = 4 << 20
"""Bytes decoded at once: no function is as long, and a damaged file that claims one must not use up all memory."""
Range = tuple[int, int]
"""A start, and an end that is not part of the range."""


class Region(NamedTuple):
    """A function, or code outside of any, to decode."""

    function: Function
    """Without a name for code that is in no function."""
    ranges: list[Range]
    """The parts of it that the file does not call data."""

    @classmethod
    def unnamed(cls, within: Range) -> Region:
        """Return the region of a range that is in no function."""
        return cls(Function(*within, ""), [within])


def in_functions(image: Image) -> Iterator[Region]:
    """Yield each function of an image."""
    holes = [start for start, _ in image.data]
    for function in image.functions:
        ranges = [(function.start, function.end)]
        first, last = bisect_left(holes, function.start), bisect_left(holes, function.end)
        if first < last:
            ranges = list(_without(ranges, image.data[first:last]))
        if function.end - function.start > LARGEST:
            ranges = list(limited(ranges))
        yield Region(function, ranges)


def between_functions(image: Image) -> list[Range]:
    """Return the parts of the code sections that are in no function and that the file does not call data."""
    code = [
        (section.address, section.address + len(section.content)) for section in image.sections if section.executable
    ]
    return list(_without(_without(code, [(function.start, function.end) for function in image.functions]), image.data))


def sure_entries(image: Image) -> set[int]:
    """Return the addresses at which code surely begins, unlike those that something only looks like a call of.

    Left out are functions that only a label without a type names, which other files cannot refer to: perhaps data.
    """
    named = {symbol.address for symbol in image.symbols if symbol.kind in ("function", "resolver") or symbol.visible}
    labels = {symbol.address for symbol in image.symbols if symbol.kind == "label"}
    starts = {function.start for function in image.functions} - (labels - named)
    starts.update(image.pointers.values(), () if image.entry is None else (image.entry,))
    return starts


def limited(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield the ranges in pieces of at most :data:`LARGEST` bytes."""
    for start, end in ranges:
        yield from ((at, min(at + LARGEST, end)) for at in range(start, end, LARGEST))


def _without(ranges: Iterable[Range], holes: Iterable[Range]) -> Iterator[Range]:
    """Yield ranges without the holes in them; both are sorted by address."""
    remaining = iter(holes)
    hole = next(remaining, None)
    for start, end in ranges:
        at = start
        while hole and hole[1] <= at:
            hole = next(remaining, None)
        while hole and hole[0] < end:
            if at < hole[0]:
                yield at, hole[0]
            at = max(at, hole[1])
            if at >= end:
                break
            hole = next(remaining, None)
        if at < end:
            yield at, end
