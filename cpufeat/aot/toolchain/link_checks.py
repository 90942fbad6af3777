"""Find what makes :mod:`.linker` refuse a linked file: sections that lost their alignment, and exported ifuncs.

A linker puts a section at a multiple of its ``sh_addralign``, unless a script tells it otherwise (``SUBALIGN``). Then
code for a target with AVX works, and the same code for plain x86-64 faults (wasmer #5496). A linked file does not say
where each section went, so its symbols and pieces that linking leaves unchanged are looked up in it; and the audit
looks for operands that will fault. Only linkers of ELF take scripts: other formats are left to the audit.
"""

from __future__ import annotations

from itertools import chain, pairwise
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.objects.elf import Elf
from cpufeat.auditing.checks.alignment import misaligned
from cpufeat.auditing.formats.loader import images
from cpufeat.binary_format.elf import (
    EM_386,
    EM_ARM,
    EM_LOONGARCH,
    EM_RISCV,
    EM_X86_64,
    MAGIC,
    PT_LOAD,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_MERGE,
    SHF_STRINGS,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_DYNSYM,
    SHT_PROGBITS,
    SHT_REL,
    SHT_RELA,
    SHT_SYMTAB,
    STB_GLOBAL,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_OBJECT,
    STT_SECTION,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cpufeat.binary_format.elf import Section, Symbol

_RELAXING = (EM_RISCV, EM_LOONGARCH)
"""Architectures whose linkers remove instructions, so that what follows in a section moves."""
_REWRITTEN = b".eh_frame"
"""A section that linkers take apart."""
_BEFORE, _AFTER = 4, 8
"""The bytes before and after its place that a relocation may change: x86-64's GOTPCRELX rewrites the opcode."""
_MIN_PIECE, _MAX_PIECE = 16, 256
"""Bytes. A shorter piece may be found by chance where it never was, and no operand of that size faults."""


class _Piece(NamedTuple):
    """Bytes that are ``offset`` bytes after a multiple of ``alignment``."""

    section: str
    alignment: int
    offset: int
    content: bytes


def faults(objects: Sequence[bytes], linked: bytes) -> list[str]:
    """Return the faults of a file that was linked from objects, a sentence each.

    What is not found, since the linker left it out or changed it, does not count. Raises ArtifactError for a damaged
    file.
    """
    if not linked.startswith(MAGIC):
        return []
    whole = Elf(linked)
    sections = [fault for content in objects for fault in _misplaced_sections(Elf(content), whole)]
    is_x86 = whole.header.machine in (EM_X86_64, EM_386)
    return sections or (list(_misplaced_operands(objects, linked)) if is_x86 else [])


def exported_ifuncs(linked: bytes) -> list[str]:
    """Return the ``ifunc`` symbols that other files see. Raises ArtifactError for a damaged file."""
    if not linked.startswith(MAGIC):
        return []
    symbols = _symbols(Elf(linked), SHT_DYNSYM)
    return [symbol.name for symbol in symbols if symbol.type == STT_GNU_IFUNC and symbol.shndx != SHN_UNDEF]


def _symbols(elf: Elf, kind: int) -> list[Symbol]:
    tables = (index for index, section in enumerate(elf.sections) if section.type == kind)
    return list(chain.from_iterable(map(elf.symbols, tables)))


def _misplaced_sections(object_: Elf, whole: Elf) -> Iterator[str]:
    loaded = (segment for segment in whole.segments if segment.type == PT_LOAD)
    segments = [(segment.vaddr, whole.content[segment.offset : segment.offset + segment.filesz]) for segment in loaded]
    for piece in dict.fromkeys(_pieces(object_)):
        address = _wrong_address(piece, segments)
        if address is not None:
            at = f"{address - piece.offset:#x}"
            yield f"section {piece.section} must be at a multiple of {piece.alignment}, and is at {at}"
    yield from _misplaced_symbols(object_, whole)


def _wrong_address(piece: _Piece, segments: Iterable[tuple[int, bytes]]) -> int | None:
    """Return the first address of a piece, None if it is at a right one as well, or nowhere."""
    wrong = None
    for start, content in segments:
        at = content.find(piece.content)
        while at >= 0:
            if (start + at - piece.offset) % piece.alignment == 0:
                return None
            wrong = start + at if wrong is None else wrong
            at = content.find(piece.content, at + 1)
    return wrong


def _pieces(object_: Elf) -> Iterator[_Piece]:
    relocated, referenced = _relocated(object_), _referenced(object_)
    for index, section in enumerate(object_.sections):
        name = _name(object_, section)
        if not _is_aligned(section) or section.type != SHT_PROGBITS or name == _REWRITTEN:
            continue
        label, content = name.decode(errors="replace"), bytes(object_.content_of(section))
        if section.flags & SHF_MERGE:
            pieces = _entries(section, label, content, referenced.get(index, set()))
        else:
            pieces = _longest_run(
                section, label, content, relocated.get(index, []), relaxed=_is_relaxed(object_, section)
            )
        yield from (piece for piece in pieces if len(piece.content) >= _MIN_PIECE)


def _name(elf: Elf, section: Section) -> bytes:
    names = elf.names()
    return names[section.name : names.find(b"\0", section.name)]


def _entries(section: Section, label: str, content: bytes, referenced: set[int]) -> Iterator[_Piece]:
    """Yield the constants of a section that linkers may merge, but for those that they may leave out.

    What is left out may be found by chance, at any address, as a part of something else.
    """
    size = section.entsize
    if size and not section.flags & SHF_STRINGS:
        for at in sorted({offset // size * size for offset in referenced}):
            yield _Piece(label, gcd(section.addralign, size), 0, content[at : at + size])


def _longest_run(section: Section, label: str, content: bytes, places: list[int], *, relaxed: bool) -> Iterator[_Piece]:
    """Yield the longest part of a section that no relocation changes; in relaxed code, the part before the first."""
    bounds = [-_AFTER, *sorted(places), len(content) + _BEFORE]
    runs = [(start + _AFTER, end - _BEFORE) for start, end in pairwise(bounds[:2] if relaxed else bounds)]
    start, end = max(runs, key=lambda run: run[1] - run[0])
    if start < end:
        alignment = section.addralign
        yield _Piece(label, alignment, start % alignment, content[start : min(end, start + _MAX_PIECE)])


def _relocated(object_: Elf) -> dict[int, list[int]]:
    """Return the offsets at which relocations change each section, by its index."""
    places: dict[int, list[int]] = {}
    for section in object_.sections:
        if section.type in (SHT_REL, SHT_RELA):
            offsets = (relocation.offset for relocation in object_.relocations(section))
            places.setdefault(section.info, []).extend(offsets)
    return places


def _referenced(object_: Elf) -> dict[int, set[int]]:
    """Return the offsets of the symbols that relocations refer to, by the index of their section."""
    tables = {
        index: object_.symbols(index) for index, section in enumerate(object_.sections) if section.type == SHT_SYMTAB
    }
    offsets: dict[int, set[int]] = {}
    for section in object_.sections:
        if section.type in (SHT_REL, SHT_RELA) and section.link in tables:
            symbols = tables[section.link]
            for number in {relocation.symbol for relocation in object_.relocations(section)}:
                if number >= len(symbols):
                    raise object_.damaged("a relocation refers to a symbol that does not exist")
                if symbols[number].type != STT_SECTION:
                    offsets.setdefault(symbols[number].shndx, set()).add(symbols[number].value)
    return offsets


def _misplaced_symbols(object_: Elf, whole: Elf) -> Iterator[str]:
    linked = _by_name(whole, SHT_SYMTAB) or _by_name(whole, SHT_DYNSYM)
    for name, symbol in _by_name(object_, SHT_SYMTAB).items():
        if symbol.shndx >= len(object_.sections):
            raise object_.damaged("a symbol is in a section that does not exist")
        section, linked_symbol = object_.sections[symbol.shndx], linked.get(name)
        if linked_symbol is None or linked_symbol.type != symbol.type or not _is_aligned(section):
            continue
        address, alignment = linked_symbol.value - symbol.value, section.addralign
        if address % alignment and not _is_relaxed(object_, section):
            label = _name(object_, section).decode(errors="replace")
            yield f"section {label}, with {name}, must be at a multiple of {alignment}, and is at {address:#x}"


def _misplaced_operands(objects: Sequence[bytes], linked: bytes) -> Iterator[str]:
    """Yield which instructions of the objects' functions will fault. Code of other files is not judged here."""
    compiled = {function.name for content in objects for image in images(content) for function in image.functions}
    for image in images(linked):
        for fault in misaligned(image):
            if fault.function in compiled - {""}:
                operand = f"{fault.instruction} at {fault.address:#x} in {fault.function}"
                yield f"{operand} needs a multiple of {fault.needs}, and {fault.symbol} is at {fault.operand:#x}"


def _by_name(elf: Elf, kind: int) -> dict[str, Symbol]:
    """Return the functions and data that are defined for other files: no two have one name."""
    types = (STT_OBJECT,) if elf.header.machine == EM_ARM else (STT_OBJECT, STT_FUNC)  # Thumb: an odd address
    return {
        symbol.name: symbol
        for symbol in _symbols(elf, kind)
        if symbol.type in types and symbol.binding == STB_GLOBAL and SHN_UNDEF < symbol.shndx < SHN_LORESERVE
    }


def _is_aligned(section: Section) -> bool:
    return bool(section.flags & SHF_ALLOC) and section.addralign > 1


def _is_relaxed(object_: Elf, section: Section) -> bool:
    return object_.header.machine in _RELAXING and bool(section.flags & SHF_EXECINSTR)
