"""Read the load commands and sections of Mach-O files (Apple's ``<mach-o/loader.h>``).

Offsets and sizes are bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAGICS = {
    b"\xce\xfa\xed\xfe": ("<", 32),
    b"\xcf\xfa\xed\xfe": ("<", 64),
    b"\xfe\xed\xfa\xce": (">", 32),
    b"\xfe\xed\xfa\xcf": (">", 64),
}
"""MH_MAGIC and MH_MAGIC_64 -> the byte order, and the size of a pointer in bits."""
LC_SYMTAB = 0x2
LC_SEGMENT = {32: 0x1, 64: 0x19}
HEADER_SIZE = {32: 28, 64: 32}
SEGMENT = {32: "2I16s8I", 64: "2I16s4Q4I"}
SECTION = {32: "16s16s9I", 64: "16s16s2Q8I"}


class Command(NamedTuple):
    """A load command."""

    at: int
    """Its offset in the file."""
    kind: int
    size: int


class Segment(NamedTuple):
    """The load command of a segment."""

    kind: int
    command_size: int
    name: bytes
    address: int
    memory_size: int
    at: int
    size: int
    max_protection: int
    protection: int
    sections: int
    flags: int


class Section(NamedTuple):
    """The header of a section."""

    name: bytes
    segment: bytes
    address: int
    size: int
    at: int
    alignment: int
    relocations_at: int
    relocations: int
    flags: int


class Macho:
    """The load commands of a Mach-O file of one architecture."""

    def __init__(self, content: bytes, damaged: Callable[[str], Exception]) -> None:
        """Read them; ``damaged`` makes the exception to raise of what is damaged. The magic must be right."""
        self.content = content
        self.order: str
        self.bits: int
        self.order, self.bits = MAGICS[content[:4]]
        self.segment: struct.Struct = struct.Struct(self.order + SEGMENT[self.bits])
        self.section: struct.Struct = struct.Struct(self.order + SECTION[self.bits])
        try:
            self.commands: list[Command] = list(self._commands(damaged))
        except struct.error as error:
            raise damaged(str(error)) from None

    def _commands(self, damaged: Callable[[str], Exception]) -> Iterator[Command]:
        (count,) = struct.unpack_from(self.order + "I", self.content, 16)
        at = HEADER_SIZE[self.bits]
        for _ in range(count):
            kind, size = struct.unpack_from(self.order + "2I", self.content, at)
            if size < 8 or at + size > len(self.content):
                raise damaged("its load commands lie outside of it")
            yield Command(at, kind, size)
            at += size

    def segments(self) -> Iterator[Segment]:
        """Yield the segments; one that does not fit into its command is left out."""
        for command in self.commands:
            if command.kind == LC_SEGMENT[self.bits] and command.size >= self.segment.size:
                yield Segment(*self.segment.unpack_from(self.content, command.at))

    def section_offsets(self, command: Command) -> range:
        """Return the offsets of the headers of a segment's sections; none for another command."""
        start, step = command.at + self.segment.size, self.section.size
        count = (command.size - self.segment.size) // step if command.kind == LC_SEGMENT[self.bits] else 0
        return range(start, start + count * step, step)

    def sections(self) -> Iterator[Section]:
        """Yield the sections of all segments."""
        for command in self.commands:
            for at in self.section_offsets(command):
                yield Section(*self.section.unpack_from(self.content, at)[:9])

    def symbol_names(self) -> tuple[bytes, list[int]]:
        """Return the table of strings, and the offset of each symbol's name in it."""
        row = struct.Struct(self.order + ("I12x" if self.bits == 64 else "I8x"))
        strings, starts = b"", []
        for command in self.commands:
            if command.kind == LC_SYMTAB and command.size >= 24:
                at, count, strings_at, size = struct.unpack_from(self.order + "4I", self.content, command.at + 8)
                rows = self.content[at : at + count * row.size]
                strings = self.content[strings_at : strings_at + size]
                starts += [start for (start,) in row.iter_unpack(rows[: len(rows) // row.size * row.size])]
        return strings, starts
