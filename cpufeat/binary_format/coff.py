"""Read the headers of COFF objects and PE files (Microsoft's "PE Format").

The rows have that document's fields. Offsets and sizes are bytes.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PE_MAGIC = b"MZ"
MACHINES = (0x14C, 0x8664, 0x1C4, 0xAA64, 0xA641)
"""IMAGE_FILE_MACHINE_I386, AMD64, ARMNT, ARM64, ARM64EC."""
ANONYMOUS = b"\0\0\xff\xff"
"""IMAGE_FILE_MACHINE_UNKNOWN and 0xFFFF: the start of an import object, and of an object of many sections (/bigobj)."""
RELOCATION_SIZE, IMPORT_OBJECT_SIZE = 10, 20
_PE_HEADER_AT, _SIGNATURE = 0x3C, b"PE\0\0"
_DIRECTORIES_AT = {0x10B: 96, 0x20B: 112}
"""The magic of the optional header -> the offset of the data directories in it; their number is right before them."""


class FileHeader(NamedTuple):
    """The header of an object; in a PE file it follows the signature."""

    machine: int
    sections: int
    time: int
    symbols_at: int
    symbols: int
    optional_size: int
    characteristics: int


class Section(NamedTuple):
    """A section header."""

    name: bytes
    virtual_size: int
    address: int
    size: int
    at: int
    relocations_at: int
    lines_at: int
    relocations: int
    lines: int
    characteristics: int


class ImportObject(NamedTuple):
    """The header of a member of an import library, which names a function of a DLL and holds no code."""

    signatures: int
    version: int
    machine: int
    time: int
    size: int
    """The size of the two names that follow."""
    hint: int
    kind: int


class Headers(NamedTuple):
    """All headers of a file."""

    file: FileHeader
    sections: list[Section]
    end: int
    """The offset after the last of them."""
    optional: bytes
    """The optional header, which PE files have."""
    symbol_size: int
    """The size of a row of the table of symbols."""

    def directory(self, index: int) -> tuple[int, int]:
        """Return the address and size of a data directory, relative to the image base; 0 and 0 without it."""
        magic = int.from_bytes(self.optional[:2], "little")
        first = _DIRECTORIES_AT.get(magic, len(self.optional))
        count = int.from_bytes(self.optional[first - 4 : first], "little")
        row = self.optional[first + 8 * index : first + 8 * index + 8]
        if index >= count or len(row) < 8:
            return 0, 0
        return int.from_bytes(row[:4], "little"), int.from_bytes(row[4:], "little")

    def offsets_of(self, addresses: Iterable[int]) -> Iterator[int]:
        """Yield the offset in the file of each address, relative to the image base, that is in the file."""
        sections = sorted(self.sections, key=lambda section: section.address)
        starts = [section.address for section in sections]
        for address in addresses:
            section = sections[bisect_right(starts, address) - 1] if sections else None
            if section and section.address <= address < section.address + section.size:
                yield section.at + address - section.address


FILE_HEADER, SECTION = struct.Struct("<2H3I2H"), struct.Struct("<8s6I2HI")
_EXPORTS = struct.Struct("<24x4I")
"""The last four fields of the export directory table: the number of names, and three addresses."""
_IMPORT_OBJECT, _BIG_HEADER = struct.Struct("<I2H2I2H"), struct.Struct("<I2HI16x16x3I")
_SYMBOL_SIZE, _BIG_SYMBOL_SIZE = 18, 20


def headers(content: bytes, damaged: Callable[[str], Exception]) -> Headers:
    """Return the headers of an object or a PE file; raise what ``damaged`` makes of the reason why there are none."""
    try:
        start, symbol_size, optional = 0, _SYMBOL_SIZE, b""
        if content.startswith(ANONYMOUS):
            _, _, machine, time, count, symbols_at, symbols = _BIG_HEADER.unpack_from(content)
            header, first = FileHeader(machine, count, time, symbols_at, symbols, 0, 0), _BIG_HEADER.size
            symbol_size = _BIG_SYMBOL_SIZE
        else:
            if content.startswith(PE_MAGIC):
                (start,) = struct.unpack_from("<I", content, _PE_HEADER_AT)
                if content[start : start + len(_SIGNATURE)] != _SIGNATURE:
                    raise damaged("it has no PE header")
                start += len(_SIGNATURE)
            header = FileHeader(*FILE_HEADER.unpack_from(content, start))
            first = start + FILE_HEADER.size + header.optional_size
            optional = content[start + FILE_HEADER.size : first]
        end = first + header.sections * SECTION.size
        if end > len(content):
            raise damaged("its section headers lie outside of it")
    except struct.error as error:
        raise damaged(str(error)) from None
    sections = [Section(*row) for row in SECTION.iter_unpack(content[first:end])]
    return Headers(header, sections, end, optional, symbol_size)


def symbol_names(content: bytes, file: Headers) -> tuple[bytes, list[int]]:
    """Return the table of strings, and the offset of each long name of a symbol or section in it."""
    start, count, size = file.file.symbols_at, file.file.symbols, file.symbol_size
    strings, starts, index = content[start + count * size :], [], 0
    while start and index < count:
        row = content[start + index * size : start + (index + 1) * size]
        if len(row) < size:
            break
        if row[:4] == bytes(4):
            starts.append(int.from_bytes(row[4:8], "little"))
        index += 1 + row[-1]
    names = [section.name.rstrip(b"\0") for section in file.sections]
    return strings, starts + [int(name[1:]) for name in names if name[1:].isdigit() and name.startswith(b"/")]


def export_names(content: bytes, file: Headers) -> list[int]:
    """Return the offset in a PE file of each name that it exports (section "The .edata Section")."""
    directory = next(file.offsets_of([file.directory(0)[0]]), len(content))
    table = content[directory : directory + _EXPORTS.size]
    if len(table) < _EXPORTS.size:
        return []
    count, _, names_address, _ = _EXPORTS.unpack(table)
    at = next(file.offsets_of([names_address]), len(content))
    addresses = content[at : at + 4 * count]
    return list(file.offsets_of(row[0] for row in struct.iter_unpack("<I", addresses[: len(addresses) // 4 * 4])))


def import_object(content: bytes) -> ImportObject | None:
    """Return the header of an import object, None for any other file (section "Import Library Format")."""
    if not content.startswith(ANONYMOUS) or len(content) < _IMPORT_OBJECT.size:
        return None
    header = ImportObject(*_IMPORT_OBJECT.unpack_from(content))
    return header if header.version == 0 else None
