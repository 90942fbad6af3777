"""Whether a linked file has the sections of its objects where these must be.

A linker puts a section at a multiple of its ``sh_addralign``, unless a script tells it otherwise (``SUBALIGN``). Then
code for a target with AVX works, and the same code for plain x86-64 faults (wasmer #5496). A linked file does not say
where each section went, so pieces that linking leaves as they are, and symbols, are looked for in it; and the audit
looks for operands that will fault. Only linkers of ELF take scripts: other formats are left to the audit.
"""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from cpufeat.auditing.checks.alignment import misaligned
from cpufeat.auditing.formats.loader import images
from cpufeat.binary_format.elf import MAGIC
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from elftools.elf.sections import Section, Symbol

_ALLOCATED, _EXECUTABLE, _MERGED, _STRINGS = 2, 4, 0x10, 0x20
_RELAXED = ("EM_RISCV", "EM_LOONGARCH")
"""Whose linkers remove instructions, so that what follows in a section moves."""
_IFUNC = "STT_LOOS"
_REWRITTEN = ".eh_frame"
"""Linkers take it apart."""
_BEFORE, _AFTER = 4, 8
"""How many bytes before and after its place a relocation may change: x86-64's GOTPCRELX rewrites the opcode."""
_SHORTEST, _LONGEST = 16, 256
"""Bytes of a piece. A shorter one may be found by chance where it never was, and no operand that it is faults."""


class _Piece(NamedTuple):
    """Bytes that are ``offset`` bytes after a multiple of ``alignment``."""

    section: str
    alignment: int
    offset: int
    content: bytes


def faults(objects: Sequence[bytes], linked: bytes) -> list[str]:
    """Return what is misplaced in what was linked from objects, in words.

    What is not found, since the linker left it out or changed it, is not misplaced. Raises ArtifactError for a damaged
    file.
    """
    if not linked.startswith(MAGIC):
        return []
    try:
        whole = ELFFile(BytesIO(linked))
        sections = [fault for code in objects for fault in _faults(ELFFile(BytesIO(code)), whole)]
        is_x86 = whole["e_machine"] in ("EM_X86_64", "EM_386")
        return sections or (list(_misplaced_operands(objects, linked)) if is_x86 else [])
    except (ELFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ArtifactError(f"a damaged ELF file: {error}") from None


def shown_ifuncs(linked: bytes) -> list[str]:
    """Return the ``ifunc`` symbols that other files see. Raises ArtifactError for a damaged file."""
    try:
        table = ELFFile(BytesIO(linked)).get_section_by_name(".dynsym") if linked.startswith(MAGIC) else None
        symbols = table.iter_symbols() if isinstance(table, SymbolTableSection) else ()
        return [one.name for one in symbols if one["st_info"]["type"] == _IFUNC and one["st_shndx"] != "SHN_UNDEF"]
    except (ELFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ArtifactError(f"a damaged ELF file: {error}") from None


def _faults(own: ELFFile, whole: ELFFile) -> Iterator[str]:
    segments = [(segment["p_vaddr"], segment.data()) for segment in whole.iter_segments("PT_LOAD")]
    pieces = ((piece, _wrong_address(piece, segments)) for piece in dict.fromkeys(_pieces(own)))
    for (section, alignment, offset, _), address in pieces:
        if address is not None:
            yield f"section {section} must be at a multiple of {alignment}, and is at {address - offset:#x}"
    yield from _misplaced_symbols(own, whole)


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


def _pieces(own: ELFFile) -> Iterator[_Piece]:
    places, constants = _relocated(own), _referenced(own)
    for index, section in enumerate(own.iter_sections()):
        if _is_loaded(section) and section["sh_type"] == "SHT_PROGBITS" and section.name != _REWRITTEN:
            if section["sh_flags"] & _MERGED:
                pieces = _entries(section, constants.get(index, set()))
            else:
                pieces = _pieces_of(section, places.get(index, []), relaxed=_is_relaxed(own, section))
            yield from (piece for piece in pieces if len(piece.content) >= _SHORTEST)


def _entries(section: Section, referenced: set[int]) -> Iterator[_Piece]:
    """Yield the constants of a section that linkers may merge, but for those that they may leave out.

    What is left out may be found by chance, at any address, as a part of something else.
    """
    content, size = section.data(), section["sh_entsize"]
    if size and not section["sh_flags"] & _STRINGS:
        for at in sorted({offset // size * size for offset in referenced}):
            yield _Piece(section.name, gcd(section["sh_addralign"], size), 0, content[at : at + size])


def _pieces_of(section: Section, places: list[int], *, relaxed: bool) -> Iterator[_Piece]:
    content, alignment = section.data(), section["sh_addralign"]
    bounds = [-_AFTER, *sorted(places), len(content) + _BEFORE]
    runs = [(start + _AFTER, end - _BEFORE) for start, end in pairwise(bounds[:2] if relaxed else bounds)]
    start, end = max(runs, key=lambda run: run[1] - run[0])
    if start < end:
        yield _Piece(section.name, alignment, start % alignment, content[start : min(end, start + _LONGEST)])


def _relocated(own: ELFFile) -> dict[int, list[int]]:
    """Return where relocations change each section, by its index."""
    places: dict[int, list[int]] = {}
    for section in own.iter_sections():
        if isinstance(section, RelocationSection):
            found = (relocation["r_offset"] for relocation in section.iter_relocations())
            places.setdefault(section["sh_info"], []).extend(found)
    return places


def _referenced(own: ELFFile) -> dict[int, set[int]]:
    """Return the offsets of the symbols that relocations refer to, by the index of their section."""
    offsets: dict[int, set[int]] = {}
    for section in own.iter_sections():
        symbols = own.get_section(section["sh_link"])
        if isinstance(section, RelocationSection) and isinstance(symbols, SymbolTableSection):
            for number in {relocation["r_info_sym"] for relocation in section.iter_relocations()}:
                symbol = symbols.get_symbol(number)
                if symbol["st_info"]["type"] != "STT_SECTION":
                    offsets.setdefault(symbol["st_shndx"], set()).add(symbol["st_value"])
    return offsets


def _misplaced_symbols(own: ELFFile, whole: ELFFile) -> Iterator[str]:
    linked = _by_name(whole, ".symtab") or _by_name(whole, ".dynsym")
    for name, symbol in _by_name(own, ".symtab").items():
        section, there = own.get_section(symbol["st_shndx"]), linked.get(name)
        if there is None or there["st_info"]["type"] != symbol["st_info"]["type"] or not _is_loaded(section):
            continue
        address, alignment = there["st_value"] - symbol["st_value"], section["sh_addralign"]
        if address % alignment and not _is_relaxed(own, section):
            yield f"section {section.name}, with {name}, must be at a multiple of {alignment}, and is at {address:#x}"


def _misplaced_operands(objects: Sequence[bytes], linked: bytes) -> Iterator[str]:
    """Yield which instructions of the objects' functions will fault. What else was linked is not judged here."""
    own = {function.name for code in objects for image in images(code) for function in image.functions}
    for image in images(linked):
        for fault in misaligned(image):
            if fault.function in own - {""}:
                where = f"{fault.instruction} at {fault.address:#x} in {fault.function}"
                yield f"{where} needs a multiple of {fault.needs}, and {fault.symbol} is at {fault.operand:#x}"


def _by_name(elf: ELFFile, table: str) -> dict[str, Symbol]:
    """Return the functions and data that are defined for other files: no two have one name."""
    section = elf.get_section_by_name(table)
    symbols = section.iter_symbols() if isinstance(section, SymbolTableSection) else ()
    kinds = ("STT_OBJECT",) if elf["e_machine"] == "EM_ARM" else ("STT_OBJECT", "STT_FUNC")  # Thumb: an odd address
    return {
        symbol.name: symbol
        for symbol in symbols
        if symbol["st_info"]["type"] in kinds
        and symbol["st_info"]["bind"] == "STB_GLOBAL"
        and isinstance(symbol["st_shndx"], int)
    }


def _is_loaded(section: Section) -> bool:
    return bool(section["sh_flags"] & _ALLOCATED) and section["sh_addralign"] > 1


def _is_relaxed(own: ELFFile, section: Section) -> bool:
    return own["e_machine"] in _RELAXED and bool(section["sh_flags"] & _EXECUTABLE)
