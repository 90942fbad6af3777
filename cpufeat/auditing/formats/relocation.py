"""Give an object's sections addresses, and apply its relocations to their content, as a linker does."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from cpufeat.auditing.formats import relocation_aarch64
from cpufeat.auditing.formats.image import SPACING
from cpufeat.auditing.formats.relocation_aarch64 import TABLE, TABLE15
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from cpufeat.auditing.formats.image import Section
    from cpufeat.auditing.formats.relocation_aarch64 import InstructionField

_PAGE = 4096


class Fixup(NamedTuple):
    """The way in which a relocation of one type stores an address."""

    bits: int = 32
    """The size of the place: 16, 32 or 64."""
    relative: bool = False
    """Whether it stores the distance from the place itself."""
    slot: bool = False
    """Whether it stores the address of a pointer to the symbol (a GOT entry) rather than the symbol's address."""
    bias: int = 0
    """A number to add: in COFF and Mach-O, the implicit distance from the place to the end of the instruction."""
    field: InstructionField | None = None
    """The field of an AArch64 instruction that it fills, in place of ``bits`` and ``relative``."""


class PatchedSection(NamedTuple):
    """A section to apply relocations to."""

    content: bytearray
    address: int


class Layout:
    """Made-up addresses for an object's sections and for what other files define."""

    def __init__(
        self,
        sections: Iterable[tuple[int, int, bool]],
        word: int,
        above: int = 0,
        spacing: int = SPACING,
        table: str = "",
    ) -> None:
        """Place sections of (size, alignment, executable), executable sections first.

        ``word``: bytes of a pointer; ``above``: the first free address, in a file with addresses; ``spacing``: bytes to
        reserve for each thing that another file defines; ``table``: the symbol of the GOT that code is relative to.
        """
        self.word: int = word
        self.spacing: int = spacing
        self._table = table
        self.pointers: dict[int, int] = {}
        self.narrow: set[int] = set()
        self.externals: dict[int, str] = {}
        self._external_addresses: dict[str, int] = {}
        self._slots: dict[int, int] = {}
        """Target -> the address of a pointer to it."""
        self._entries: dict[int, int] = {}
        """Slots in the GOT of :attr:`_table`."""
        wanted = list(sections)
        self.addresses: list[int] = [0] * len(wanted)
        end = above
        for index in sorted(range(len(wanted)), key=lambda index: not wanted[index][2]):
            size, alignment, _ = wanted[index]
            self.addresses[index] = -(-end // max(alignment, 1)) * max(alignment, 1)
            end = self.addresses[index] + size
        self._free = -(-end // _PAGE) * _PAGE + _PAGE

    def external(self, name: str) -> int:
        """Return the made-up address of a name that another file defines."""
        if name not in self._external_addresses:
            address = self._external_addresses[name] = self._take(TABLE if name == self._table else self.spacing)
            self.externals[address] = name
        return self._external_addresses[name]

    def _slot(self, target: int, field: InstructionField | None) -> int:
        slots = self._entries if field is TABLE15 else self._slots
        if target not in slots:
            in_table = field is TABLE15
            slots[target] = self.external(self._table) + self.word * len(slots) if in_table else self._take(SPACING)
            self.pointers[slots[target]] = target
        return slots[target]

    def _take(self, size: int) -> int:
        start = -(-self._free // size) * size
        self._free = start + size
        return start

    def apply(self, part: PatchedSection, offset: int, fixup: Fixup, target: int, addend: int | None) -> None:
        """Apply a relocation at an offset of a section: store ``target`` + ``addend``.

        ``addend`` None: it is the value stored there. A place that is not wholly inside of the section is skipped.
        """
        content, place = part.content, part.address + offset
        size = fixup.bits // 8
        if offset + size > len(content):
            return
        stored = int.from_bytes(content[offset : offset + size], "little")
        if addend is None:
            addend = relocation_aarch64.addend(stored, fixup.field) if fixup.field else _signed(stored, fixup.bits)
        value = (self._slot(target, fixup.field) if fixup.slot else target) + addend + fixup.bias
        if fixup.field:
            value = relocation_aarch64.stored(stored, fixup.field, value, place)
        elif fixup.relative:
            value -= place
        elif size == self.word:
            self.pointers[place] = value
        else:
            self.narrow.add(place)
        content[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def section_at(sections: Sequence[Section], address: int) -> Section | None:
    """Return the section that an address is in; sections are sorted by address."""
    at = bisect_right(sections, address, key=lambda section: section.address) - 1
    return sections[at] if at >= 0 and address < sections[at].end else None


def word_at(
    sections: Sequence[Section], address: int, width: int, order: Literal["little", "big"] = "little"
) -> int | None:
    """Return the word of ``width`` bytes at an address, None if the file has none; sections are sorted by address."""
    at = bisect_right(sections, address, key=lambda section: section.address) - 1
    offset = address - sections[at].address if at >= 0 else 0
    word = bytes(sections[at].content[offset : offset + width]) if at >= 0 else b""
    return int.from_bytes(word, order) if len(word) == width else None


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value
