"""Find the function at an address, and lift its instructions to steps when an analysis asks."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from functools import cache, lru_cache

from cpufeat.auditing.formats.image import Function
from cpufeat.auditing.program.entry_points import EntryPoints
from cpufeat.auditing.program.symbols import Symbols
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cpufeat.auditing.formats.image import Image, Section
    from cpufeat.auditing.lifting.semantics import Convention, Lifter, Step

_LARGEST_FUNCTION = 1 << 18
"""Bytes: larger stretches are code whose functions are not known, and are not lifted."""
_LONGEST_STUB = 24
"""Bytes."""
_LONGEST_INSTRUCTION = 15
"""Bytes."""
_STUBS = (".plt", "__stubs")
"""Sections of stubs: pieces of code of one size, each of which jumps through a pointer."""


class Program:
    """The code of an image, lifted function by function when an analysis needs it."""

    def __init__(self, image: Image, lifter: Lifter, functions: Iterable[Function] = ()) -> None:
        """Take the functions of an image, and ``functions`` that are known besides."""
        self.image: Image = image
        self._lifter = lifter
        self._functions = sorted({*image.functions, *functions})
        self._starts = [function.start for function in self._functions]
        self.convention: Convention = lifter.CONVENTION
        self.symbols: Symbols = Symbols(image)
        self.entry_points: EntryPoints = EntryPoints(image)
        self.low: int = min((section.address for section in image.sections), default=0)
        """The lowest address."""
        ends = [section.end for section in image.sections]
        outside = [address + image.spacing for address in (*image.externals, *image.pointers)]
        self.high: int = max([*ends, *outside], default=0)
        """The address after the highest."""
        self.steps: Callable[[Function], list[Step]] = lru_cache(64)(self._steps)
        self.constant_addresses: Callable[[Function], tuple[array[int], array[int]]] = cache(self._constant_addresses)
        self.resolve: Callable[[int], int] = cache(self._resolve)

    def function_at(self, address: int) -> Function | None:
        """Return the function, stub or gap between functions at an address; None outside of the code."""
        after = bisect_right(self._starts, address)
        function = self._functions[after - 1] if after else None
        if function and function.name and address < function.end:
            return function
        section = self.image.section_at(address)
        if section is None or not section.executable:
            return None
        if section.name.startswith(_STUBS):
            offset, size = self._lifter.stub_at(bytes(section.content), address - section.address)
            start = section.address + offset
            return Function(start, min(section.end, start + size), "")
        if function and address < function.end:
            return function
        start = max(section.address, function.end if function else 0)
        return Function(start, min([section.end, *self._starts[after : after + 1]]), "")

    def bytes_of(self, function: Function) -> bytes:
        """Return the bytes of a function, as far as the file has them."""
        return self.image.bytes_at(function.start, function.end - function.start)

    def _steps(self, function: Function) -> list[Step]:
        """Return the steps of a function, by address; none of one that is too large."""
        return list(self.steps_from(function, function.start))

    def steps_from(self, function: Function, address: int) -> Iterator[Step]:
        """Yield the steps of a function from an address in it to its end; none of one that is too large."""
        if function.end - function.start <= _LARGEST_FUNCTION:
            code = self.image.bytes_at(address, function.end - address)
            yield from self._lifter.steps(code, address, self.may_hold_address)

    def _constant_addresses(self, function: Function) -> tuple[array[int], array[int]]:
        """Return the addresses of a function's instructions that name an address, and the addresses that they name."""
        code = self.bytes_of(function)
        named = self._lifter.constant_addresses(code, function.start, self.may_hold_address)
        pairs = [(site, target) for site, target in named if not self.is_number(site, target, function)]
        return array("Q", [site for site, _ in pairs]), array("Q", [target for _, target in pairs])

    def is_number(self, site: int, target: int, function: Function) -> bool:
        """Tell whether an instruction only holds a number that equals an address amid another function.

        That is no way into it: there, only branches and distances lead, which do not hold the address itself.
        """
        if not self.image.is_fixed:
            return False
        holder = self.image.function_at(target)
        if holder is None or holder.start in (target, function.start) or self.symbols.at(target):
            return False
        return target.to_bytes(8, "little")[:4] in self.image.bytes_at(site, _LONGEST_INSTRUCTION)

    def may_hold_address(self, start: int, end: int) -> bool:
        """Tell whether an immediate operand of the instruction from start to end may be an address."""
        return self.image.is_fixed or not self.image.narrow.isdisjoint(range(start, end))

    def executable_sections(self) -> Iterator[Section]:
        """Yield the sections with code."""
        return (section for section in self.image.sections if section.executable)

    def probing_functions(self) -> Iterator[Function]:
        """Yield the functions with an instruction that asks the CPU what it is."""
        pattern = re.compile(self._lifter.PROBES, re.DOTALL)
        candidates = (
            self.function_at(section.address + match.start())
            for section in self.executable_sections()
            for match in pattern.finditer(section.content)
        )
        for function in dict.fromkeys(candidates):
            if function and self._lifter.probes(self.bytes_of(function), function.start):
                yield function

    def is_resolver(self, address: int) -> bool:
        """Tell whether the loader calls the function at an address to choose another (ELF's ``ifunc``)."""
        return address in self.image.resolvers

    def _resolve(self, target: int) -> int:
        """Return the function that a call reaches: through a PLT entry or other stub, the one its pointer holds."""
        code = self.image.bytes_at(target, _LONGEST_STUB)
        pointer = self._lifter.stub_pointer(code, target) if code else None
        return target if pointer is None else self.image.pointers.get(pointer, target)
