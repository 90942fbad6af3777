"""Find cross-references in AArch64 code.

Branches, ADR and loads of literals hold the whole distance in one word. Any other address takes two instructions: ADRP
gives the page, and a later one adds the offset in it. So for the pages that matter, the functions with an ADRP of that
page are followed, each once.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from functools import cache, cached_property

from cpufeat.auditing.lifting.aarch64_constants import words_of
from cpufeat.auditing.lifting.aarch64_decoder import PAGE, WORD, lift_word
from cpufeat.auditing.lifting.aarch64_jump_tables import jump_tables
from cpufeat.auditing.program.xrefs import Reference
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Step
    from cpufeat.auditing.program.functions import Program

_BRANCHES = re.compile(rb"[\x14-\x17\x94-\x97]")
"""The last bytes of B and BL."""
_OTHERS = re.compile(rb"[\x54\x34-\x37\xb4-\xb7\x74\x75\xf4\xf5\x10\x30\x50\x70\x18\x1c\x58\x5c\x98\x9c]")
"""The top bytes of conditional branches, ADR, and loads of literals."""
_PAGES = re.compile(rb"[\x90\xb0\xd0\xf0]")
"""The top bytes of ADRP."""

_REACH = 8
"""Pages of the largest table of pointers of which only the first is named (GCC's ``-fpic``)."""


class PageXrefs:
    """An index of the distances in the code of a program, and of the pages that it names."""

    STUB_LEAD = 12

    def __init__(self, program: Program) -> None:
        """Index the code of a program when it is first searched."""
        self._program, self._low = program, program.low
        self._extent = program.high - program.low
        self._on_page = cache(self._find_on_page)
        self._tables = cache(self._find_tables)
        self._followed: set[Function] = set()
        self._xrefs: dict[int, list[tuple[int, Reference]]] = {}
        """The targets on each page that the functions followed so far name, with the reference."""

    def xrefs_to(self, low: int, high: int, but: Function | None = None) -> Iterator[Reference]:
        """Yield the instructions that name an address from ``low`` to before ``high``; some perhaps twice.

        Those of the function ``but`` are left out.
        """
        start = bisect_left(self._direct, max(low - self._low, 0) << 32)
        end = bisect_left(self._direct, max(high - self._low, 0) << 32)
        for entry in self._direct[start:end]:
            site = self._low + (entry & 0xFFFFFFFF)
            function = self._program.function_at(site)
            if function and function != but:
                yield Reference(site, function, self._low + (entry >> 32))
        first, last = bisect_left(self._reachable, low // PAGE), bisect_right(self._reachable, (high - 1) // PAGE)
        for page in self._reachable[first:last]:
            named = self._on_page(page)
            for _, reference in named[bisect_left(named, (low,)) : bisect_left(named, (high,))]:
                if reference.function != but:
                    yield reference

    def makes_parts_of(self, address: int) -> bool:
        """Tell whether an ADRP makes the page of an address, to which an instruction elsewhere may add the rest."""
        return address // PAGE in self._adrps

    def switch_targets(self, function: Function, pointed: Collection[int]) -> Callable[[Step], Collection[int]]:
        """Return a function from indirect jumps to where they may lead: what its table holds, or else pointers."""
        by_table = self._tables(function)
        by_pointer = frozenset(pointed)
        return lambda step: by_table.get(step.address, by_pointer)

    def _find_tables(self, function: Function) -> dict[int, frozenset[int]]:
        """Return where the jump tables of a function lead, by the address of the jump."""
        image = self._program.image
        return {
            place: frozenset(table.targets(image.bytes_at(table.address, table.length * table.width)))
            for place, table in jump_tables(self._program.bytes_of(function), function.start).items()
        }

    def _find_on_page(self, page: int) -> list[tuple[int, Reference]]:
        """Return the targets on a page and what names them, by target."""
        for place in (place for source in self._source_pages(page) for place in self._adrps.get(source, ())):
            function = self._program.function_at(place)
            if function and function not in self._followed:
                self._followed.add(function)
                for site, target in zip(*self._program.constant_addresses(function), strict=True):
                    self._xrefs.setdefault(target // PAGE, []).append((target, Reference(site, function, target)))
        return sorted(self._xrefs.get(page, ()))

    def _source_pages(self, page: int) -> set[int]:
        """Return the pages from which code makes addresses on a page: it, the one before, and that of its table."""
        section = self._program.image.section_at(page * PAGE)
        table = section.address // PAGE if section else page - page % _REACH
        return {page - 1, page, table} if page - table <= _REACH else {page - 1, page}

    @cached_property
    def _direct(self) -> array[int]:
        """Target and place of all words that hold a distance, from the lowest address on, in 32 bits each."""
        if self._extent >> 32:
            return array("Q")
        entries: list[int] = []
        for section in self._program.executable_sections():
            base, words, tops = self._words(section.address, section.content)
            for match in _BRANCHES.finditer(tops):
                index = match.start()
                distance = words[index] & 0x3FFFFFF
                place = base + WORD * index
                target = place + WORD * (distance - (distance << 1 & 0x4000000))
                if 0 <= target < self._extent:
                    entries.append(target << 32 | place)
            for match in _OTHERS.finditer(tops):
                place = base + WORD * match.start()
                (step,) = lift_word(words[match.start()], self._low + place)
                named = step.target if step.target is not None else step.constant
                target = (step.memory[0].displacement if named is None and step.memory else named or 0) - self._low
                if 0 <= target < self._extent:
                    entries.append(target << 32 | place)
        entries.sort()
        return array("Q", entries)

    @cached_property
    def _adrps(self) -> dict[int, array[int]]:
        """The places of the ADRPs of each page, by its number."""
        places: dict[int, array[int]] = {}
        for section in self._program.executable_sections():
            base, words, tops = self._words(section.address, section.content)
            for match in _PAGES.finditer(tops):
                word, place = words[match.start()], self._low + base + WORD * match.start()
                distance = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
                page = place // PAGE + distance - (distance << 1 & 0x200000)
                places.setdefault(page, array("Q")).append(place)
        return places

    @cached_property
    def _reachable(self) -> list[int]:
        """The pages on which addresses made from an ADRP may lie."""
        return sorted({page + ahead for page in self._adrps for ahead in range(_REACH + 1)})

    def _words(self, address: int, content: memoryview) -> tuple[int, array[int], bytes]:
        """Return the offset of a section's first word from the lowest address, its words, and the last byte of each."""
        start = -address % WORD
        words = words_of(bytes(content[start:]))
        return address + start - self._low, words, bytes(content[start:])[WORD - 1 :: WORD][: len(words)]
