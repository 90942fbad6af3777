"""The code of one image as the flow analyses ask for it: its steps, and what refers to an address."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

from cpufeat.auditing.formats.image import Function
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from cpufeat.auditing.dataflow.xrefs import Naming, Reference
    from cpufeat.auditing.formats.image import Image, Section, Symbol
    from cpufeat.auditing.lifting.semantics import Decoder, Step

_FIRST_FIXED = 0x10000
"""Below the addresses of a file that can only be loaded where it says: position-independent ones begin at 0."""
_LARGEST_FUNCTION = 1 << 18
"""Bytes: what is larger is code whose functions nobody knows, and is not followed."""
_LONGEST_STUB = 24
"""Bytes."""
_STUBS = (".plt", "__stubs")
"""Sections of code, all of one size, that jumps through a pointer each."""
_UNWINDING = (".eh_frame", ".gcc_except_table", ".ARM.", ".pdata", ".xdata", "__eh_frame", "__compact_unwind", ".debug")
"""Sections whose pointers nobody calls."""


class Understood(NamedTuple):
    """An architecture whose code is followed."""

    decoder: Decoder
    naming: Callable[[Code], Naming]


def understood(arch: str) -> Understood | None:
    """Return how the code of an architecture is followed, None if it is not."""
    if arch == "x86_64":
        from cpufeat.auditing.dataflow.xrefs_x86 import Displacements
        from cpufeat.auditing.lifting import x86

        return Understood(x86, Displacements)
    if arch == "aarch64":
        from cpufeat.auditing.dataflow.xrefs_aarch64 import Pages
        from cpufeat.auditing.lifting import aarch64

        return Understood(aarch64, Pages)
    return None


class Code:
    """The code of an image, decoded as far as it is asked for."""

    def __init__(self, image: Image, how: Understood, functions: Iterable[Function] = ()) -> None:
        """Look at an image; ``functions``: more than those that it knows."""
        self.image, self._decoder = image, how.decoder
        self._functions = sorted({*image.functions, *functions})
        self._starts = [function.start for function in self._functions]
        self.convention = self._decoder.CONVENTION
        first = min((one.address for one in image.sections), default=0)
        self.fixed = image.kind == "executable" and first >= _FIRST_FIXED
        self.low = min((one.address for one in image.sections), default=0)
        ends = [one.end for one in image.sections]
        self.high = max(
            [*ends, *[address + image.spacing for address in (*image.externals, *image.pointers)]], default=0
        )
        self._naming = how.naming(self)
        self.lead = self._naming.LEAD
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
            offset, size = self._decoder.stub_at(bytes(section.content), address - section.address)
            start = section.address + offset
            return Function(start, min(section.end, start + size), "")
        if function and address < function.end:
            return function
        start = max(section.address, function.end if function else 0)
        return Function(start, min([section.end, *self._starts[after : after + 1]]), "")

    def bytes_of(self, function: Function) -> bytes:
        """Return what the file has of a function."""
        return self.image.bytes_at(function.start, function.end - function.start)

    def _steps(self, function: Function) -> list[Step]:
        too_large = function.end - function.start > _LARGEST_FUNCTION
        return [] if too_large else self._decoder.steps(self.bytes_of(function), function.start, self.may_hold)

    def probes(self) -> Iterator[Function]:
        """Yield the functions that ask the CPU what it is."""
        pattern = re.compile(self._decoder.PROBES, re.DOTALL)
        found = (
            self.function_at(section.address + match.start())
            for section in self.executable()
            for match in pattern.finditer(section.content)
        )
        for function in dict.fromkeys(found):
            if function and self._decoder.probes(self.bytes_of(function), function.start):
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
        pointed = {target for target, _ in self._slots_between(function.start + 1, function.end)}
        return self._naming.switch(function, pointed)

    def is_resolver(self, address: int) -> bool:
        """Whether the loader calls a function to choose another (ELF's ``ifunc``)."""
        return address in self.image.resolvers

    def may_hold(self, start: int, end: int) -> bool:
        """Tell whether a number in the bytes of an instruction may be an address."""
        return self.fixed or not self.image.narrow.isdisjoint(range(start, end))

    def _settled(self, function: Function) -> tuple[array[int], array[int]]:
        """Return the addresses of a function's instructions that have an address in them, and those addresses."""
        pairs = list(self._decoder.settled(self.bytes_of(function), function.start, self.may_hold))
        return array("Q", [site for site, _ in pairs]), array("Q", [target for _, target in pairs])

    def resolve(self, target: int) -> int:
        """Return where a call leads in the end: through a PLT entry or another stub to what its pointer holds."""
        code = self.image.bytes_at(target, _LONGEST_STUB)
        slot = self._decoder.stub(code, target) if code else None
        return self.image.pointers.get(slot, target) if slot is not None else target

    # --- references

    def references(self, low: int, high: int) -> list[Reference]:
        """Return the places in the code that name an address from ``low`` to before ``high``."""
        return sorted(set(self._naming.references(low, high)))

    def executable(self) -> Iterator[Section]:
        """Yield the sections with code."""
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
                yield from (pair for pair in pairs if self.low <= pair[0] < self.high)

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
        external = self.image.externals.get(address - address % self.image.spacing)
        if external:
            return external
        sized = self.sized_object_at(address)
        name = self.image.name_of(sized[0] if sized else address)
        section = self.image.section_at(address)
        return name or (f"{section.name}+{address - section.address:#x}" if section else f"{address:#x}")
