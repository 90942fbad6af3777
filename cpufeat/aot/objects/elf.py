"""Change ELF files: add a section, rename and replace sections, redefine symbols."""

from __future__ import annotations

import copy
import struct

from cpufeat.binary_format import elf
from cpufeat.binary_format.elf import SHN_LORESERVE, SHT_SYMTAB, SYMBOL, Section, Symbol
from cpufeat.errors import ArtifactError

_STV_DEFAULT, _STV_PROTECTED = 0, 3


def _damaged(damage: str) -> ArtifactError:
    return ArtifactError(f"a damaged ELF file: {damage}")


class Elf(elf.Elf):
    """An ELF file of either class and byte order. All methods raise ArtifactError for a damaged one."""

    def __init__(self, content: bytes) -> None:
        """Read the headers. Raises ArtifactError for a file of another format."""
        if not content.startswith(elf.MAGIC):
            raise ArtifactError("not an ELF file")
        super().__init__(content, _damaged)
        self._new_names: bytes | None = None

    def names(self) -> bytes:
        """Return the names of all sections, each ended by a NUL."""
        return super().names() if self._new_names is None else self._new_names

    def edited(self, content: bytes, sections: list[Section], names: bytes) -> Elf:
        """Return the file with other content, section headers and names, which :meth:`to_bytes` will append."""
        edited = copy.copy(self)
        edited.content, edited.sections, edited._new_names = content, sections, names
        return edited

    def with_section(self, name: bytes, kind: int, flags: int, content: bytes, alignment: int) -> Elf:
        """Return the file with one more section, and everything else in its place."""
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
        is_extended = len(sections) >= SHN_LORESERVE
        sections[0] = sections[0]._replace(size=len(sections) if is_extended else 0)
        at = append(out, b"".join(self.section_header.pack(*section) for section in sections), 8)
        self.file_header.pack_into(out, 0, *self.header._replace(shoff=at, shnum=0 if is_extended else len(sections)))
        return bytes(out)

    def all_symbols(self) -> list[Symbol]:
        """Return the symbols of all SHT_SYMTAB tables, in order."""
        tables = [index for index, section in enumerate(self.sections) if section.type == SHT_SYMTAB]
        return [symbol for index in tables for symbol in self.symbols(index)]

    def define(self, body: bytearray, symbol: Symbol, definition: Symbol, kind: int) -> None:
        """Redefine a symbol, in a copy of the file, as another name of ``definition``, with the type ``kind``."""
        layout, order = SYMBOL[self.bits]
        entry = struct.Struct(self.order + layout)
        row = list(entry.unpack_from(body, symbol.at))
        fields = (symbol.info & ~0xF | kind, symbol.other, definition.shndx, definition.value, definition.size)
        for position, value in zip(order[1:], fields, strict=True):
            row[position] = value
        entry.pack_into(body, symbol.at, *row)


def is_shared(symbol: Symbol) -> bool:
    """Whether other objects can refer to a symbol, or define it."""
    return symbol.binding in (elf.STB_GLOBAL, elf.STB_WEAK, elf.STB_GNU_UNIQUE)


def is_exported(symbol: Symbol) -> bool:
    """Whether a file linked from this object has the symbol for others."""
    return is_shared(symbol) and symbol.shndx > 0 and symbol.other & 3 in (_STV_DEFAULT, _STV_PROTECTED)


def append(out: bytearray, content: bytes, alignment: int) -> int:
    """Append to a file, after padding it, and return at which offset."""
    out.extend(bytes(-len(out) % alignment))
    out.extend(content)
    return len(out) - len(content)
