"""Read the raw tables of an ELF file: headers, symbols and relocations (System V gABI, chapters 4 and 5).

The rows have the gABI's names, without prefixes such as ``sh_``. Offsets and sizes are bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cpufeat.binary_format.names import SHORT, allowance
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAGIC = b"\x7fELF"
ET_REL, ET_EXEC, ET_CORE = 1, 2, 4
EM_386, EM_ARM, EM_X86_64, EM_AARCH64, EM_RISCV, EM_LOONGARCH = 3, 40, 62, 183, 243, 258
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_REL, SHT_DYNSYM = 1, 2, 3, 4, 7, 8, 9, 11
SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_PREINIT_ARRAY, SHT_GROUP, SHT_SYMTAB_SHNDX, SHT_RELR = 14, 15, 16, 17, 18, 19
SHT_LLVM_ADDRSIG, SHT_X86_64_UNWIND = 0x6FFF4C03, 0x70000001
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_MERGE, SHF_STRINGS, SHF_TLS = 1, 2, 4, 0x10, 0x20, 0x400
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF
"""SHN_XINDEX: a symbol's section is in a table of its own (SHT_SYMTAB_SHNDX), the section of names in the link field of
the first section header. From SHN_LORESERVE sections on, their number is in the size field of that."""
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_TLS, STT_GNU_IFUNC = 0, 1, 2, 3, 6, 10
STB_LOCAL, STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE = 0, 1, 2, 10
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_TLS, PT_GNU_EH_FRAME = 1, 2, 3, 7, 0x6474E550
PF_X, PF_W = 1, 2
_PN_XNUM = 0xFFFF
"""The number of program headers is in the info field of the first section header."""
_BYTE_ORDER = {1: "<", 2: ">"}
_BITS = {1: 32, 2: 64}
_FILE_HEADER = {32: "16s2H5I6H", 64: "16s2HI3QI6H"}
_SECTION = {32: "10I", 64: "2I4Q2I2Q"}
_SEGMENT = {32: ("8I", (0, 6, 1, 2, 3, 4, 5, 7)), 64: ("2I6Q", range(8))}
"""Layout, and where in it the fields of a :class:`Segment` are."""
SYMBOL = {32: ("3I2BH", (0, 3, 4, 5, 1, 2)), 64: ("I2BH2Q", range(6))}
"""Layout, and where in it the fields of a :class:`Symbol` are, from the name on."""


class FileHeader(NamedTuple):
    """The header of an ELF file."""

    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


class Section(NamedTuple):
    """A section header."""

    name: int
    """Offset in the section of names."""
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int


class Segment(NamedTuple):
    """A program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class Symbol(NamedTuple):
    """A symbol, with the offset of its row in the file."""

    at: int
    name: str
    info: int
    other: int
    shndx: int
    value: int
    size: int

    @property
    def type(self) -> int:
        """``STT_FUNC`` and so on."""
        return self.info & 0xF

    @property
    def binding(self) -> int:
        """``STB_GLOBAL`` and so on."""
        return self.info >> 4


class Relocation(NamedTuple):
    """A relocation; the addend is None where the relocated place itself stores it (SHT_REL)."""

    offset: int
    type: int
    symbol: int
    addend: int | None


class Elf:
    """The headers and tables of an ELF file of either class and byte order."""

    def __init__(self, content: bytes, damaged: Callable[[str], Exception]) -> None:
        """Read the headers. ``damaged`` makes the exception to raise, here and by the methods, of what is damaged."""
        self.content = content
        self.damaged = damaged
        try:
            self.order: str = _BYTE_ORDER[content[5]]
            self.bits: int = _BITS[content[4]]
            self.file_header: struct.Struct = struct.Struct(self.order + _FILE_HEADER[self.bits])
            self.section_header: struct.Struct = struct.Struct(self.order + _SECTION[self.bits])
            self.header: FileHeader = FileHeader(*self.file_header.unpack_from(content))
        except (struct.error, KeyError, IndexError) as error:
            raise damaged(f"its header is cut off or unknown ({error})") from None
        if not content.startswith(MAGIC):
            raise damaged("its magic number is wrong")
        self.sections: list[Section] = self._read_sections()
        self.segments: list[Segment] = self._read_segments()
        index = self.header.shstrndx
        self.names_index: int = self.sections[0].link if index == SHN_XINDEX and self.sections else index

    @property
    def word(self) -> str:
        """The struct module's letter for an address."""
        return "Q" if self.bits == 64 else "I"

    def _read_sections(self) -> list[Section]:
        start, row = self.header.shoff, self.section_header
        if not start:
            return []
        first = self.content[start : start + row.size]
        if self.header.shentsize != row.size or len(first) != row.size:
            raise self.damaged("its section headers lie outside of it, or have an unknown size")
        end = start + (self.header.shnum or Section(*row.unpack(first)).size) * row.size
        if end > len(self.content):
            raise self.damaged("its section headers lie outside of it")
        return [Section(*values) for values in row.iter_unpack(self.content[start:end])]

    def _read_segments(self) -> list[Segment]:
        layout, fields = _SEGMENT[self.bits]
        row, start = struct.Struct(self.order + layout), self.header.phoff
        count = self.sections[0].info if self.header.phnum == _PN_XNUM and self.sections else self.header.phnum
        if not count:
            return []
        end = start + count * row.size
        if self.header.phentsize != row.size or end > len(self.content):
            raise self.damaged("its program headers lie outside of it, or have an unknown size")
        rows = row.iter_unpack(self.content[start:end])
        return [Segment(*(values[position] for position in fields)) for values in rows]

    def content_of(self, section: Section) -> memoryview:
        """Return a section's bytes in the file."""
        start, end = section.offset, section.offset + section.size
        if section.type == SHT_NOBITS or not section.size:
            return memoryview(b"")
        if end > len(self.content):
            raise self.damaged("a section lies outside of it")
        return memoryview(self.content)[start:end]

    def names(self) -> bytes:
        """Return the names of all sections, each ended by a NUL."""
        if self.names_index >= len(self.sections):
            raise self.damaged("its sections have no names")
        return bytes(self.content_of(self.sections[self.names_index]))

    def rows(self, section: Section, layout: str) -> Iterator[tuple[int, ...]]:
        """Return the rows of the table that a section holds, by a layout of the struct module."""
        row, content = struct.Struct(self.order + layout), self.content_of(section)
        if len(content) % row.size or section.entsize not in (0, row.size):
            raise self.damaged("a table has rows of an unknown size, or ends within one")
        return row.iter_unpack(content)

    def linked(self, section: Section, *types: int) -> Section:
        """Return the section that another links to, which must be of one of the types."""
        if section.link >= len(self.sections) or self.sections[section.link].type not in types:
            raise self.damaged("a section does not link to one of the right type")
        return self.sections[section.link]

    def symbols(self, index: int) -> list[Symbol]:
        """Return the symbols of the table that a section holds."""
        table = self.sections[index]
        layout, _ = SYMBOL[self.bits]
        size = struct.calcsize(self.order + layout)
        strings = bytes(self.content_of(self.linked(table, SHT_STRTAB)))
        far = (each for each in self.sections if each.type == SHT_SYMTAB_SHNDX and each.link == index)
        large_indices = [row[0] for each in far for row in self.rows(each, "I")]
        symbols: list[Symbol] = []
        left = allowance(strings)
        for number, row in enumerate(self.rows(table, layout)):
            start, info, other, shndx, value, length = row if self.bits == 64 else (row[0], *row[3:], row[1], row[2])
            end = strings.find(b"\0", start)
            left -= max(end - start - SHORT, 0)
            if left < 0 or (end < 0 and strings):
                raise self.damaged("its symbols' names do not end, or overlap")
            if shndx == SHN_XINDEX and number < len(large_indices):
                shndx = large_indices[number]
            name = strings[start:end].decode(errors="replace")
            symbols.append(Symbol(table.offset + number * size, name, info, other, shndx, value, length))
        return symbols

    def relocations(self, section: Section) -> Iterator[Relocation]:
        """Return the relocations of a section of type SHT_REL or SHT_RELA."""
        if section.link:
            self.linked(section, SHT_SYMTAB, SHT_DYNSYM)
        shift, mask = (32, 0xFFFFFFFF) if self.bits == 64 else (8, 0xFF)
        has_addend = section.type == SHT_RELA
        for offset, info, *addend in self.rows(section, self.word * 2 + self.word.lower() * has_addend):
            yield Relocation(offset, info & mask, info >> shift, addend[0] if has_addend else None)

    def packed_relocations(self, section: Section) -> Iterator[int]:
        """Return the addresses that a section of type SHT_RELR relocates.

        Each row is an address, or a bit map of the words after the last one.
        """
        width = self.bits // 8
        place = 0
        for (row,) in self.rows(section, self.word):
            if row & 1:
                yield from (place + bit * width for bit in range(self.bits - 1) if row >> bit + 1 & 1)
                place += (self.bits - 1) * width
            else:
                yield row
                place = row + width
