"""Read the dynamic section of a linked ELF file, which is all that the loader reads (System V gABI, chapter 5).

It names the same tables as the section headers do, which a program need not have.
"""

from __future__ import annotations

from itertools import takewhile

from cpufeat.binary_format.elf import (
    PT_DYNAMIC,
    PT_LOAD,
    SHT_DYNSYM,
    SHT_PROGBITS,
    SHT_REL,
    SHT_RELA,
    SHT_RELR,
    SHT_STRTAB,
    Section,
)
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cpufeat.binary_format.elf import Elf, Segment

DT_INIT, DT_FINI = 12, 13
DT_FLAGS_1, DF_1_PIE = 0x6FFFFFFB, 0x08000000
INIT_ARRAYS, FINI_ARRAYS = ((32, 33), (25, 27)), ((26, 28),)
"""The tags of the address and size of DT_PREINIT_ARRAY, DT_INIT_ARRAY, and DT_FINI_ARRAY."""
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_GNU_HASH = 0, 4, 5, 6, 10, 0x6FFFFEF5
_DT_PLTREL, _DT_JMPREL, _DT_PLTRELSZ = 20, 23, 2
_DT_SONAME, _LONGEST_TEXT = 14, 4096
_SYMBOL_SIZE = {32: 16, 64: 24}
_RELOCATIONS = ((7, 8, SHT_RELA), (17, 18, SHT_REL), (36, 35, SHT_RELR))
"""The tags of the address and size of tables of relocations, and the type that a section of them has."""


def values(elf: Elf) -> dict[int, int]:
    """Return the value of each tag of the dynamic section, the last one of a tag that occurs several times."""
    return dict(rows(elf))


def rows(elf: Elf) -> Iterator[tuple[int, int]]:
    """Yield the tag and value of each row of the dynamic section."""
    for segment in elf.segments:
        if segment.type == PT_DYNAMIC:
            table = elf.rows(_headless(elf, SHT_PROGBITS, segment.vaddr, segment.filesz), elf.word * 2)
            yield from ((tag, value) for tag, value in takewhile(lambda row: row[0] != _DT_NULL, table))


def tables(elf: Elf, dynamic: Mapping[int, int], first: int) -> list[Section]:
    """Return headers for the tables that a dynamic section names: strings, symbols, relocations.

    ``first``: the index that the first of them will have, for the links between them.
    """
    strings = _headless(elf, SHT_STRTAB, dynamic.get(_DT_STRTAB, 0), dynamic.get(_DT_STRSZ, 0))
    size = _symbol_count(elf, dynamic) * _SYMBOL_SIZE[elf.bits]
    symbols = _headless(elf, SHT_DYNSYM, dynamic.get(_DT_SYMTAB, 0), size)
    plt_type = SHT_RELA if dynamic.get(_DT_PLTREL) == _RELOCATIONS[0][0] else SHT_REL
    relocations = [
        _headless(elf, kind, dynamic[address], dynamic[size])
        for address, size, kind in (*_RELOCATIONS, (_DT_JMPREL, _DT_PLTRELSZ, plt_type))
        if address in dynamic and size in dynamic
    ]
    return [
        strings,
        symbols._replace(link=first),
        *(table._replace(link=first + 1 if table.type != SHT_RELR else 0) for table in relocations),
    ]


def library_name(elf: Elf, dynamic: Mapping[int, int]) -> str:
    """Return the name by which programs ask for a library (DT_SONAME), empty if it has none."""
    return text(elf, dynamic, dynamic[_DT_SONAME]) if _DT_SONAME in dynamic else ""


def text(elf: Elf, dynamic: Mapping[int, int], offset: int) -> str:
    """Return a name or path at an offset in the strings that a dynamic section names, empty if there are none."""
    if _DT_STRTAB not in dynamic:
        return ""
    found = bytes(bytes_at(elf, dynamic[_DT_STRTAB] + offset, _LONGEST_TEXT))
    return found.partition(b"\0")[0].decode(errors="surrogateescape")


def bytes_at(elf: Elf, address: int, size: int | None = None) -> memoryview:
    """Return the bytes of the file that are loaded at an address, up to the end of its segment."""
    for segment in _loaded(elf):
        if segment.vaddr <= address < segment.vaddr + segment.filesz:
            start, end = segment.offset + address - segment.vaddr, segment.offset + segment.filesz
            return memoryview(elf.content)[start : end if size is None else min(end, start + size)]
    return memoryview(b"")


def _loaded(elf: Elf) -> Iterator[Segment]:
    return (segment for segment in elf.segments if segment.type == PT_LOAD)


def _headless(elf: Elf, kind: int, address: int, size: int) -> Section:
    """Return a header for a table at an address; an empty one if the file does not load it."""
    for segment in _loaded(elf):
        if segment.vaddr <= address < segment.vaddr + segment.filesz:
            return Section(0, kind, 0, address, segment.offset + address - segment.vaddr, size, 0, 0, 1, 0)
    return Section(0, kind, 0, 0, 0, 0, 0, 0, 1, 0)


def _symbol_count(elf: Elf, dynamic: Mapping[int, int]) -> int:
    """Return the number of rows of the table of symbols, which only its hash tables tell."""
    word = {"<": "little", ">": "big"}[elf.order]

    def number(table: memoryview, index: int) -> int:
        return int.from_bytes(table[4 * index : 4 * index + 4], word)  # type: ignore[arg-type]

    if _DT_HASH in dynamic:
        return number(bytes_at(elf, dynamic[_DT_HASH], 8), 1)
    if _DT_GNU_HASH not in dynamic:
        return 0
    table = bytes_at(elf, dynamic[_DT_GNU_HASH])
    buckets, first, filters = (number(table, index) for index in range(3))
    chains = 4 + filters * elf.bits // 32 + buckets
    last = max((number(table, index) for index in range(chains - buckets, min(chains, len(table) // 4))), default=0)
    if last < first:
        return first
    while 4 * (chains + last - first) + 4 <= len(table) and not number(table, chains + last - first) & 1:
        last += 1
    return last + 1
