"""Refuse a damaged object before LLVM's JIT linker reads it: the linker asserts much of what it is given.

A failed assertion ends the process, and a relocation outside of its section writes into foreign memory. So what is not
as LLVM writes it for x86-64 and AArch64 is refused here (System V gABI, "Object Files"; the psABI of each).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.objects.elf import is_shared
from cpufeat.binary_format.elf import (
    EM_AARCH64,
    EM_X86_64,
    SHF_ALLOC,
    SHN_ABS,
    SHN_COMMON,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_FINI_ARRAY,
    SHT_GROUP,
    SHT_INIT_ARRAY,
    SHT_LLVM_ADDRSIG,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_PROGBITS,
    SHT_REL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    SHT_SYMTAB_SHNDX,
    SHT_X86_64_UNWIND,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
)
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.aot.objects.elf import Elf
    from cpufeat.binary_format.elf import Relocation, Section, Symbol

_STT_FILE = 4
_SECTION_TYPES = {
    *(SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_REL, SHT_NOTE, SHT_NOBITS, SHT_INIT_ARRAY, SHT_FINI_ARRAY),
    *(SHT_SYMTAB_SHNDX, SHT_GROUP, SHT_LLVM_ADDRSIG, SHT_X86_64_UNWIND),
}
"""Those that LLVM writes."""
_MAX_ALIGNMENT = 4096
"""Sections cannot be aligned to more than a page."""
_MAX_FRAME = 1 << 20
"""Bytes of a record of an unwind table."""
_MAX_ZEROS = 1 << 30
"""Bytes of zero-initialized data."""


class _Machine(NamedTuple):
    """The relocations of an architecture."""

    sizes: dict[int, int]
    """Type -> the bytes that it changes."""
    before: dict[int, int]
    """Type -> the bytes before its place that it may change as well: GOTPCRELX, REX_GOTPCRELX and the like."""
    pointers: tuple[int, ...]
    """The types for which the linker makes a pointer to the symbol."""


_MACHINES = {
    EM_X86_64: _Machine(
        {
            **dict.fromkeys((1, 24, 25, 27, 28, 29), 8),
            **dict.fromkeys((2, 4, 9, 10, 11, 26, 41, 42, 43), 4),
            0: 0,
            12: 2,
            13: 2,
            14: 1,
            15: 1,
        },
        {41: 2, 42: 3, 43: 4},
        (9, 27, 28, 41, 42, 43),
    ),
    EM_AARCH64: _Machine(
        {
            **dict.fromkeys((257, 260), 8),
            **dict.fromkeys((258, 261, *range(263, 281), *range(282, 287), 299, 309, 311, 312, 313, 314, 315), 4),
            0: 0,
            256: 0,
            259: 2,
            262: 2,
        },
        {},
        (309, 311, 312, 313),
    ),
}
"""e_machine -> its relocations, of which the psABIs have the names."""
_CIE = re.compile(rb"\x01z([PLRS]*)\0[\x00-\x7f]{4}", re.DOTALL)
"""The version, the augmentation, two alignments, the return register and the size of what follows, a byte each."""
_ENCODINGS = {**dict.fromkeys((0x00, 0x10, 0x04, 0x14, 0x0C, 0x1C), 8), **dict.fromkeys((0x03, 0x13, 0x0B, 0x1B), 4)}
"""DW_EH_PE_*: absolute or relative pointers -> their size."""
_INDIRECT = 0x80
"""DW_EH_PE_indirect."""


def check(elf: Elf) -> None:
    """Raise ArtifactError for an object that LLVM's JIT linker may not survive."""
    for find in (_in_sections, _in_symbols, _in_relocations, _in_frames):
        fault = next(find(elf), "")
        if fault:
            raise ArtifactError(f"a damaged object: {fault}")


def _in_sections(elf: Elf) -> Iterator[str]:
    flags: dict[bytes, int] = {}
    names = elf.names()
    if sum(section.type == SHT_SYMTAB for section in elf.sections) > 1:
        yield "it has several tables of symbols"
    if elf.sections and elf.sections[0][:4] != (0, 0, 0, 0):
        yield "its first section is not the empty one"
    for section in elf.sections[1:]:
        elf.content_of(section)
        end = names.find(b"\0", section.name)
        if end < 0 or section.name >= len(names):
            yield "a section's name lies outside of the table of names"
        if section.type not in _SECTION_TYPES:
            yield f"a section has the type {section.type:#x}"
        if section.addralign.bit_count() != 1 or section.addralign > _MAX_ALIGNMENT:
            yield f"a section is aligned to {section.addralign}"
        if section.addr:
            yield "a section has an address"
        if section.type == SHT_NOBITS and section.size > _MAX_ZEROS:
            yield "its zero-initialized data is too large"
        if flags.setdefault(names[section.name : end], section.flags) != section.flags:
            yield "sections of one name differ"


def _in_symbols(elf: Elf) -> Iterator[str]:
    seen: set[str] = set()
    symbols = elf.all_symbols()
    if symbols and any(symbols[0][2:]):
        yield "its first symbol is not the empty one"
    for symbol in symbols[1:]:
        if symbol.type == _STT_FILE and symbol.shndx == SHN_ABS and not is_shared(symbol):
            continue
        if symbol.binding not in (STB_LOCAL, STB_GLOBAL, STB_WEAK):
            yield f"the symbol {symbol.name} has the binding {symbol.binding}"
        if symbol.type not in (STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION):
            yield f"the symbol {symbol.name} has the type {symbol.type}"
        if is_shared(symbol) and (symbol.name in seen or not symbol.name):
            yield f"a symbol has no name, or {symbol.name} is there twice"
        seen.add(symbol.name)
        yield from _in_definition(elf, symbol)


def _in_definition(elf: Elf, symbol: Symbol) -> Iterator[str]:
    if symbol.shndx == SHN_UNDEF:
        if not is_shared(symbol):
            yield f"the local symbol {symbol.name} is undefined"
    elif symbol.shndx == SHN_ABS:
        if symbol.type == STT_FUNC:
            yield f"the function {symbol.name} is in no section"
    elif symbol.shndx == SHN_COMMON:
        if (symbol.type, symbol.binding) != (STT_OBJECT, STB_GLOBAL):
            yield f"the common symbol {symbol.name} has the type {symbol.type} and the binding {symbol.binding}"
        if symbol.value.bit_count() != 1 or symbol.value > _MAX_ALIGNMENT or symbol.size > _MAX_ZEROS:
            yield f"the common symbol {symbol.name} is too large, or its alignment is {symbol.value}"
    elif symbol.shndx >= min(len(elf.sections), SHN_LORESERVE):
        yield f"the symbol {symbol.name} is in a section that does not exist"
    elif symbol.value + symbol.size > elf.sections[symbol.shndx].size:
        yield f"the symbol {symbol.name} lies outside of its section"


def _in_relocations(elf: Elf) -> Iterator[str]:
    machine, symbols = _MACHINES.get(elf.header.machine), elf.all_symbols()
    for table in elf.sections:
        if table.type == SHT_REL:
            yield "it has relocations without addends"
        target = _target(elf, table) if table.type == SHT_RELA else None
        if target and machine:
            for row in elf.relocations(table):
                yield from _in_relocation(elf, machine, row, target, symbols)
        elif table.type == SHT_RELA and machine:
            yield "relocations are for a section that has no content"


def _in_relocation(
    elf: Elf, machine: _Machine, row: Relocation, target: Section, symbols: Sequence[Symbol]
) -> Iterator[str]:
    size = machine.sizes.get(row.type)
    if size is None:
        yield f"a relocation has the type {row.type}"
    elif not machine.before.get(row.type, 0) <= row.offset <= target.size - size:
        yield "a relocation lies outside of its section"
    elif row.symbol >= len(symbols) or (row.symbol == 0 and size):
        yield "a relocation refers to a symbol that does not exist"
    elif target.flags & SHF_ALLOC and not _is_loaded(elf, symbols[row.symbol]):
        yield "a relocation refers to a section that is not loaded"
    elif row.type in machine.pointers and not symbols[row.symbol].name:
        yield "a relocation asks for a pointer to a symbol without a name"


def _is_loaded(elf: Elf, symbol: Symbol) -> bool:
    """Whether a symbol is in a section that is loaded, or in another file."""
    special = symbol.shndx == SHN_UNDEF or symbol.shndx >= SHN_LORESERVE
    return special or bool(elf.sections[symbol.shndx].flags & SHF_ALLOC)


def _in_frames(elf: Elf) -> Iterator[str]:
    """Look at the unwind tables: each FDE must refer to a CIE before it, and to a function by a relocation."""
    for index, section in enumerate(elf.sections):
        if elf.names().startswith(b".eh_frame\0", section.name):
            tables = [table for table in elf.sections if table.type == SHT_RELA and table.info == index]
            relocated = {row.offset for table in tables for row in elf.relocations(table)}
            yield from _in_frame_records(bytes(elf.content_of(section)), elf.order, relocated)


def _in_frame_records(content: bytes, order: str, relocated: set[int]) -> Iterator[str]:
    word = struct.Struct(f"{order}I")
    common, at = set(), 0
    while at < len(content):
        length = word.unpack_from(content, at)[0] if at + 4 <= len(content) else _MAX_FRAME + 1
        if length and (length > _MAX_FRAME or length % 4 or length < 8 or at + 4 + length > len(content)):
            yield "a record of its unwind table has no possible length"
            return
        if length:
            (distance,) = word.unpack_from(content, at + 4)
            if not distance and not _is_known_cie(content[at + 8 : at + 4 + length]):
                yield "a CIE of its unwind table is of an unknown form"
            elif not distance:
                common.add(at)
            elif at + 4 - distance not in common or at + 8 not in relocated:
                yield "a record of its unwind table is of no function"
        at += 4 + length


def _is_known_cie(record: bytes) -> bool:
    """Whether a CIE, from its version on, is as LLVM writes them: ``zR``, ``zPLR``, and pointers of known encodings."""
    head = _CIE.match(record)
    if head is None:
        return False
    at = head.end()
    for name in head[1]:
        encoding = record[at] if at < len(record) else -1
        if name == ord("P"):
            at += _ENCODINGS.get(encoding & ~_INDIRECT, len(record))
        if name in b"PLR":
            at += 1
            if encoding & ~_INDIRECT not in _ENCODINGS:
                return False
    return at <= len(record)


def _target(elf: Elf, table: Section) -> Section | None:
    """Return the section that a table of relocations is for, None if it has no content."""
    target = elf.sections[table.info] if table.info < len(elf.sections) else None
    return None if target is None or target.type == SHT_NOBITS else target
