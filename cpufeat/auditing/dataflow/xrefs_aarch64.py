"""What AArch64 code names.

Branches, ADR and loads of literals have the whole distance in one word. Other addresses are made of two: ADRP has that
of a page, and what is done with its register later completes it. So where a page matters, the functions with an ADRP of
it are followed, each once.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from functools import cache, cached_property

from cpufeat.auditing.dataflow.xrefs import Reference
from cpufeat.auditing.lifting.aarch64 import jumps, words_of
from cpufeat.auditing.lifting.aarch64_decoder import PAGE, WORD, decoded
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cpufeat.auditing.dataflow.program import Code
    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Step

_BRANCHES = re.compile(rb"[\x14-\x17\x94-\x97]")
"""The last bytes of B and BL."""
_OTHERS = re.compile(rb"[\x54\x34-\x37\xb4-\xb7\x74\x75\xf4\xf5\x10\x30\x50\x70\x18\x1c\x58\x5c\x98\x9c]")
"""Those of conditional branches, ADR, and loads of literals."""
_PAGES = re.compile(rb"[\x90\xb0\xd0\xf0]")
"""Those of ADRP."""

_REACH = 8
"""Pages of the largest table of pointers of which only the first is named (GCC's ``-fpic``)."""


class Pages:
    """The distances in the code of an image, and the pages."""

    LEAD = 12

    def __init__(self, code: Code) -> None:
        """Look at some code."""
        self._code, self._low = code, code.low
        self._reach = code.high - code.low
        self._on = cache(self._named_on)
        self._followed: set[Function] = set()
        self._named: dict[int, list[tuple[int, Reference]]] = {}
        """What the functions that were followed name, by page."""

    def references(self, low: int, high: int) -> Iterator[Reference]:
        """Yield the places in the code that name an address from ``low`` to before ``high``."""
        start = bisect_left(self._direct, max(low - self._low, 0) << 32)
        end = bisect_left(self._direct, max(high - self._low, 0) << 32)
        for entry in self._direct[start:end]:
            site = self._low + (entry & 0xFFFFFFFF)
            function = self._code.function_at(site)
            if function:
                yield Reference(site, function, self._low + (entry >> 32))
        first, last = bisect_left(self._reached, low // PAGE), bisect_right(self._reached, (high - 1) // PAGE)
        for page in self._reached[first:last]:
            named = self._on(page)
            yield from (one[1] for one in named[bisect_left(named, (low,)) : bisect_left(named, (high,))])

    def switch(self, function: Function, pointed: Collection[int]) -> Callable[[Step], Collection[int]]:
        """Return what gives the places that an indirect jump may lead to; ``pointed``: where pointers do."""
        image = self._code.image
        found = {
            place: frozenset(jump.targets(image.bytes_at(jump.table, jump.length * jump.width)))
            for place, jump in jumps(self._code.bytes_of(function), function.start).items()
        }
        others = frozenset(pointed)
        return lambda step: found.get(step.address, others)

    def _named_on(self, page: int) -> list[tuple[int, Reference]]:
        """Return what names an address on a page, by address."""
        for place in (place for one in self._sources(page) for place in self._pages.get(one, ())):
            function = self._code.function_at(place)
            if function and function not in self._followed:
                self._followed.add(function)
                for site, target in zip(*self._code.settled(function), strict=True):
                    self._named.setdefault(target // PAGE, []).append((target, Reference(site, function, target)))
        return sorted(self._named.get(page, ()))

    def _sources(self, page: int) -> set[int]:
        """Return the pages of which addresses on a page are made: its own, that before, and where its table begins."""
        section = self._code.image.section_at(page * PAGE)
        table = section.address // PAGE if section else page - page % _REACH
        return {page - 1, page, table} if page - table <= _REACH else {page - 1, page}

    @cached_property
    def _direct(self) -> array[int]:
        """Target and place of all words that have a distance."""
        if self._reach >> 32:
            return array("Q")
        found: list[int] = []
        for section in self._code.executable():
            base, words, tops = self._words(section.address, section.content)
            for match in _BRANCHES.finditer(tops):
                index = match.start()
                distance = words[index] & 0x3FFFFFF
                place = base + WORD * index
                target = place + WORD * (distance - (distance << 1 & 0x4000000))
                if 0 <= target < self._reach:
                    found.append(target << 32 | place)
            for match in _OTHERS.finditer(tops):
                place = base + WORD * match.start()
                (step,) = decoded(words[match.start()], self._low + place)
                named = step.target if step.target is not None else step.constant
                target = (step.memory[0].displacement if named is None and step.memory else named or 0) - self._low
                if 0 <= target < self._reach:
                    found.append(target << 32 | place)
        found.sort()
        return array("Q", found)

    @cached_property
    def _pages(self) -> dict[int, array[int]]:
        """Where the code has an ADRP of a page, by its number."""
        found: dict[int, array[int]] = {}
        for section in self._code.executable():
            base, words, tops = self._words(section.address, section.content)
            for match in _PAGES.finditer(tops):
                word, place = words[match.start()], self._low + base + WORD * match.start()
                distance = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
                page = place // PAGE + distance - (distance << 1 & 0x200000)
                found.setdefault(page, array("Q")).append(place)
        return found

    @cached_property
    def _reached(self) -> list[int]:
        """The pages that what is made of an ADRP may lie on."""
        return sorted({one for page in self._pages for one in range(page, page + _REACH + 1)})

    def _words(self, address: int, content: memoryview) -> tuple[int, array[int], bytes]:
        """Return where a section's first word lies, from the lowest address on, its words, and their last bytes."""
        start = -address % WORD
        words = words_of(bytes(content[start:]))
        return address + start - self._low, words, bytes(content[start:])[WORD - 1 :: WORD][: len(words)]
