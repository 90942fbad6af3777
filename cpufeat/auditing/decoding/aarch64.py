"""The code of AArch64 images. Every instruction is a word of 32 bits, so no decoder is needed to go through them.

Capstone only writes the few that are shown.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from functools import cache

from cpufeat.auditing.decoding.opcodes import Meaning, Places
from cpufeat.auditing.decoding.opcodes_aarch64 import NO_CODE, meaning
from cpufeat.auditing.decoding.regions import Stretch, between_functions, content_of, in_functions, limited, place
from cpufeat.auditing.decoding.scan import EXAMPLES, Body, Meter, Scan, Undecoded
from cpufeat.auditing.formats.image import Function
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cpufeat.auditing.decoding.regions import Range
    from cpufeat.auditing.decoding.scan import Progress
    from cpufeat.auditing.formats.image import Image

_WORD = 4
_CALL, _CALL_BITS = 0x94000000, 0xFC000000
_PADDING = frozenset({0x00000000, 0xD503201F, 0xD4200020, 0xD43E0000})
"""Zeros, ``nop``, ``brk #1``, ``brk #0xf000`` (Windows)."""
_NOT_CODE = "no instruction that is known"


def scan(image: Image, progress: Progress | None = None) -> Scan:
    """Go through the code of an AArch64 image."""
    return _Scanner(image, Meter(image, progress)).scan()


def instruction_text(image: Image, address: int) -> str:
    """Return the instruction at an address as assembly, as ``.inst`` one that capstone does not know."""
    word = image.bytes_at(address, _WORD)
    found = next(_capstone().disasm_lite(word, address), None)
    return f"{found[2]} {found[3]}".strip() if found else f".inst {int.from_bytes(word, 'little'):#010x}"


@cache
def _capstone() -> Any:
    import capstone

    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)


class _Scanner:
    """The scan of one image."""

    def __init__(self, image: Image, meter: Meter) -> None:
        self.image, self.meter = image, meter
        self.dull: set[int] = set()
        """Words that need no second look."""
        self.meanings: dict[int, Meaning] = {}
        """Those that do."""
        self.seen: Counter[str] = Counter()
        """In how many functions harmless mnemonics were found."""
        self.bodies: list[Body] = []
        self.undecoded: list[Undecoded] = []
        self.instructions = 0

    def scan(self) -> Scan:
        for stretch in in_functions(self.image):
            self._look(stretch, ())
        between = list(limited(between_functions(self.image)))
        starts = self._starts(between)
        for one in between:
            within = starts[bisect_left(starts, one[0]) : bisect_left(starts, one[1])]
            self._look(Stretch(Function(*one, ""), [one]), within)
        self.meter.finish()
        self.undecoded.sort()
        return Scan(tuple(sorted(self.bodies, key=_start)), tuple(self.undecoded), self.instructions)

    def _starts(self, ranges: Sequence[Range]) -> list[int]:
        """Return where in those ranges functions seem to begin: symbols, pointers, and what calls there lead to."""
        found = {symbol.address for symbol in self.image.symbols} | {*self.image.pointers.values()}
        for start, words in (self._words(one) for one in ranges):
            for index, word in enumerate(words):
                if word & _CALL_BITS == _CALL:
                    distance = (word & 0x3FFFFFF) - (word << 1 & 0x4000000)
                    found.add(start + _WORD * (index + distance))
        firsts = [start for start, _ in ranges]
        return sorted(one for one in found if (at := bisect_right(firsts, one)) and one < ranges[at - 1][1])

    def _words(self, one: Range) -> tuple[int, array[int]]:
        """Return the first address in a range that an instruction can have, and the words from there on."""
        start = -(-one[0] // _WORD) * _WORD
        content = content_of(self.image, start, one[1])
        words = array("I", content[: len(content) // _WORD * _WORD])
        if sys.byteorder == "big":
            words.byteswap()
        return start, words

    def _look(self, stretch: Stretch, starts: Sequence[int]) -> None:
        """Find what matters in a stretch; ``starts``: where functions begin in one without a name."""
        parts = [self._words(one) for one in stretch.ranges]
        matters = False
        for _, words in parts:
            self.instructions += len(words)
            matters |= self._matters(set(words))
        self.meter.add(stretch.function.end - stretch.function.start)
        if not matters:
            return
        places, no_code = Places(), False
        for start, words in parts:
            no_code |= self._find(start, words, places)
        for function, found in places.by_function(stretch.function, starts):
            self.bodies.append(Body(function, found.uses, found.harmless, found.others, certain=not no_code))
        self.seen.update(list(places.harmless))
        self.dull.update(word for word, one in self.meanings.items() if self.seen[one.harmless] >= EXAMPLES)

    def _matters(self, words: set[int]) -> bool:
        words -= self.dull
        for word in words - self.meanings.keys():
            known = meaning(word)
            if known is None or word in _PADDING:
                self.dull.add(word)
            else:
                self.meanings[word] = known
        return not words <= self.dull

    def _find(self, start: int, words: array[int], places: Places) -> bool:
        """Add what matters, and what is no code; return whether there is any of that."""
        first = None
        found = False
        for index, word in enumerate([*words, *_PADDING][: len(words) + 1]):
            known = None if word in self.dull else self.meanings.get(word)
            if known is NO_CODE:
                found = True
                first = index if first is None else first
                continue
            if first is not None:
                address, size = start + _WORD * first, _WORD * (index - first)
                self.undecoded.append(Undecoded(address, size, place(self.image, address), _NOT_CODE))
                first = None
            if known is not None:
                places.add(known, start + _WORD * index)
        return found


def _start(body: Body) -> int:
    return body.function.start
