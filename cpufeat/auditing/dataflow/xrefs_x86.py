"""What x86-64 code names.

Decoding everything to find the few references that matter would take longer than all else. A displacement of 32 bits
leads to its target from where it stands, so all that could be one are collected from the bytes, by target; the code
around those that matter is decoded to tell which are real.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import chain

from cpufeat.auditing.dataflow.xrefs import Reference
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cpufeat.auditing.dataflow.program import Code
    from cpufeat.auditing.formats.image import Function, Section
    from cpufeat.auditing.lifting.semantics import Step

_LONGEST_INSTRUCTION = 15
_REACH = 130
"""Bytes: how far a short jump leads, with its own."""
_IMMEDIATE = 4
"""Bytes that may stand between a displacement and the end of its instruction, to which it is relative."""


class Displacements:
    """The displacements and addresses in the code of an image."""

    LEAD = 4

    def __init__(self, code: Code) -> None:
        """Look at some code."""
        self._code, self._image = code, code.image
        self._low, self._high = code.low, code.high

    def references(self, low: int, high: int) -> Iterator[Reference]:
        """Yield the places in the code that name an address from ``low`` to before ``high``."""
        for first, last in chain(self._candidates(low, high), self._near(low, high)):
            for function in self._functions_in(first, last):
                sites, targets = self._code.settled(function)
                for index in range(bisect_left(sites, first), bisect_right(sites, last)):
                    if low <= targets[index] < high:
                        yield Reference(sites[index], function, targets[index])

    def _functions_in(self, first: int, last: int) -> Iterator[Function]:
        """Yield what lies between two addresses, few bytes apart; there may be gaps between sections."""
        at = first
        while at <= last:
            function = self._code.function_at(at)
            if function:
                yield function
            at = function.end if function else at + 1

    def _candidates(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Yield, for all bytes that may be such an address or a displacement to it, where the instruction begins."""
        for index, slack in ((self._displacements, _IMMEDIATE), (self._absolutes, 0)):
            start = bisect_left(index, max(low - slack - self._low, 0) << 32)
            end = bisect_left(index, max(high - self._low, 0) << 32)
            for entry in index[start:end]:
                place = self._low + (entry & 0xFFFFFFFF)
                yield place - _LONGEST_INSTRUCTION, place

    def _near(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Yield the code near enough for a short jump into a stretch of code."""
        section = self._image.section_at(low)
        if section and section.executable:
            yield max(low - _REACH, section.address), min(high + _REACH, section.end - 1)

    @cached_property
    def _displacements(self) -> array[int]:
        """Target, without an immediate operand that may follow, and place of all that may be a displacement."""
        reach = self._high - self._low
        if reach >> 32:
            return array("Q")
        top = reach >> 24
        near = b"(?=...[%b])" % re.escape(bytes([*range(top + 1), *range(255 - top, 256)]))
        fields = rb"(?:[\x05\x0d\x15\x1d\x25\x2d\x35\x3d\xe8\xe9]|(?<=\x0f)[\x80-\x8f])" + near
        pattern, number = re.compile(fields, re.DOTALL), struct.Struct("<i")
        found: list[int] = []
        for section in self._code.executable():
            base, content = section.address - self._low, section.content
            for match in pattern.finditer(content):
                place = match.end()
                target = base + place + 4 + number.unpack_from(content, place)[0]
                if 0 <= target < reach:
                    found.append(target << 32 | base + place)
        found.sort()
        return array("Q", found)

    @cached_property
    def _absolutes(self) -> array[int]:
        """Target and place of all four bytes that may be an address, in a file that can have them in its code."""
        if self._image.kind == "object":
            words = ((int.from_bytes(self._image.bytes_at(place, 4), "little"), place) for place in self._image.narrow)
            inside = [(target, place) for target, place in words if self._low <= target < self._high]
            return array("Q", sorted(target - self._low << 32 | place - self._low for target, place in inside))
        if not self._code.fixed or self._high >> 31:
            return array("Q")
        top = re.escape(bytes(range(self._low >> 24, (self._high >> 24) + 1)))
        found: list[int] = []
        for section in self._code.executable():
            base = section.address - self._low
            for match in re.finditer(b"(?=(...[%b]))" % top, section.content, re.DOTALL):
                target = int.from_bytes(match[1], "little")
                if self._low <= target < self._high:
                    found.append(target - self._low << 32 | base + match.start())
        found.sort()
        return array("Q", found)

    def switch(self, function: Function, pointed: Collection[int]) -> Callable[[Step], Collection[int]]:
        """Return what gives the places that an indirect jump may lead to; ``pointed``: where pointers do."""
        targets = set(pointed)
        for table in self._code.settled(function)[1]:
            section = self._image.section_at(table)
            if section and not section.executable:
                targets.update(self._table(section, table, function))
        known = frozenset(targets)
        return lambda step: frozenset() if any(one.settled for one in step.memory) else known

    def _table(self, section: Section, table: int, function: Function) -> Iterator[int]:
        """Yield the addresses in a function that a table of distances from itself holds, up to one that is none."""
        content = section.content[table - section.address :]
        for (distance,) in struct.iter_unpack("<i", content[: len(content) // 4 * 4]):
            if not function.start <= table + distance < function.end:
                return
            yield table + distance
