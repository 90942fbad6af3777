"""The parts of an ELF file that the note and the linker need (System V gABI, chapters 4 and 5)."""

from __future__ import annotations

import copy
import struct
from typing import NamedTuple

from cpufeat.errors import ArtifactError

MAGIC = b"\x7fELF"
_MANY_SECTIONS = 0xFF00
"""SHN_LORESERVE: from so many sections on, their number stands in the size field of the first section header."""
SHT_RELA, SHT_NOTE, SHT_REL, SHT_INIT_ARRAY, SHT_FINI_ARRAY = 4, 7, 9, 14, 15
SHF_ALLOC, SHF_TLS = 2, 0x400
ET_REL, EM_X86_64 = 1, 62
_SHT_SYMTAB = 2
_FAR_NAMES = 0xFFFF
"""SHN_XINDEX: the index of the section of names stands in the link field of the first section header."""
_BYTE_ORDER = {1: "<", 2: ">"}
_FILE_HEADER = {1: "16s2H5I6H", 2: "16s2HI3QI6H"}
_SECTION = {1: "10I", 2: "2I4Q2I2Q"}
_SYMBOL = {1: ("3I2BH", (0, 3, 4, 5, 1, 2)), 2: ("I2BH2Q", (0, 1, 2, 3, 4, 5))}
"""Struct, and where in it the members of a :class:`Symbol` are, from the name on."""
STT_FUNC, STT_GNU_IFUNC = 2, 10
_STB_GLOBAL, _STB_WEAK, _STB_GNU_UNIQUE = 1, 2, 10
_STV_DEFAULT, _STV_PROTECTED = 0, 3


class FileHeader(NamedTuple):
    """The header of an ELF file, without the ``e_`` of the names."""

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
    """A section header, without the ``sh_`` of the names."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int


class Symbol(NamedTuple):
    """A symbol, without the ``st_`` of the names."""

    at: int
    """Where in the file it is."""
    name: str
    info: int
    other: int
    shndx: int
    value: int
    size: int

    @property
    def type(self) -> int:
        """Its type, ``STT_FUNC`` and so on."""
        return self.info & 0xF

    @property
    def is_shared(self) -> bool:
        """Whether it is for others, or theirs."""
        return self.info >> 4 in (_STB_GLOBAL, _STB_WEAK, _STB_GNU_UNIQUE)

    @property
    def is_exported(self) -> bool:
        """Whether what is linked from this object has it for others."""
        return self.is_shared and self.shndx > 0 and self.other & 3 in (_STV_DEFAULT, _STV_PROTECTED)


class Elf:
    """An ELF file of either class and byte order."""

    def __init__(self, content: bytes) -> None:
        """Read the headers. Raises ArtifactError for what is no ELF file, and for a damaged one."""
        if not content.startswith(MAGIC):
            raise ArtifactError("not an ELF file")
        try:
            self._read(content)
        except (struct.error, KeyError, IndexError) as error:
            raise ArtifactError(f"a damaged ELF file: {error}") from None

    def _read(self, content: bytes) -> None:
        self.content = content
        self._new_names: bytes | None = None
        self.order = _BYTE_ORDER[content[5]]
        self.elf_class = content[4]
        self.file_header = struct.Struct(self.order + _FILE_HEADER[self.elf_class])
        self.section_header = struct.Struct(self.order + _SECTION[self.elf_class])
        self.header = FileHeader(*self.file_header.unpack_from(content))
        start, size = self.header.shoff, self.section_header.size
        first = Section(*self.section_header.unpack(content[start : start + size])) if start else Section(*[0] * 10)
        end = start + (self.header.shnum or first.size) * size
        if end > len(content):
            raise ArtifactError("a damaged ELF file: its section headers lie outside of it")
        self.sections = [Section(*row) for row in self.section_header.iter_unpack(content[start:end])]
        self.names_index = first.link if self.header.shstrndx == _FAR_NAMES else self.header.shstrndx

    def bytes_of(self, section: Section) -> bytes:
        """Return what a section holds. Raises ArtifactError for one that lies outside of the file."""
        if section.offset + section.size > len(self.content):
            raise ArtifactError("a damaged ELF file: a section lies outside of it")
        return self.content[section.offset : section.offset + section.size]

    def names(self) -> bytes:
        """Return the sections' names, each ended by a NUL. Raises ArtifactError."""
        if self._new_names is not None:
            return self._new_names
        if self.names_index >= len(self.sections):
            raise ArtifactError("a damaged ELF file: its sections have no names")
        return self.bytes_of(self.sections[self.names_index])

    def edited(self, content: bytes, sections: list[Section], names: bytes) -> Elf:
        """Return the file with other content, section headers and names, which :meth:`to_bytes` will append."""
        edited = copy.copy(self)
        edited.content, edited.sections, edited._new_names = content, sections, names
        return edited

    def with_section(self, name: bytes, kind: int, flags: int, content: bytes, alignment: int) -> Elf:
        """Return the file with one more section, and everything else in its place. Raises ArtifactError."""
        names, body = self.names(), bytearray(self.content)
        at = append(body, content, alignment)
        section = Section(len(names), kind, flags, 0, at, len(content), 0, 0, alignment, 0)
        return self.edited(bytes(body), [*self.sections, section], names + name + b"\0")

    def to_bytes(self) -> bytes:
        """Return the file; after edits, with the new names and section headers appended once to its content."""
        if self._new_names is None:
            return self.content
        out, sections = bytearray(self.content), list(self.sections)
        at = append(out, self._new_names, 1)
        sections[self.names_index] = sections[self.names_index]._replace(offset=at, size=len(self._new_names))
        many = len(sections) >= _MANY_SECTIONS
        sections[0] = sections[0]._replace(size=len(sections) if many else 0)
        at = append(out, b"".join(self.section_header.pack(*section) for section in sections), 8)
        self.file_header.pack_into(out, 0, *self.header._replace(shoff=at, shnum=0 if many else len(sections)))
        return bytes(out)

    def symbols(self) -> list[Symbol]:
        """Return the symbols of all symbol tables, in order. Raises ArtifactError."""
        layout, order = _SYMBOL[self.elf_class]
        symbol = struct.Struct(self.order + layout)
        found: list[Symbol] = []
        for table in (section for section in self.sections if section.type == _SHT_SYMTAB):
            if table.link >= len(self.sections) or table.size % symbol.size:
                raise ArtifactError("a damaged ELF file: its symbols cannot be read")
            strings, left = self.bytes_of(self.sections[table.link]), 4 * len(self.content)
            for index, row in enumerate(symbol.iter_unpack(self.bytes_of(table))):
                start, *fields = (row[position] for position in order)
                end = strings.find(b"\0", start)
                left -= end - start
                if end < 0 or left < 0:
                    raise ArtifactError("a damaged ELF file: its symbols' names do not end, or overlap")
                found.append(
                    Symbol(table.offset + index * symbol.size, strings[start:end].decode(errors="replace"), *fields)
                )
        return found

    def define(self, body: bytearray, symbol: Symbol, meant: Symbol, kind: int) -> None:
        """Let a symbol, in a copy of the file, be another name of something else, of a type."""
        layout, order = _SYMBOL[self.elf_class]
        entry = struct.Struct(self.order + layout)
        row = list(entry.unpack_from(body, symbol.at))
        fields = (symbol.info & ~0xF | kind, symbol.other, meant.shndx, meant.value, meant.size)
        for position, value in zip(order[1:], fields, strict=True):
            row[position] = value
        entry.pack_into(body, symbol.at, *row)


def append(out: bytearray, content: bytes, alignment: int) -> int:
    """Append to a file, after padding it, and return at which offset."""
    out.extend(bytes(-len(out) % alignment))
    out.extend(content)
    return len(out) - len(content)
