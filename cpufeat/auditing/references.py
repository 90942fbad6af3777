"""The code of one image as the flow analyses ask for it: its steps, and what refers to an address.

Decoding everything to find the few references that matter would take longer than all else. A displacement of 32 bits
leads to its target from where it stands, so all that could be one are collected from the bytes, by target; the code
around those that matter is decoded to tell which are real.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from functools import cache, cached_property, lru_cache
from itertools import chain
from typing import NamedTuple

from cpufeat.auditing import steps_x86
from cpufeat.auditing.image import Function
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from cpufeat.auditing.image import Image, Section, Symbol
    from cpufeat.auditing.steps import Step

_LONGEST_INSTRUCTION = 15
_REACH = 130
"""Bytes: how far a short jump leads, with its own."""
_IMMEDIATE = 4
"""Bytes that may stand between a displacement and the end of its instruction, to which it is relative."""
_FIRST_FIXED = 0x10000
"""Below the addresses of a file that can only be loaded where it says: position-independent ones begin at 0."""
_LARGEST_FUNCTION = 1 << 18
"""Bytes: what is larger is code whose functions nobody knows, and is not followed."""
EXTERNAL = 64
"""Bytes that an image keeps free for what is in another file."""
_STUBS = (".plt", "__stubs")
"""Sections of code, all of one size, that jumps through a pointer each."""
_UNWINDING = (".eh_frame", ".gcc_except_table", ".ARM.", ".pdata", ".xdata", "__eh_frame", "__compact_unwind", ".debug")
"""Sections whose pointers nobody calls."""


class Reference(NamedTuple):
    """A place in the code that names an address."""

    site: int
    """The address of the instruction."""
    function: Function
    target: int


class Code:
    """The code of an image, decoded as far as it is asked for."""

    def __init__(self, image: Image, functions: Iterable[Function] = ()) -> None:
        """Look at an image of x86-64; ``functions``: more than those that it knows."""
        self.image = image
        self._functions = sorted({*image.functions, *functions})
        self._starts = [function.start for function in self._functions]
        self.convention = steps_x86.SYSTEM_V
        first = min((one.address for one in image.sections), default=0)
        self.fixed = image.kind == "executable" and first >= _FIRST_FIXED
        self._low = min((one.address for one in image.sections), default=0)
        ends = [one.end for one in image.sections]
        self._high = max([*ends, *[address + EXTERNAL for address in (*image.externals, *image.pointers)]], default=0)
        self.settled = cache(self._settled)
        self.steps = lru_cache(64)(self._steps)
        self._entries: dict[int, tuple[int, ...]] = {}

    # --- code

    def function_at(self, address: int) -> Function | None:
        """Return the function at an address of the code, or what lies between functions there."""
        after = bisect_right(self._starts, address)
        function = self._functions[after - 1] if after else None
        if function and function.name and address < function.end:
            return function
        section = self.image.section_at(address)
        if section is None or not section.executable:
            return None
        if section.name.startswith(_STUBS):
            size = steps_x86.stub_size(bytes(section.content[:16]))
            start = address - (address - section.address) % size
            return Function(start, min(section.end, start + size), "")
        if function and address < function.end:
            return function
        start = max(section.address, function.end if function else 0)
        return Function(start, min([section.end, *self._starts[after : after + 1]]), "")

    def _bytes(self, function: Function) -> bytes:
        return self.image.bytes_at(function.start, function.end - function.start)

    def _steps(self, function: Function) -> list[Step]:
        too_large = function.end - function.start > _LARGEST_FUNCTION
        return [] if too_large else steps_x86.steps(self._bytes(function), function.start, self.may_hold)

    def probes(self) -> Iterator[Function]:
        """Yield the functions that ask the CPU what it is."""
        pattern = re.compile(steps_x86.PROBES, re.DOTALL)
        found = (
            self.function_at(section.address + match.start())
            for section in self._executable()
            for match in pattern.finditer(section.content)
        )
        for function in dict.fromkeys(found):
            if function and steps_x86.probes(self._bytes(function), function.start):
                yield function

    def entries(self, function: Function) -> tuple[int, ...]:
        """Return the addresses at which code elsewhere enters a function, its start first."""
        if function.start not in self._entries:
            others = self.references(function.start + 1, function.end)
            inner = {reference.target for reference in others if reference.function != function}
            self._entries[function.start] = (function.start, *sorted(inner))
        return self._entries[function.start]

    def switch(self, function: Function) -> Callable[[Step], Collection[int]]:
        """Return what gives the places in a function that an indirect jump of its may lead to."""
        targets = {target for target, _ in self._slots_between(function.start + 1, function.end)}
        for table in self.settled(function)[1]:
            section = self.image.section_at(table)
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

    def is_resolver(self, address: int) -> bool:
        """Whether the loader calls a function to choose another (ELF's ``ifunc``)."""
        return address in self.image.resolvers

    def may_hold(self, start: int, end: int) -> bool:
        """Tell whether a number in the bytes of an instruction may be an address."""
        return self.fixed or not self.image.narrow.isdisjoint(range(start, end))

    def _settled(self, function: Function) -> tuple[array[int], array[int]]:
        """Return the addresses of a function's instructions that have an address in them, and those addresses."""
        pairs = list(steps_x86.settled(self._bytes(function), function.start, self.may_hold))
        return array("Q", [site for site, _ in pairs]), array("Q", [target for _, target in pairs])

    def resolve(self, target: int) -> int:
        """Return where a call leads in the end: through a PLT entry or another stub to what its pointer holds."""
        code = self.image.bytes_at(target, 16)
        slot = steps_x86.stub(code, target) if code else None
        return self.image.pointers.get(slot, target) if slot is not None else target

    # --- references

    def references(self, low: int, high: int) -> list[Reference]:
        """Return the places in the code that name an address from ``low`` to before ``high``."""
        found = set()
        for first, last in chain(self._candidates(low, high), self._near(low, high)):
            for function in self._functions_in(first, last):
                sites, targets = self.settled(function)
                for index in range(bisect_left(sites, first), bisect_right(sites, last)):
                    if low <= targets[index] < high:
                        found.add(Reference(sites[index], function, targets[index]))
        return sorted(found)

    def _functions_in(self, first: int, last: int) -> Iterator[Function]:
        """Yield what lies between two addresses, few bytes apart; there may be gaps between sections."""
        at = first
        while at <= last:
            function = self.function_at(at)
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
        section = self.image.section_at(low)
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
        for section in self._executable():
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
        if self.image.kind == "object":
            words = ((int.from_bytes(self.image.bytes_at(place, 4), "little"), place) for place in self.image.narrow)
            inside = [(target, place) for target, place in words if self._low <= target < self._high]
            return array("Q", sorted(target - self._low << 32 | place - self._low for target, place in inside))
        if not self.fixed or self._high >> 31:
            return array("Q")
        top = re.escape(bytes(range(self._low >> 24, (self._high >> 24) + 1)))
        found: list[int] = []
        for section in self._executable():
            base = section.address - self._low
            for match in re.finditer(b"(?=(...[%b]))" % top, section.content, re.DOTALL):
                target = int.from_bytes(match[1], "little")
                if self._low <= target < self._high:
                    found.append(target - self._low << 32 | base + match.start())
        found.sort()
        return array("Q", found)

    def _executable(self) -> Iterator[Section]:
        return (section for section in self.image.sections if section.executable)

    # --- pointers in data

    @cached_property
    def _slots(self) -> list[tuple[int, int]]:
        """Targets and places of pointers in data, by target."""
        pairs = {(target, place) for place, target in self.image.pointers.items()}
        if self.fixed:
            pairs.update(self._unrelocated())
        return sorted(pairs)

    def _unrelocated(self) -> Iterator[tuple[int, int]]:
        """Yield the words of data that may be pointers, in a file that needs no relocations."""
        for section in self.image.sections:
            if not section.executable:
                words = array("Q", bytes(section.content[: len(section.content) // 8 * 8]))
                pairs = ((word, section.address + 8 * index) for index, word in enumerate(words))
                yield from (pair for pair in pairs if self._low <= pair[0] < self._high)

    def slots(self, low: int, high: int) -> list[int]:
        """Return the places in data that hold an address from ``low`` to before ``high``."""
        return [place for _, place in self._slots_between(low, high)]

    def _slots_between(self, low: int, high: int) -> list[tuple[int, int]]:
        start, end = bisect_left(self._slots, (low, 0)), bisect_left(self._slots, (high, 0))
        return [(target, place) for target, place in self._slots[start:end] if not self._unwinds(place)]

    def _unwinds(self, place: int) -> bool:
        section = self.image.section_at(place)
        return section is not None and section.name.startswith(_UNWINDING)

    @cached_property
    def _objects(self) -> list[tuple[int, int]]:
        """Start and end of what symbols of data name."""
        sized = {(one.address, one.address + one.size) for one in self.image.symbols if one.kind == "data" and one.size}
        return sorted(sized)

    def sized_object_at(self, address: int) -> tuple[int, int] | None:
        """Return the stretch of data around an address that has a symbol."""
        at = bisect_right(self._objects, (address, 1 << 64)) - 1
        return self._objects[at] if at >= 0 and address < self._objects[at][1] else None

    def object_at(self, address: int) -> tuple[int, int] | None:
        """Return the stretch of data that an address belongs to, None where nothing tells.

        It is a symbol's, or begins at the last address before that the code or other data names, and ends here.
        """
        sized = self.sized_object_at(address)
        if sized:
            return sized
        section = self.image.section_at(address)
        low = section.address if section else address
        start = self._named_below(address, low)
        return None if start is None else (start, address + 1)

    def _named_below(self, address: int, low: int) -> int | None:
        """Return the last address up to this one that code or data names."""
        at = bisect_left(self._slots, (address + 1, 0))
        pointed = self._slots[at - 1][0] if at else -1
        start = max(low, pointed)
        step = 64
        top = address + 1
        while top > start:
            bottom = max(start, top - step)
            named = [reference.target for reference in self.references(bottom, top)]
            if named:
                return max(named)
            top, step = bottom, step * 4
        return pointed if pointed >= low else None

    # --- symbols

    @cached_property
    def symbols(self) -> dict[int, list[Symbol]]:
        """The symbols by address."""
        found: dict[int, list[Symbol]] = {}
        for symbol in self.image.symbols:
            found.setdefault(symbol.address, []).append(symbol)
        return found

    def describe(self, address: int) -> str:
        """Return what people call what is at an address."""
        external = self.image.externals.get(address // EXTERNAL * EXTERNAL)
        if external:
            return external
        sized = self.sized_object_at(address)
        name = self.image.name_of(sized[0] if sized else address)
        section = self.image.section_at(address)
        return name or (f"{section.name}+{address - section.address:#x}" if section else f"{address:#x}")
