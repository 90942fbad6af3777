"""Scan AArch64 code for required features: match masks on the 32-bit instruction words, without a decoder.

Capstone only disassembles the few that a report quotes.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from functools import cache, cached_property

from cpufeat.auditing.decoding import opcodes_aarch64
from cpufeat.auditing.decoding.code_discovery import Decoded, MixedRange, discover
from cpufeat.auditing.decoding.regions import Region, between_functions, in_functions, limited, sure_entries
from cpufeat.auditing.decoding.requirements import NO_INSTRUCTION, Uses
from cpufeat.auditing.decoding.scan import Scanner, UnknownCode
from cpufeat.auditing.formats.image import Function
from cpufeat.auditing.lifting.aarch64_decoder import lift_word
from cpufeat.auditing.lifting.aarch64_jump_tables import jump_tables
from cpufeat.auditing.lifting.semantics import NEXT
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cpufeat.auditing.decoding.regions import Range
    from cpufeat.auditing.decoding.requirements import Requirement
    from cpufeat.auditing.decoding.scan import Progress, Scan
    from cpufeat.auditing.formats.image import Image

_WORD = 4
_CALL, _CALL_BITS = 0x94000000, 0xFC000000
_PADDING = frozenset({0x00000000, 0xD503201F, 0xD4200020, 0xD43E0000})
"""Zeros, ``nop``, ``brk #1``, ``brk #0xf000`` (Windows)."""
_NOT_CODE = "no instruction that is known"


def scan(image: Image, progress: Progress | None = None) -> Scan:
    """Scan the code of an AArch64 image."""
    return _Scanner(image, progress).scan()


def instruction_text(image: Image, address: int) -> str:
    """Return the instruction at an address as assembly, as ``.inst`` if capstone does not know it."""
    word = image.bytes_at(address, _WORD)
    decoded = next(_capstone().disasm_lite(word, address), None)
    return f"{decoded[2]} {decoded[3]}".strip() if decoded else f".inst {int.from_bytes(word, 'little'):#010x}"


def _least(word: int) -> str:
    """Return the least feature that an unknown word needs, empty if its encoding does not tell.

    Source: Arm ARM (DDI 0487) C4.1, the encoding spaces of SVE and SME.
    """
    return "sve" if word >> 25 & 0xF == 2 else "sme" if word >> 31 and not word >> 25 & 0xF else ""


@cache
def _capstone() -> Any:
    with extra("audit"):
        import capstone

    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)


class _Scanner(Scanner):
    """The scan of one image. An opcode is a whole instruction word."""

    def look_up(self, opcode: int) -> Requirement | None:
        return None if opcode in _PADDING else opcodes_aarch64.requirement(opcode)

    def scan(self) -> Scan:
        for region in in_functions(self.image):
            self._scan_region(region, ())
        gaps = list(limited(between_functions(self.image)))
        starts = self._function_starts(gaps)
        for gap in gaps:
            inside = starts[bisect_left(starts, gap[0]) : bisect_left(starts, gap[1])]
            self._scan_region(Region.unnamed(gap), inside)
        return self.result()

    def _function_starts(self, ranges: Sequence[Range]) -> list[int]:
        """Return the likely starts of functions in those ranges: symbols, pointers, and the targets of calls there."""
        addresses = {symbol.address for symbol in self.image.symbols} | {*self.image.pointers.values()}
        for start, words in map(self._words, ranges):
            for index, word in enumerate(words):
                if word & _CALL_BITS == _CALL:
                    distance = (word & 0x3FFFFFF) - (word << 1 & 0x4000000)
                    addresses.add(start + _WORD * (index + distance))
        firsts = [start for start, _ in ranges]
        return sorted(
            address for address in addresses if (at := bisect_right(firsts, address)) and address < ranges[at - 1][1]
        )

    @cached_property
    def _sure_entries(self) -> set[int]:
        return sure_entries(self.image)

    def _words(self, within: Range) -> tuple[int, array[int]]:
        """Return the first address in a range that an instruction can have, and the words from there on."""
        start = -(-within[0] // _WORD) * _WORD
        content = self.image.bytes_at(start, max(within[1] - start, 0))
        words = array("I", content[: len(content) // _WORD * _WORD])
        if sys.byteorder == "big":
            words.byteswap()
        return start, words

    def _scan_region(self, region: Region, starts: Sequence[int]) -> None:
        """Add the uses in a region; ``starts``: where functions begin in one without a name."""
        parts = [self._words(within) for within in region.ranges]
        is_relevant = False
        for _, words in parts:
            self.instructions += len(words)
            is_relevant |= self.any_relevant(set(words))
        self.meter.add(region.function.end - region.function.start)
        if not is_relevant:
            return
        uses, is_code = Uses(), True
        for start, words in parts:
            unknown = self._locate(start, words, uses)
            is_code &= unknown <= (self._add_reached(region, start, words) if unknown else unknown)
        self.add_uses(region.function, uses, starts, certain=is_code)

    def _locate(self, start: int, words: array[int], uses: Uses) -> set[int]:
        """Add the uses among words, and the runs of words that are no instructions; return the addresses of these."""
        run_start = None
        unknown = set()
        for index, word in enumerate([*words, *_PADDING][: len(words) + 1]):
            requirement = None if word in self.irrelevant else self.requirements.get(word)
            if requirement is NO_INSTRUCTION:
                unknown.add(start + _WORD * index)
                run_start = index if run_start is None else run_start
                continue
            if run_start is not None:
                self.add_undecoded(start + _WORD * run_start, start + _WORD * index, _NOT_CODE)
                run_start = None
            if requirement is not None:
                uses.add(requirement, start + _WORD * index)
        return unknown

    def _add_reached(self, region: Region, start: int, words: array[int]) -> set[int]:
        """Add the words among those of a region that are no instructions but reached; return their addresses."""
        content = words.tobytes()
        end = start + len(content)
        function = region.function
        entries = {entry for entry in self._sure_entries if start <= entry < end}
        tables = jump_tables(content, start).values()
        for table in tables:
            entries.update(table.targets(self.image.bytes_at(table.address, table.width * table.length)))
        mixed = MixedRange(start, content, (), lambda address: self._decode(start, words, address), self.image.bytes_at)
        reached = discover(mixed, entries).unknown
        for address in reached:
            begin = function.start if function.name else max(entry for entry in entries if entry <= address)
            least = _least(words[(address - start) // _WORD])
            within = Function(begin, function.end, function.name)
            self.unknown.append(UnknownCode(address, _WORD, within, least, least.upper(), certain=True))
        return reached

    def _decode(self, start: int, words: array[int], address: int) -> Iterator[Decoded]:
        """Yield the instructions among words, from an address on."""
        for place in range(address, start + _WORD * len(words), _WORD):
            word = words[(place - start) // _WORD]
            known = self.requirement(word) is not NO_INSTRUCTION
            parts = lift_word(word, place) if known else ()
            flow, target = next(((part.flow, part.target) for part in parts if part.flow != NEXT), (NEXT, None))
            yield Decoded(place, place + _WORD, int(known), flow, target, None, word in _PADDING)
