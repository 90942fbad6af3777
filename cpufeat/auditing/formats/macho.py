"""Read the image of a Mach-O file, with lief (Apple's ``mach-o/loader.h`` and ``reloc.h``)."""

from __future__ import annotations

from cpufeat.auditing.formats.function_bounds import functions
from cpufeat.auditing.formats.image import Image, Section, Symbol
from cpufeat.auditing.formats.lief_reader import read_by_lief, text
from cpufeat.auditing.formats.relocation import Fixup, Layout, PatchedSection, word_at
from cpufeat.auditing.formats.relocation_aarch64 import BRANCH26, OFFSET12, PAGE21
from cpufeat.binary_format.macho import MAGICS, Macho
from cpufeat.errors import AuditError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_ARCHITECTURES = {"X86_64": "x86_64", "X86": "i686", "ARM64": "aarch64", "ARM": "arm"}
_KINDS = {"OBJECT": "object", "EXECUTE": "executable"}
_DEBUG_SEGMENTS = ("__DWARF", "__LD")
_CODE = 0x80000400
"""S_ATTR_PURE_INSTRUCTIONS, S_ATTR_SOME_INSTRUCTIONS."""
_ZEROS = ("ZEROFILL", "GB_ZEROFILL", "THREAD_LOCAL_ZEROFILL")
_TYPE, _ZEROFILL_TYPES = 0xFF, (0x1, 0xC, 0x12)
"""SECTION_TYPE, and the numbers of the same types."""
_RELOCATION_SIZE = 8
_MAX_ALIGNMENT = 15
"""The largest exponent of two that ld64 and lld accept."""
_DEBUGGING, _KIND, _IN_SECTION, _EXTERNAL, _PRIVATE_EXTERNAL = 0xE0, 0x0E, 0x0E, 0x01, 0x10
"""N_STAB, N_TYPE, N_SECT, N_EXT, N_PEXT."""

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
    "BRANCH26": Fixup(field=BRANCH26),
    "PAGE21": Fixup(field=PAGE21),
    "PAGEOFF12": Fixup(field=OFFSET12),
    "GOT_LOAD_PAGE21": Fixup(slot=True, field=PAGE21),
    "GOT_LOAD_PAGEOFF12": Fixup(slot=True, field=OFFSET12),
}
"""Types of relocations in objects, without the architecture's prefix, and how each stores an address. The rest of the
distance of SIGNED_1 and the like is in the implicit addend."""


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


def _image(binary: Any, content: memoryview, name: str) -> Image:
    arch = _name(binary.header.cpu_type)
    arch = _ARCHITECTURES.get(arch, arch.lower())
    bits = 64 if binary.header.is_64bit else 32
    kind = _KINDS.get(_name(binary.header.file_type), "library")
    parts = [section for section in binary.sections if text(section.segment_name) not in _DEBUG_SEGMENTS]
    sections = sorted((_section(section, content, name) for section in parts), key=lambda section: section.address)
    layout = Layout((), bits // 8, above=max((section.end for section in sections), default=0))
    if kind == "object":
        sections = _linked_object(parts, sections, layout)
    else:
        layout.pointers.update(_pointers(binary, sections, layout, bits // 8))
    symbols = tuple(_symbols(binary, sections))
    base = binary.imagebase
    starts = [base + start for start in binary.function_starts.functions] if binary.has_function_starts else []
    return Image(
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
        entry=binary.entrypoint if kind == "executable" and binary.has_entrypoint else None,
    )


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
            is_code = any(section.address <= address < section.end for section in code)
            visible = bool(kind & _EXTERNAL and not kind & _PRIVATE_EXTERNAL)
            yield Symbol(address, 0, name, "function" if is_code else "data", visible)


def _data_entries(binary: Any) -> Iterable[Any]:
    return binary.data_in_code.entries if binary.has_data_in_code else ()


def _linked_object(parts: list[Any], sections: list[Section], layout: Layout) -> list[Section]:
    """Return an object's sections with its relocations applied; those between its own sections are already applied."""
    by_offset = {section.offset: section for section in sections if len(section.content)}
    changes = []
    for part in parts:
        section = by_offset.get(part.offset)
        relocations = list(part.relocations)
        if section is None or not relocations:
            continue
        changed = bytearray(section.content)
        subtracted = {row.address for row in relocations if _name(row.type).endswith("SUBTRACTOR")}
        for row in relocations:
            fixup = _FIXUPS.get(_name(row.type))
            if fixup and row.has_symbol and row.address not in subtracted:
                offset, symbol = row.address - section.offset, row.symbol
                defined = symbol.raw_type & _KIND == _IN_SECTION
                target = symbol.value if defined else layout.external(text(symbol.name))
                layout.apply(PatchedSection(changed, section.address), offset, fixup, target, None)
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
