"""Read the tables of an ELF file: section headers, symbols and relocations (System V gABI, chapters 4 and 5).

pyelftools reads the headers. Symbols and relocations are plain arrays, which are unpacked here: pyelftools takes 20 us
an entry, and libLLVM has 300 000 of them.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import NamedTuple

from cpufeat.errors import AuditError
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from elftools.elf.elffile import ELFFile

_ARCHITECTURES = {
    "EM_X86_64": "x86_64",
    "EM_386": "i686",
    "EM_S390": "s390x",
    "EM_RISCV": "riscv{}",
    "EM_LOONGARCH": "loongarch{}",
}
"""e_machine -> our name, in which ``{}`` stands for the bits of the file's class."""
_BY_ORDER = {("aarch64", False): "aarch64_be", ("ppc64", True): "ppc64le"}
"""Our names of architectures with both byte orders, by whether the file is little-endian."""
MAGIC = b"\x7fELF"
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS = 1, 2, 4, 0x400
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF
"""SHN_XINDEX: the section's index stands in a table of its own (SHT_SYMTAB_SHNDX)."""
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC = 0, 1, 2, 10
STB_LOCAL = 0
_PF_X, _PF_W = 1, 2
_DF_1_PIE = 0x08000000
_MAX_ALIGNMENT = 1 << 32


class SectionHeader(NamedTuple):
    """A section header; in a file without headers of executable sections, the same facts of a loaded segment."""

    name: str
    type: str
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class ElfFile(Value):
    """The content and the headers of a file."""

    content: memoryview
    name: str
    arch: str
    bits: int
    order: str
    kind: str
    entry: int | None
    headers: list[SectionHeader]

    def error(self, what: str) -> AuditError:
        """Return the AuditError to raise for damage."""
        return AuditError(f"{self.name}: a damaged ELF file: {what}")

    def of_type(self, *types: str) -> list[int]:
        """Return the indices of the sections of those types."""
        return [index for index, header in enumerate(self.headers) if header.type in types]

    def content_of(self, index: int) -> memoryview:
        """Return a section's bytes in the file."""
        header = self.headers[index]
        return self.content[:0] if header.type == "SHT_NOBITS" else self.content[header.offset :][: header.size]

    def rows(self, index: int, layout: str) -> Iterator[tuple[int, ...]]:
        """Return the rows of the table that a section holds."""
        row, content = struct.Struct(self.order + layout), self.content_of(index)
        return row.iter_unpack(content[: len(content) // row.size * row.size])

    @property
    def letter(self) -> str:
        """The struct module's letter for an address."""
        return "Q" if self.bits == 64 else "I"


class SymbolRow(NamedTuple):
    """A row of a symbol table, without the ``st_`` of the names."""

    name: str
    value: int
    size: int
    info: int
    visibility: int
    section: int


class RelocationRow(NamedTuple):
    """A row of a relocation table."""

    offset: int
    type: int
    symbol: int
    addend: int | None
    """None for SHT_REL: the addend is stored in the relocated place itself."""


def read(content: bytes, name: str) -> ElfFile:
    """Read the headers. Raises AuditError for a damaged file, and for one that would cost too much to audit."""
    from elftools.elf.elffile import ELFFile

    try:
        file = _read(content, name, ELFFile(BytesIO(content)))
    except Exception as error:  # pyelftools does not document what it raises for damaged files
        raise AuditError(f"{name}: a damaged ELF file: {error or type(error).__name__}") from None
    _check(file)
    return file


def _read(content: bytes, name: str, elf: ELFFile) -> ElfFile:
    machine = str(elf.header.e_machine)
    arch = _ARCHITECTURES.get(machine, machine.removeprefix("EM_").lower()).format(elf.elfclass)
    arch = _BY_ORDER.get((arch, elf.little_endian), arch)
    segments: list[Any] = list(elf.iter_segments())
    kind = "object" if elf.header.e_type == "ET_REL" else "executable" if _is_executable(elf, segments) else "library"
    headers = [_section_header(section.name, section.header) for section in elf.iter_sections()]
    if not any(header.flags & SHF_EXECINSTR for header in headers):
        headers = [_segment_header(segment.header) for segment in segments if segment.header.p_type == "PT_LOAD"]
    order = "<" if elf.little_endian else ">"
    return ElfFile(memoryview(content), name, arch, elf.elfclass, order, kind, elf.header.e_entry or None, headers)


def _section_header(name: str, header: Mapping[str, Any]) -> SectionHeader:
    fields = ("type", "flags", "addr", "offset", "size", "link", "info", "addralign")
    return SectionHeader(name, *(header[f"sh_{field}"] for field in fields))


def _segment_header(header: Mapping[str, Any]) -> SectionHeader:
    flags = SHF_ALLOC | header["p_flags"] & _PF_W and SHF_WRITE | header["p_flags"] & _PF_X and SHF_EXECINSTR
    return SectionHeader(
        "", "PT_LOAD", flags, header["p_vaddr"], header["p_offset"], header["p_filesz"], 0, 0, header["p_align"]
    )


def _is_executable(elf: ELFFile, segments: list[Any]) -> bool:
    """Whether a linked file is a program: it has a fixed address, an interpreter or the flag DF_1_PIE."""
    tags = [
        tag for segment in segments if segment.header.p_type == "PT_DYNAMIC" for tag in segment.iter_tags("DT_FLAGS_1")
    ]
    return (
        elf.header.e_type == "ET_EXEC"
        or any(segment.header.p_type == "PT_INTERP" for segment in segments)
        or any(tag.entry.d_val & _DF_1_PIE for tag in tags)
    )


def _check(file: ElfFile) -> None:
    """Raise AuditError for damage, and for what would cost much more than a sound file of this size."""
    stored = [header for header in file.headers if header.type != "SHT_NOBITS"]
    for header in stored:
        if header.size and header.offset + header.size > len(file.content):
            raise file.error(f"{header.name or 'a segment'} lies outside of it")
    if sum(header.size for header in stored) > 2 * len(file.content):
        raise file.error("its sections overlap")
    if any(header.address + header.size > 1 << file.bits for header in file.headers):
        raise file.error("a section lies outside of memory")
    if any(header.alignment > _MAX_ALIGNMENT or header.alignment.bit_count() > 1 for header in file.headers):
        raise file.error("a section is aligned to what is no power of two, or too large for one")


def symbols_of(file: ElfFile, index: int) -> list[SymbolRow]:
    """Return the symbols of the table that a section holds."""
    rows = file.rows(index, "IBBHQQ" if file.bits == 64 else "IIIBBH")
    link = file.headers[index].link
    strings = bytes(file.content_of(link)) if link < len(file.headers) else b""
    large_indices = [
        row[0]
        for table in file.of_type("SHT_SYMTAB_SHNDX")
        if file.headers[table].link == index
        for row in file.rows(table, "I")
    ]
    symbols, length = [], 0
    for number, row in enumerate(rows):
        start, info, visibility, section, value, size = row if file.bits == 64 else (row[0], *row[3:], row[1], row[2])
        end = strings.find(b"\0", start)
        if end < 0 and strings:
            raise file.error("a symbol's name does not end")
        length += end - start
        if length > 4 * len(strings) + 65536:
            raise file.error("its symbols' names overlap")
        if section == SHN_XINDEX and number < len(large_indices):
            section = large_indices[number]
        symbols.append(SymbolRow(strings[start:end].decode(errors="replace"), value, size, info, visibility, section))
    return symbols


def relocations_of(file: ElfFile, index: int) -> Iterator[RelocationRow]:
    """Return the relocations of a section of type SHT_REL or SHT_RELA."""
    shift, mask = (32, 0xFFFFFFFF) if file.bits == 64 else (8, 0xFF)
    stated = file.headers[index].type == "SHT_RELA"
    for offset, info, *addend in file.rows(index, file.letter * 2 + file.letter.lower() * stated):
        yield RelocationRow(offset, info & mask, info >> shift, addend[0] if stated else None)


def packed_relocations(file: ElfFile) -> Iterator[int]:
    """Return the addresses that SHT_RELR relocates: its rows are an address, or bit maps of the words after it."""
    width = file.bits // 8
    place = 0
    for index in file.of_type("SHT_RELR"):
        for (row,) in file.rows(index, file.letter):
            if row & 1:
                yield from (place + bit * width for bit in range(file.bits - 1) if row >> bit + 1 & 1)
                place += (file.bits - 1) * width
            else:
                yield row
                place = row + width
