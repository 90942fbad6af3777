"""Find all references to an address: in code, by the architecture's finder (:mod:`.xrefs`), and in data."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from functools import cached_property
from typing import NamedTuple

from cpufeat.auditing.program.xrefs import Reference
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cpufeat.auditing.formats.image import Function, Section
    from cpufeat.auditing.lifting.semantics import Lifter, Step
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.xrefs import XrefFinder

_POINTER = 8
"""Bytes."""
_FIRST_WINDOW = 64
"""Bytes below an address that are searched first for the start of its object."""
_OFFSET_TABLES = (".got", "__got", "__auth_got")
"""Sections of pointers each of which is used by itself."""
_UNWINDING = (".eh_frame", ".gcc_except_table", ".ARM.", ".pdata", ".xdata", "__eh_frame", "__compact_unwind", ".debug")
"""Sections of unwind tables and debug information: no code is called through their pointers."""


class Architecture(NamedTuple):
    """An architecture whose code is lifted and followed."""

    lifter: Lifter
    xref_finder: Callable[[Program], XrefFinder]


def architecture(arch: str) -> Architecture | None:
    """Return the lifter and cross-reference finder of an architecture, None for one whose code is not followed."""
    if arch == "x86_64":
        from cpufeat.auditing.lifting import x86
        from cpufeat.auditing.program.xrefs_x86 import DisplacementXrefs

        return Architecture(x86, DisplacementXrefs)
    if arch == "aarch64":
        from cpufeat.auditing.lifting import aarch64
        from cpufeat.auditing.program.xrefs_aarch64 import PageXrefs

        return Architecture(aarch64, PageXrefs)
    return None


class References:
    """The references to the addresses of one program."""

    def __init__(self, program: Program, finder: XrefFinder) -> None:
        """Search a program, with the finder of its architecture."""
        self._program, self._finder = program, finder
        self._pointers = _Pointers(program)
        self._entries: dict[int, tuple[int, ...]] = {}

    def xrefs_to(self, low: int, high: int, but: Function | None = None) -> list[Reference]:
        """Return the instructions that name an address from ``low`` to before ``high``, by address.

        A call that may throw an exception names the landing pad, if that is in another function. The instructions of
        the function ``but`` are left out.
        """
        return sorted({*self._finder.xrefs_to(low, high, but), *self._thrown_to(low, high, but)})

    def _thrown_to(self, low: int, high: int, but: Function | None) -> Iterator[Reference]:
        pads = self._program.image.landing_pads
        for pad, call in pads[bisect_left(pads, (low,)) : bisect_left(pads, (high,))]:
            function = self._program.function_at(call)
            if function and function != but:
                yield Reference(call, function, pad)

    def pointers_to(self, low: int, high: int) -> list[int]:
        """Return the places of the pointers to an address from ``low`` to before ``high``, by target."""
        return [place for _, place in self._pointers.between(low, high)]

    def entries(self, function: Function) -> tuple[int, ...]:
        """Return the addresses at which code elsewhere, in the file or outside, enters a function, its start first."""
        if function.start not in self._entries:
            xrefs = self.xrefs_to(function.start + 1, function.end, but=function)
            inner = {reference.target for reference in xrefs}
            inner |= {address for address, _ in self._program.entry_points.between(function.start + 1, function.end)}
            self._entries[function.start] = (function.start, *sorted(inner))
        return self._entries[function.start]

    def switch_targets(self, function: Function) -> Callable[[Step], Collection[int]]:
        """Return a function from the indirect jumps of a function to the addresses in it that they may lead to."""
        pointed = {target for target, _ in self._pointers.between(function.start + 1, function.end)}
        return self._finder.switch_targets(function, pointed)

    def users(self, low: int, high: int) -> Iterator[Function]:
        """Yield the functions with a use of an address, some perhaps several times."""
        return (use.function for use in self.uses(low, high))

    def uses(self, low: int, high: int) -> Iterator[Reference]:
        """Yield the instructions that name an address from ``low`` to before ``high``, some perhaps several times.

        They may name a pointer to it (a GOT entry) instead, or a stub that jumps through such a pointer.
        """
        yield from self.xrefs_to(low, high)
        for pointer in self.pointers_to(low, high):
            for reference in self.xrefs_to(pointer, pointer + 1):
                yield reference
                for call in self.xrefs_to(reference.site - self._finder.STUB_LEAD, reference.site + 1):
                    if self._program.resolve(call.target) == low:  # a stub: its callers are meant
                        yield call

    def is_unwinding(self, section: Section) -> bool:
        """Tell whether a section has unwind tables or debug information: no code is called through these."""
        return section.name.startswith(_UNWINDING)

    def makes_parts_of(self, address: int) -> bool:
        """Tell whether an instruction makes a part of an address, which another may complete elsewhere."""
        return self._finder.makes_parts_of(address)

    def is_unused_slot(self, pointer: int) -> bool:
        """Tell whether a pointer is in a global offset table, where no code names it.

        Linkers leave slots behind whose uses they have replaced by the address itself.
        """
        section = self._program.image.section_at(pointer)
        in_table = section is not None and section.name.startswith(_OFFSET_TABLES)
        return in_table and not self.xrefs_to(pointer, pointer + _POINTER)

    def object_at(self, address: int) -> tuple[int, int] | None:
        """Return the start and end of the object of data that an address belongs to, None where nothing tells.

        A symbol gives both; without one it begins at the last address up to this one that code or data names, after
        what symbols say of objects before it, and ends after this one.
        """
        sized = self._program.symbols.object_at(address)
        if sized:
            return sized
        section = self._program.image.section_at(address)
        if section and section.name.startswith(_OFFSET_TABLES):
            return address, address + _POINTER
        low = max(section.address if section else address, self._program.symbols.last_object_end(address))
        start = self._last_named(low, address)
        return None if start is None else (start, address + 1)

    def _last_named(self, low: int, address: int) -> int | None:
        """Return the last address from ``low`` up to this one that code or data names."""
        pointed = self._pointers.last_target(address)
        start = max(low, pointed)
        size, top = _FIRST_WINDOW, address + 1
        while top > start:
            bottom = max(start, top - size)
            named = [reference.target for reference in self.xrefs_to(bottom, top)]
            if named:
                return max(named)
            top, size = bottom, size * 4
        return pointed if pointed >= low else None


class _Pointers:
    """The pointers in the data of a program, by target."""

    def __init__(self, program: Program) -> None:
        self._program = program

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """Target and place of each pointer."""
        pairs = {(target, place) for place, target in self._program.image.pointers.items()}
        if self._program.image.is_fixed:
            pairs.update(self._unrelocated())
        return sorted(pairs)

    def _unrelocated(self) -> Iterator[tuple[int, int]]:
        """Yield the words of data that may be pointers, in a file that needs no relocations."""
        low, high = self._program.low, self._program.high
        for section in self._program.image.sections:
            if not section.executable:
                words = array("Q", bytes(section.content[: len(section.content) // _POINTER * _POINTER]))
                pairs = ((word, section.address + _POINTER * index) for index, word in enumerate(words))
                yield from (pair for pair in pairs if low <= pair[0] < high)

    def between(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return target and place of the pointers to an address from ``low`` to before ``high``."""
        start, end = bisect_left(self._pairs, (low, 0)), bisect_left(self._pairs, (high, 0))
        return [(target, place) for target, place in self._pairs[start:end] if not self._unwinds(place)]

    def last_target(self, address: int) -> int:
        """Return the last address up to this one that a pointer leads to, -1 if there is none."""
        at = bisect_left(self._pairs, (address + 1, 0))
        return self._pairs[at - 1][0] if at else -1

    def _unwinds(self, place: int) -> bool:
        section = self._program.image.section_at(place)
        return section is not None and section.name.startswith(_UNWINDING)
