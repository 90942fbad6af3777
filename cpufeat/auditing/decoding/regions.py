"""The code sections of an image, divided into what decoding starts from: functions, and what lies between them."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cpufeat.auditing.formats.image import Function, Image

LARGEST = 4 << 20
"""Bytes decoded as one: no function is as long, and a damaged file that says so must not cost all memory."""
Range = tuple[int, int]
"""From the first address to before the second."""


class Stretch(NamedTuple):
    """Code to decode, less what the file itself calls data."""

    function: Function
    ranges: list[Range]


def in_functions(image: Image) -> Iterator[Stretch]:
    """Yield each function."""
    holes = [start for start, _ in image.data]
    for function in image.functions:
        ranges = [(function.start, function.end)]
        first, last = bisect_left(holes, function.start), bisect_left(holes, function.end)
        if first < last:
            ranges = list(_without(ranges, image.data[first:last]))
        if function.end - function.start > LARGEST:
            ranges = list(limited(ranges))
        yield Stretch(function, ranges)


def between_functions(image: Image) -> list[Range]:
    """Return what no function covers, of the sections with code and content."""
    code = [(one.address, one.address + len(one.content)) for one in image.sections if one.executable]
    return list(_without(_without(code, [(one.start, one.end) for one in image.functions]), image.data))


def limited(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield ranges, cut to pieces of at most :data:`LARGEST` bytes."""
    for start, end in ranges:
        yield from ((at, min(at + LARGEST, end)) for at in range(start, end, LARGEST))


def _without(ranges: Iterable[Range], holes: Iterable[Range]) -> Iterator[Range]:
    """Yield what is left of ranges, all by address."""
    left = iter(holes)
    hole = next(left, None)
    for start, end in ranges:
        at = start
        while hole and hole[1] <= at:
            hole = next(left, None)
        while hole and hole[0] < end:
            if at < hole[0]:
                yield at, hole[0]
            at = max(at, hole[1])
            if at >= end:
                break
            hole = next(left, None)
        if at < end:
            yield at, end


def content_of(image: Image, start: int, end: int) -> bytes:
    """Return the bytes of a range that lies in one section."""
    section = image.section_at(start)
    return bytes(section.content[start - section.address : end - section.address]) if section else b""


def place(image: Image, address: int) -> str:
    """Return an address as tools name it: in an object section and offset, ``.text+0x40``."""
    section = image.section_at(address) if image.kind == "object" else None
    return f"{section.name}+{address - section.address:#x}" if section else f"{address:#x}"
