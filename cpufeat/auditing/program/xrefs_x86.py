"""Find cross-references in x86-64 code.

Decoding all code to find the few references that matter would take longer than everything else. A displacement of 32
bits is relative to its own place, so every four bytes that could be one are collected by target without decoding. Of
the functions around those whose target matters, only the starts of the instructions are found: they tell which
instruction each displacement belongs to, and that one is looked at.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from functools import cache, cached_property
from itertools import chain, product

from cpufeat.auditing.lifting import x86
from cpufeat.auditing.program.xrefs import Reference
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cpufeat.auditing.formats.image import Function, Section
    from cpufeat.auditing.lifting.semantics import Step
    from cpufeat.auditing.program.functions import Program

_REACH = 130
"""Bytes: how far a short jump leads, its own length included."""
_OPCODES = (rb"[\x05\x0d\x15\x1d\x25\x2d\x35\x3d\xe8\xe9]", rb"\x0f[\x80-\x8f]")
"""What stands before a displacement: ModRM of an operand relative to RIP, CALL and JMP; and the conditional jumps.

They are looked for one after the other, because the ``re`` module is three times as fast where no pattern has a choice.
"""
_SHORT = re.compile(rb"[\x70-\x7f\xe0-\xe3\xeb](?=(.))", re.DOTALL)
"""The opcodes of short jumps, before the byte of their distance."""
_IMMEDIATE = 4
"""Bytes that may stand between a displacement and the end of its instruction, to which it is relative."""


class DisplacementXrefs:
    """An index of the displacements and absolute addresses in the code of a program."""

    STUB_LEAD = 4

    def __init__(self, program: Program) -> None:
        """Index the code of a program when it is first searched."""
        self._program, self._image = program, program.image
        self._low, self._high = program.low, program.high
        self._starts = cache(self._find_starts)

    def xrefs_to(self, low: int, high: int, but: Function | None = None) -> Iterator[Reference]:
        """Yield the instructions that name an address from ``low`` to before ``high``; some perhaps twice.

        Those of the function ``but`` are left out.
        """
        for place in chain(self._candidates(low, high), self._near(low, high, but)):
            function = self._program.function_at(place)
            if function is not None and function != but:
                yield from self._verified(function, place, low, high)

    def _verified(self, function: Function, place: int, low: int, high: int) -> Iterator[Reference]:
        """Yield the references to such addresses that the instruction around a place makes."""
        starts = self._starts(function)
        after = bisect_right(starts, place - function.start)
        site = function.start + starts[after - 1]
        end = function.start + starts[after] if after < len(starts) else function.end
        code = self._image.bytes_at(site, end - site)
        for _, target in x86.constant_addresses(code, site, self._program.may_hold_address):
            if low <= target < high and not self._program.is_number(site, target, function):
                yield Reference(site, function, target)

    def _find_starts(self, function: Function) -> array[int]:
        return x86.instruction_starts(self._program.bytes_of(function))

    def _candidates(self, low: int, high: int) -> Iterator[int]:
        """Yield the places of all bytes that may be a displacement to such an address, or the address itself."""
        for index, slack in ((self._displacements, _IMMEDIATE), (self._absolutes, 0)):
            start = bisect_left(index, max(low - slack - self._low, 0) << 32)
            end = bisect_left(index, max(high - self._low, 0) << 32)
            yield from (self._low + (entry & 0xFFFFFFFF) for entry in index[start:end])

    def _near(self, low: int, high: int, but: Function | None) -> Iterator[int]:
        """Yield the places of all bytes that may be a short jump to such an address."""
        section = self._image.section_at(low)
        if section is None or not section.executable:
            return
        first, last = max(low - _REACH, section.address), min(high + _REACH, section.end)
        without = but is not None and first <= but.start and but.end <= last
        for start, end in ((first, but.start), (but.end, last)) if but and without else ((first, last),):
            for match in _SHORT.finditer(section.content, start - section.address, end - section.address):
                place = section.address + match.start()
                distance = match[1][0]
                if low <= place + 2 + (distance - (distance << 1 & 256)) < high:
                    yield place

    @cached_property
    def _displacements(self) -> array[int]:
        """Target and place of all bytes that may be a displacement, from the lowest address on, in 32 bits each.

        The target is that of an instruction without an immediate operand behind the displacement.
        """
        reach = self._high - self._low
        if reach >> 32:
            return array("Q")
        top = reach >> 24
        near = b"(?=...[%b])" % re.escape(bytes([*range(top + 1), *range(255 - top, 256)]))
        number = struct.Struct("<i")
        entries: list[int] = []
        for section, opcode in product(self._program.executable_sections(), _OPCODES):
            base, content = section.address - self._low, section.content
            for match in re.finditer(opcode + near, content, re.DOTALL):
                place = match.end()
                target = base + place + 4 + number.unpack_from(content, place)[0]
                if 0 <= target < reach:
                    entries.append(target << 32 | base + place)
        entries.sort()
        return array("Q", entries)

    @cached_property
    def _absolutes(self) -> array[int]:
        """Target and place of all four bytes that may be an absolute address, if code of this file can hold one."""
        if self._image.kind == "object":
            words = ((int.from_bytes(self._image.bytes_at(place, 4), "little"), place) for place in self._image.narrow)
            inside = [(target, place) for target, place in words if self._low <= target < self._high]
            return array("Q", sorted(target - self._low << 32 | place - self._low for target, place in inside))
        if not self._program.image.is_fixed or self._high >> 31:
            return array("Q")
        top = re.escape(bytes(range(self._low >> 24, (self._high >> 24) + 1)))
        entries: list[int] = []
        for section in self._program.executable_sections():
            base = section.address - self._low
            for match in re.finditer(b"(?=(...[%b]))" % top, section.content, re.DOTALL):
                target = int.from_bytes(match[1], "little")
                if self._low <= target < self._high:
                    entries.append(target - self._low << 32 | base + match.start())
        entries.sort()
        return array("Q", entries)

    def makes_parts_of(self, _address: int) -> bool:
        """Tell whether an instruction makes a part of an address: none does, each holds it whole."""
        return False

    def switch_targets(self, function: Function, pointed: Collection[int]) -> Callable[[Step], Collection[int]]:
        """Return a function from indirect jumps to where they may lead: what pointers, and tables of distances, hold.

        A jump through a pointer at a constant address (a tail call) leads to no place in the function.
        """

        @cache
        def known() -> frozenset[int]:
            return frozenset([*pointed, *self._tables_of(function)])

        return lambda step: frozenset() if any(memory.is_constant for memory in step.memory) else known()

    def _tables_of(self, function: Function) -> Iterator[int]:
        """Yield the targets of the jump tables of distances that a function names."""
        for table in self._program.constant_addresses(function)[1]:
            section = self._image.section_at(table)
            if section and not section.executable:
                yield from self._table(section, table, function)

    def _table(self, section: Section, table: int, function: Function) -> Iterator[int]:
        """Yield the targets of a jump table of distances from itself, up to the first outside of the function."""
        content = section.content[table - section.address :]
        for (distance,) in struct.iter_unpack("<i", content[: len(content) // 4 * 4]):
            if not function.start <= table + distance < function.end:
                return
            yield table + distance
