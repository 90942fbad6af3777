"""Read the image of a Mach-O file, with lief (Apple's ``mach-o/loader.h`` and ``reloc.h``)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from cpufeat.auditing.formats.eh_frame import UnwindTable
from cpufeat.auditing.formats.function_bounds import functions
from cpufeat.auditing.formats.image import (
    ENTRY,
    FINALISER,
    INITIALISER,
    INTERPOSED,
    RUN_TIME,
    THREAD_DATA,
    UNWINDER,
    Image,
    Section,
    Symbol,
    WayIn,
)
from cpufeat.auditing.formats.lief_reader import read_by_lief, text
from cpufeat.auditing.formats.relocation import Fixup, Layout, PatchedSection, section_at, word_at
from cpufeat.auditing.formats.relocation_aarch64 import BRANCH26, OFFSET12, PAGE21
from cpufeat.binary_format.macho import MAGICS, Macho
from cpufeat.binary_format.names import cost_too_much
from cpufeat.errors import AuditError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

_ARCHITECTURES = {"X86_64": "x86_64", "X86": "i686", "ARM64": "aarch64", "ARM": "arm"}
_KINDS = {"OBJECT": "object", "EXECUTE": "executable"}
_DEBUG_SEGMENTS = ("__DWARF", "__LD")
_CODE = 0x80000400
"""S_ATTR_PURE_INSTRUCTIONS, S_ATTR_SOME_INSTRUCTIONS."""
_ARRAYS = {
    0x9: INITIALISER,  # S_MOD_INIT_FUNC_POINTERS
    0xA: FINALISER,  # S_MOD_TERM_FUNC_POINTERS
    0xD: INTERPOSED,  # S_INTERPOSING
    0x11: THREAD_DATA,  # S_THREAD_LOCAL_REGULAR
    0x15: INITIALISER,  # S_THREAD_LOCAL_INIT_FUNCTION_POINTERS
}
"""How the pointers of a section are used, by its type."""
_INITIALISER_OFFSETS = 0x16
"""S_INIT_FUNC_OFFSETS: 32-bit distances from the image's base."""
_OBJECTIVE_C, _METHODS = "__objc_", "__objc_methlist"
"""Sections that the Objective-C run time reads; in the second, functions are at 32-bit distances from their place."""
_UNWIND_INFO, _COMPACT_UNWIND, _COMPACT_ENTRY, _PERSONALITY = "__unwind_info", "__compact_unwind", 32, 16
"""Sections of personality routines, of linked files and of objects; the size of an entry of the latter, and where in it
the routine is (``mach-o/compact_unwind_encoding.h``)."""
_ZEROS = ("ZEROFILL", "GB_ZEROFILL", "THREAD_LOCAL_ZEROFILL")
_TYPE, _ZEROFILL_TYPES = 0xFF, (0x1, 0xC, 0x12)
"""SECTION_TYPE, and the numbers of the same types."""
_RELOCATION_SIZE = 8
_MAX_ALIGNMENT = 15
"""The largest exponent of two that ld64 and lld accept."""
_DEBUGGING, _KIND, _IN_SECTION, _EXTERNAL, _PRIVATE_EXTERNAL = 0xE0, 0x0E, 0x0E, 0x01, 0x10
"""N_STAB, N_TYPE, N_SECT, N_EXT, N_PEXT."""

_RELOCATION_TYPES = {
    "x86_64": (
        *("UNSIGNED", "SIGNED", "BRANCH", "GOT_LOAD", "GOT", "SUBTRACTOR"),
        *("SIGNED_1", "SIGNED_2", "SIGNED_4", "TLV"),
    ),
    "aarch64": (
        *("UNSIGNED", "SUBTRACTOR", "BRANCH26", "PAGE21", "PAGEOFF12", "GOT_LOAD_PAGE21", "GOT_LOAD_PAGEOFF12"),
        *("POINTER_TO_GOT", "TLVP_LOAD_PAGE21", "TLVP_LOAD_PAGEOFF12", "ADDEND"),
    ),
}
"""The types of relocations by number, without the architecture's prefix (``x86_64/reloc.h``, ``arm64/reloc.h``)."""
_SECTION_START = "ltmp"
"""The prefix of the symbols that LLVM defines at the start of each section of an AArch64 object."""

_FIXUPS = {
    "UNSIGNED": Fixup(64),
    "SIGNED": Fixup(32, relative=True, bias=-4),
    "SIGNED_1": Fixup(32, relative=True, bias=-4),
    "SIGNED_2": Fixup(32, relative=True, bias=-4),
    "SIGNED_4": Fixup(32, relative=True, bias=-4),
    "BRANCH": Fixup(32, relative=True, bias=-4),
    "GOT_LOAD": Fixup(32, relative=True, slot=True, bias=-4),
    "GOT": Fixup(32, relative=True, slot=True, bias=-4),
    "TLV": Fixup(32, relative=True, slot=True, bias=-4),
    "BRANCH26": Fixup(field=BRANCH26),
    "PAGE21": Fixup(field=PAGE21),
    "PAGEOFF12": Fixup(field=OFFSET12),
    "GOT_LOAD_PAGE21": Fixup(slot=True, field=PAGE21),
    "GOT_LOAD_PAGEOFF12": Fixup(slot=True, field=OFFSET12),
    "TLVP_LOAD_PAGE21": Fixup(slot=True, field=PAGE21),
    "TLVP_LOAD_PAGEOFF12": Fixup(slot=True, field=OFFSET12),
}
"""Types of relocations in objects, and how each stores an address. The implicit addend has what SIGNED_1 and the like
add to the distance."""


def is_macho(content: bytes) -> bool:
    """Whether a file's first bytes are those of a Mach-O file of one architecture."""
    return content[:4] in MAGICS


def macho_image(content: bytes, name: str) -> Image:
    """Return the image of a Mach-O file of one architecture. Raises AuditError for a damaged one."""
    return read_by_lief(content, name, "Mach-O file", _parse, _image)


def _parse(lief: Any, content: bytes) -> Any:
    _check(content)
    parsed = lief.MachO.parse(content, lief.MachO.ParserConfig.deep)
    return parsed.at(0) if parsed else None


def _check(content: bytes) -> None:
    """Raise ValueError for what would cost much more than a sound file of this size, also to parse."""
    file = Macho(content, ValueError)
    sections = list(file.sections())
    stored = [section for section in sections if section.flags & _TYPE not in _ZEROFILL_TYPES]
    for parts in (stored, list(file.segments())):
        if sum(part.size for part in parts) > 2 * len(content):
            raise ValueError("its sections overlap")
    if sum(section.relocations for section in sections) * _RELOCATION_SIZE > 2 * len(content):
        raise ValueError("its relocations overlap")
    if cost_too_much(*file.symbol_names()):
        raise ValueError("its names overlap, or are too long")


def _image(binary: Any, content: memoryview, name: str) -> Image:
    arch = _architecture(binary)
    bits = 64 if binary.header.is_64bit else 32
    kind = _KINDS.get(_name(binary.header.file_type), "library")
    parts = [section for section in binary.sections if text(section.segment_name) not in _DEBUG_SEGMENTS]
    sections = sorted((_section(section, content, name) for section in parts), key=lambda section: section.address)
    layout = Layout((), bits // 8, above=max((section.end for section in sections), default=0))
    if kind == "object":
        sections = _linked_object(binary, content, parts, sections, layout)
    else:
        layout.pointers.update(_pointers(binary, sections, layout, bits // 8))
    symbols = tuple(_symbols(binary, sections))
    base = binary.imagebase
    entry = binary.entrypoint if kind == "executable" and binary.has_entrypoint else None
    starts = [base + start for start in binary.function_starts.functions] if binary.has_function_starts else []
    image = Image(
        name=name,
        format="Mach-O",
        arch=arch,
        bits=bits,
        kind=kind,
        sections=tuple(sections),
        symbols=symbols,
        functions=functions(sections, symbols, ((start, start) for start in starts)),
        data=tuple(
            sorted((base + entry.offset, base + entry.offset + entry.length) for entry in _data_entries(binary))
        ),
        pointers=layout.pointers,
        externals=layout.externals,
        entry=entry,
    )
    tells_references = arch == "x86_64" and kind != "object"
    return image.replace(ways_in=dict(_ways_in(binary, content, image)), tells_references=tells_references)


def _ways_in(binary: Any, content: memoryview, image: Image) -> Iterator[tuple[int, WayIn]]:
    """Yield the addresses that dyld, the unwinder or a run time comes to by itself; the last way counts."""
    for part in binary.sections:
        routines = _of_object(binary, content, part) if image.kind == "object" else _personalities(part, image)
        yield from ((routine, UNWINDER) for routine in routines)
        yield from _called(part, image, binary.imagebase)
    if binary.has_routine_command:
        yield binary.routine_command.init_address, INITIALISER
    if image.entry is not None:
        yield image.entry, ENTRY


def _called(part: Any, image: Image, base: int) -> Iterator[tuple[int, WayIn]]:
    """Yield the addresses that dyld or the Objective-C run time finds in a section."""
    name, kind, start = text(part.name), _number(part.type), part.virtual_address
    if kind in _ARRAYS or name.startswith(_OBJECTIVE_C):
        way = _ARRAYS.get(kind, RUN_TIME)
        yield from ((target, way) for target in image.pointed(start, start + part.size))
    if name == _METHODS or kind == _INITIALISER_OFFSETS:
        content = image.bytes_at(start, part.size & -4)
        for index, (word,) in enumerate(struct.iter_unpack("<i", content[: len(content) & -4])):
            yield (start + 4 * index + word, RUN_TIME) if name == _METHODS else (base + word, INITIALISER)


def _personalities(part: Any, image: Image) -> Iterator[int]:
    """Yield the personality routines that a section of unwind information names."""
    name, width = text(part.name), image.bits // 8
    if name == "__eh_frame":
        table = memoryview(image.bytes_at(part.virtual_address, part.size))
        yield from UnwindTable(table, part.virtual_address, "<", image.bits).personalities(image.pointed)
    elif name == _UNWIND_INFO:  # distances of pointers to them, at an offset and in a number that the header tells
        header = image.bytes_at(part.virtual_address, 20)
        offset, count = struct.unpack_from("<2I", header, 12) if len(header) == 20 else (0, 0)
        content = image.bytes_at(part.virtual_address + offset, 4 * count)
        base = part.virtual_address - part.offset
        for (distance,) in struct.iter_unpack("<I", content[: len(content) & -4]):
            yield from image.pointed(base + distance, base + distance + width)


def _of_object(binary: Any, content: memoryview, part: Any) -> Iterator[int]:
    """Yield the personality routines of an object's own that a section of unwind information names."""
    if text(part.name) == _COMPACT_UNWIND:
        for row in _relocations(part, content, _architecture(binary), list(binary.symbols)):
            is_personality = row.offset % _COMPACT_ENTRY == _PERSONALITY and row.symbol is not None
            if is_personality and row.symbol.raw_type & _KIND == _IN_SECTION:
                yield row.symbol.value


def _number(member: Any) -> int:
    """Return the value of a member of an enumeration, or the plain number that lief has for an unknown one."""
    return int(getattr(member, "value", member))


def _architecture(binary: Any) -> str:
    arch = _name(binary.header.cpu_type)
    return _ARCHITECTURES.get(arch, arch.lower())


def _name(member: Any) -> str:
    """Return the name of a member of an enumeration; lief has plain numbers for those that it does not know."""
    return str(getattr(member, "name", member))


def _section(section: Any, content: memoryview, name: str) -> Section:
    empty = _name(section.type) in _ZEROS
    stored = content[:0] if empty else content[section.offset :][: section.size]
    if len(stored) != section.size and not empty:
        raise AuditError(f"{name}: a damaged Mach-O file: {text(section.name)} lies outside of it")
    return Section(
        name=text(section.name),
        address=section.virtual_address,
        content=stored,
        size=section.size,
        executable=bool(int(section.flags) & _CODE),
        writable=text(section.segment_name).startswith("__DATA"),
        alignment=1 << min(section.alignment, _MAX_ALIGNMENT),
        offset=section.offset,
    )


def _symbols(binary: Any, sections: list[Section]) -> Iterator[Symbol]:
    code = [section for section in sections if section.executable]
    for symbol in binary.symbols:
        kind, address, name = symbol.raw_type, symbol.value, text(symbol.name)
        named = name and not name.startswith(_SECTION_START)
        if not kind & _DEBUGGING and kind & _KIND == _IN_SECTION and named:
            is_code = section_at(code, address) is not None
            visible = bool(kind & _EXTERNAL and not kind & _PRIVATE_EXTERNAL)
            yield Symbol(address, 0, name, "function" if is_code else "data", visible)


def _data_entries(binary: Any) -> Iterable[Any]:
    return binary.data_in_code.entries if binary.has_data_in_code else ()


class _Relocation(NamedTuple):
    """A row of a section's relocations in an object."""

    offset: int
    """From the start of the section."""
    type: str
    """A key of :data:`_FIXUPS`, or another type."""
    symbol: Any
    """None for a place that already holds its address in the object."""


def _relocations(part: Any, content: memoryview, arch: str, symbols: Sequence[Any]) -> Iterator[_Relocation]:
    """Yield the relocations of a section. lief has them as well, but without the first symbol of a file."""
    types = _RELOCATION_TYPES.get(arch, ())
    end = part.relocation_offset + 8 * part.numberof_relocations
    stored = content[part.relocation_offset : end]
    for offset, row in struct.iter_unpack("<2I", stored[: len(stored) & -8]):
        index, is_external, kind = row & 0xFFFFFF, row >> 27 & 1, row >> 28
        if kind < len(types) and not (is_external and index >= len(symbols)):
            yield _Relocation(offset, types[kind], symbols[index] if is_external else None)


def _linked_object(
    binary: Any, content: memoryview, parts: list[Any], sections: list[Section], layout: Layout
) -> list[Section]:
    """Return an object's sections with its relocations applied; those between its own sections are already applied."""
    arch, symbols = _architecture(binary), list(binary.symbols)
    by_offset = {section.offset: section for section in sections if len(section.content)}
    changes = []
    for part in parts:
        section = by_offset.get(part.offset)
        rows = list(_relocations(part, content, arch, symbols)) if section is not None else []
        if section is None or not rows:
            continue
        changed = bytearray(section.content)
        subtracted = {row.offset for row in rows if row.type == "SUBTRACTOR"}
        for row in rows:
            fixup = _FIXUPS.get(row.type)
            if fixup is None or row.offset in subtracted:
                continue
            if row.symbol is None and row.type == "UNSIGNED":
                layout.pointers[section.address + row.offset] = int.from_bytes(changed[row.offset :][:8], "little")
            elif row.symbol is not None:
                defined = row.symbol.raw_type & _KIND == _IN_SECTION
                target = row.symbol.value if defined else layout.external(text(row.symbol.name))
                layout.apply(PatchedSection(changed, section.address), row.offset, fixup, target, None)
        changes.append((section, section.replace(content=memoryview(changed))))
    replaced = {old.address: new for old, new in changes}
    return [replaced.get(section.address, section) for section in sections]


def _pointers(binary: Any, sections: list[Section], layout: Layout, width: int) -> Iterator[tuple[int, int]]:
    """Yield the place and value of each pointer that the loader stores."""
    for row in binary.relocations:
        target = getattr(row, "target", None)
        if target is None:
            target = word_at(sections, row.address, width)
        if target is not None:
            yield row.address, target
    for binding in binary.bindings:
        if binding.has_symbol:
            yield binding.address, layout.external(text(binding.symbol.name))
