"""What a linker does first, for an object: sections get addresses, and relocations lead to them."""

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
    from cpufeat.auditing.formats.relocation_aarch64 import Field

_PAGE = 4096


class Fix(NamedTuple):
    """How a relocation of one type stores an address."""

    bits: int = 32
    """16, 32 or 64."""
    relative: bool = False
    """Less the address of the place itself."""
    slot: bool = False
    """Not the symbol's address, but that of a pointer to it (a GOT entry)."""
    bias: int = 0
    """Added: what COFF and Mach-O take for granted (the distance to the instruction's end)."""
    field: Field | None = None
    """Of an AArch64 instruction, which says what it counts and from where."""


class Part(NamedTuple):
    """A section that relocations change."""

    content: bytearray
    address: int


class Layout:
    """Addresses for what has none: an object's sections, and all that stands in other files."""

    def __init__(
        self,
        sections: Iterable[tuple[int, int, bool]],
        word: int,
        above: int = 0,
        spacing: int = SPACING,
        table: str = "",
    ) -> None:
        """Place sections of (size, alignment, executable), those with code first.

        ``word``: bytes of a pointer; ``above``: the first address that is free, in a file that has its addresses;
        ``spacing``: bytes that are kept free for what is in another file; ``table``: what code calls the table of
        pointers that it counts from.
        """
        self.word, self.spacing, self._table = word, spacing, table
        self.pointers: dict[int, int] = {}
        self.narrow: set[int] = set()
        self.externals: dict[int, str] = {}
        self._external_addresses: dict[str, int] = {}
        self._slots: dict[int, int] = {}
        self._entries: dict[int, int] = {}
        """Those in the table."""
        wanted = list(sections)
        self.addresses = [0] * len(wanted)
        end = above
        for index in sorted(range(len(wanted)), key=lambda index: not wanted[index][2]):
            size, alignment, _ = wanted[index]
            self.addresses[index] = -(-end // max(alignment, 1)) * max(alignment, 1)
            end = self.addresses[index] + size
        self._free = -(-end // _PAGE) * _PAGE + _PAGE

    def external(self, name: str) -> int:
        """Return the made-up address of what another file defines."""
        if name not in self._external_addresses:
            address = self._external_addresses[name] = self._take(TABLE if name == self._table else self.spacing)
            self.externals[address] = name
        return self._external_addresses[name]

    def _slot(self, target: int, field: Field | None) -> int:
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

    def apply(self, part: Part, offset: int, fix: Fix, target: int, addend: int | None) -> None:
        """Store the address ``target`` + ``addend`` as a relocation of that kind at an offset of a section does.

        ``addend`` None: it stands there. What lies outside of the section is left out.
        """
        content, place = part.content, part.address + offset
        size = fix.bits // 8
        if offset + size > len(content):
            return
        stored = int.from_bytes(content[offset : offset + size], "little")
        if addend is None:
            addend = relocation_aarch64.addend(stored, fix.field) if fix.field else _signed(stored, fix.bits)
        value = (self._slot(target, fix.field) if fix.slot else target) + addend + fix.bias
        if fix.field:
            value = relocation_aarch64.stored(stored, fix.field, value, place)
        elif fix.relative:
            value -= place
        elif size == self.word:
            self.pointers[place] = value
        else:
            self.narrow.add(place)
        content[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def word_at(
    sections: Sequence[Section], address: int, width: int, order: Literal["little", "big"] = "little"
) -> int | None:
    """Return the word that the file has at an address, None where it has none; sections by address, width in bytes."""
    at = bisect_right(sections, address, key=lambda section: section.address) - 1
    offset = address - sections[at].address if at >= 0 else 0
    word = bytes(sections[at].content[offset : offset + width]) if at >= 0 else b""
    return int.from_bytes(word, order) if len(word) == width else None


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value
