"""Read the images of COFF objects and PE files, with lief (Microsoft's "PE Format")."""

from __future__ import annotations

import struct

from cpufeat.auditing.formats.function_bounds import functions
from cpufeat.auditing.formats.image import (
    ENTRY,
    FINALISER,
    INITIALISER,
    THREAD_DATA,
    UNWINDER,
    Image,
    Section,
    Symbol,
    WayIn,
)
from cpufeat.auditing.formats.lief_reader import read_by_lief, text
from cpufeat.auditing.formats.relocation import Fixup, Layout, PatchedSection, section_at, word_at
from cpufeat.auditing.formats.relocation_aarch64 import ADDRESS21, BRANCH14, BRANCH19, BRANCH26, OFFSET12, PAGE21
from cpufeat.binary_format import coff
from cpufeat.binary_format.names import cost_too_much
from cpufeat.errors import AuditError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_COFF_HEADER_SIZE = 20
_EXTENDED = b"\0\0\xff\xff"
"""IMAGE_FILE_MACHINE_UNKNOWN and 0xFFFF: an object of many sections (/bigobj)."""
_SYMBOLS, _EXTENDED_SYMBOLS = 8, 48
"""The offset of PointerToSymbolTable, which NumberOfSymbols follows, in both kinds of headers."""
_MACHINES = {0x8664: "x86_64", 0x14C: "i686", 0xAA64: "aarch64", 0xA641: "arm64ec", 0x1C4: "arm"}
"""The machine in the header of an import object -> our name of the architecture."""
_ARCHITECTURES = {"AMD64": "x86_64", "I386": "i686", "ARM64": "aarch64", "ARMNT": "arm", "THUMB": "arm"}
_CODE, _EXECUTE, _WRITE = 0x20, 0x20000000, 0x80000000
"""IMAGE_SCN_CNT_CODE, MEM_EXECUTE, MEM_WRITE."""
_ZEROS = 0x80
"""IMAGE_SCN_CNT_UNINITIALIZED_DATA."""
_NOT_LOADED = 0x02000A00
"""IMAGE_SCN_MEM_DISCARDABLE, LNK_REMOVE, LNK_INFO."""
_CHAINED = 4
"""UNW_FLAG_CHAININFO."""
_DLL = 0x2000
"""IMAGE_FILE_DLL."""
_PAGE = 4096
_ABSOLUTE_BASE_RELOCATIONS = ("DIR64", "HIGHLOW")

_ARRAYS = {
    ".CRT$XP": FINALISER,
    ".CRT$XT": FINALISER,
    ".CRT": INITIALISER,
    ".ctors": INITIALISER,
    ".dtors": FINALISER,
    ".tls": THREAD_DATA,
}
"""How the pointers of a section are used, by the start of its name: the first that fits. The C run time walks ``.CRT``
(Microsoft's "CRT initialization"), the loader what ends up in the directory of thread-local storage."""
_UNWINDING = ".xdata"

_FIXUPS = {
    "AMD64_ADDR64": Fixup(64),
    "AMD64_ADDR32": Fixup(32),
    "AMD64_REL32": Fixup(32, relative=True, bias=-4),
    "AMD64_REL32_1": Fixup(32, relative=True, bias=-5),
    "AMD64_REL32_2": Fixup(32, relative=True, bias=-6),
    "AMD64_REL32_3": Fixup(32, relative=True, bias=-7),
    "AMD64_REL32_4": Fixup(32, relative=True, bias=-8),
    "AMD64_REL32_5": Fixup(32, relative=True, bias=-9),
    "I386_DIR32": Fixup(32),
    "I386_REL32": Fixup(32, relative=True, bias=-4),
    "ARM64_ADDR64": Fixup(64),
    "ARM64_ADDR32": Fixup(32),
    "ARM64_REL32": Fixup(32, relative=True, bias=-4),
    "ARM64_BRANCH26": Fixup(field=BRANCH26),
    "ARM64_BRANCH19": Fixup(field=BRANCH19),
    "ARM64_BRANCH14": Fixup(field=BRANCH14),
    "ARM64_REL21": Fixup(field=ADDRESS21),
    "ARM64_PAGEBASE_REL21": Fixup(field=PAGE21),
    "ARM64_PAGEOFFSET_12A": Fixup(field=OFFSET12),
    "ARM64_PAGEOFFSET_12L": Fixup(field=OFFSET12),
}
"""Types of relocations in objects, and how each stores an address. No analysis needs the other types."""


def is_pe(content: bytes) -> bool:
    """Whether a file's first bytes are those of a PE file."""
    return content.startswith(coff.PE_MAGIC)


def is_coff(content: bytes) -> bool:
    """Whether a file's first bytes are those of a COFF object: it has no magic but the number of its machine."""
    known = int.from_bytes(content[:2], "little") in coff.MACHINES
    return len(content) >= _COFF_HEADER_SIZE and (known or content.startswith(coff.ANONYMOUS))


def coff_image(content: bytes, name: str) -> Image:
    """Return the image of a COFF object, of an import object one without sections. Raises AuditError for damage."""
    imported = coff.import_object(content)
    if imported:
        return _of_import(imported, content, name)
    return read_by_lief(content, name, "COFF object", _parse_coff, _of_object)


def pe_image(content: bytes, name: str) -> Image:
    """Return the image of a PE file. Raises AuditError for a damaged one."""
    return read_by_lief(content, name, "PE file", _parse_pe, _of_linked)


def _of_import(header: coff.ImportObject, content: bytes, name: str) -> Image:
    if header.size > len(content) - coff.IMPORT_OBJECT_SIZE:
        raise AuditError(f"{name}: a damaged import object: it is cut off")
    return Image(
        name=name,
        format="COFF",
        arch=_MACHINES.get(header.machine, f"machine {header.machine:#x}"),
        bits=64 if header.machine & 0xFF == 0x64 else 32,
        kind="object",
        sections=(),
        symbols=(),
        functions=(),
        data=(),
        pointers={},
        externals={},
        entry=None,
    )


def _parse_coff(lief: Any, content: bytes) -> Any:
    _check(content)
    return lief.COFF.parse(content)


def _check(content: bytes) -> None:
    """Raise ValueError for what would cost much more than a sound file of this size, also to parse."""
    headers = coff.headers(content, ValueError)
    stored = [section for section in headers.sections if not section.characteristics & _ZEROS]
    if sum(section.size for section in stored) > 2 * len(content):
        raise ValueError("its sections overlap")
    if sum(section.relocations for section in headers.sections) * coff.RELOCATION_SIZE > 2 * len(content):
        raise ValueError("its relocations overlap")
    strings, starts = coff.symbol_names(content, headers)
    if cost_too_much(strings, starts) or cost_too_much(content, coff.export_names(content, headers)):
        raise ValueError("its names overlap, or are too long")


def _parse_pe(lief: Any, content: bytes) -> Any:
    _check(content)
    config = lief.PE.ParserConfig()
    config.parse_signature = config.parse_rsrc = config.parse_arm64x_binary = False
    config.parse_exports = config.parse_imports = config.parse_reloc = config.parse_exceptions = True
    return lief.PE.parse(content, config)


def _architecture(binary: Any) -> tuple[str, int]:
    """Return cpufeat's name of the architecture, and the size of a pointer in bits."""
    machine = str(getattr(binary.header.machine, "name", binary.header.machine))
    arch = _ARCHITECTURES.get(machine, machine.lower())
    return arch, 64 if "64" in machine else 32


def _known(member: Any) -> str:
    """Return the name of a member of an enumeration. Raises ValueError for a number of which lief knows no member."""
    if not hasattr(member, "name"):
        raise ValueError(f"{member} is not a known value")
    return str(member.name)


def _stored(section: Any, content: memoryview, size: int) -> memoryview:
    stored = content[section.pointerto_raw_data :][:size]
    if len(stored) != size:
        raise ValueError(f"{text(section.name)} lies outside of it")
    return stored


# --- objects


def _of_object(binary: Any, content: memoryview, name: str) -> Image:
    arch, bits = _architecture(binary)
    parts = list(binary.sections)
    flags = [int(part.characteristics) for part in parts]
    loaded = [index for index, flag in enumerate(flags) if not flag & _NOT_LOADED]
    wanted = (
        (parts[index].sizeof_raw_data, _alignment(flags[index]), bool(flags[index] & _EXECUTE)) for index in loaded
    )
    layout = Layout(wanted, bits // 8)
    address = dict(zip(loaded, layout.addresses, strict=True))
    sections = []
    for index in loaded:
        part, flag = parts[index], flags[index]
        stored = content[:0] if flag & _ZEROS else _stored(part, content, part.sizeof_raw_data)
        sections.append(
            Section(
                name=text(part.name),
                address=address[index],
                content=_relocated(part, stored, address[index], address, layout),
                size=part.sizeof_raw_data,
                executable=bool(flag & (_EXECUTE | _CODE)),
                writable=bool(flag & _WRITE),
                alignment=_alignment(flag),
                offset=part.pointerto_raw_data,
            )
        )
    symbols = tuple(_object_symbols(binary, content, address))
    sections.sort(key=lambda section: section.address)
    image = Image(
        name=name,
        format="COFF",
        arch=arch,
        bits=bits,
        kind="object",
        sections=tuple(sections),
        symbols=symbols,
        functions=functions(sections, symbols, ()),
        data=(),
        pointers=layout.pointers,
        externals=layout.externals,
        entry=None,
    )
    handlers = ((handler, UNWINDER) for handler in _handlers_of_object(parts, address))
    return image.replace(ways_in=dict([*handlers, *_ways_by_section(image)]))


def _alignment(flags: int) -> int:
    """Return the alignment of IMAGE_SCN_ALIGN_*; without one, linkers take 16."""
    return 1 << (flags >> 20 & 0xF) - 1 if flags >> 20 & 0xF else 16


def _relocated(part: Any, stored: memoryview, place: int, address: dict[int, int], layout: Layout) -> memoryview:
    """Return a section's content with its relocations applied."""
    relocations = [row for row in part.relocations if row.symbol is not None and _known(row.type) in _FIXUPS]
    if not relocations:
        return stored
    changed = bytearray(stored)
    for row in relocations:
        symbol = row.symbol
        section = symbol.section_idx - 1
        target = address.get(section, 0) + symbol.value if section >= 0 else layout.external(text(symbol.name))
        layout.apply(PatchedSection(changed, place), row.address, _FIXUPS[_known(row.type)], target, None)
    return memoryview(changed)


def _handlers_of_object(parts: Sequence[Any], address: Mapping[int, int]) -> Iterator[int]:
    """Yield what the unwind information of an object refers to: exception handlers and parts of functions."""
    for part in parts:
        for row in part.relocations if text(part.name).startswith(_UNWINDING) else ():
            section = row.symbol.section_idx - 1 if row.symbol is not None else -1
            if section in address:
                yield address[section] + row.symbol.value


def _ways_by_section(image: Image) -> Iterator[tuple[int, WayIn]]:
    """Yield where the pointers of arrays lead that the C run time or the loader reads, told by names of sections."""
    for section in image.sections:
        way = next((way for start, way in _ARRAYS.items() if section.name.startswith(start)), None)
        if way is not None:
            yield from ((target, way) for target in image.pointed(section.address, section.end))


def _object_symbols(binary: Any, content: memoryview, address: dict[int, int]) -> Iterator[Symbol]:
    names = _names(content)
    for symbol, name in zip(binary.symbols, names, strict=False):
        section = symbol.section_idx - 1
        if section in address and name and not name.startswith("."):
            kind = "function" if symbol.is_function or _known(symbol.complex_type) == "FUNCTION" else "label"
            yield Symbol(address[section] + symbol.value, 0, name, kind, symbol.is_external)


def _names(content: memoryview) -> Iterator[str]:
    """Yield the name of each symbol of an object. lief has none if a name is stored as the end of a longer one."""
    row = 18
    if content[:4] == _EXTENDED:
        (at, count), row = struct.unpack_from("<2I", content, _EXTENDED_SYMBOLS), 20
    else:
        at, count = struct.unpack_from("<2I", content, _SYMBOLS)
    strings, end = bytes(content[at + count * row :]), at + count * row
    while at + row <= min(end, len(content)):
        (zeros, offset), short = struct.unpack_from("<2I", content, at), bytes(content[at : at + 8])
        name = strings[offset : strings.find(b"\0", offset)] if not zeros else short.rstrip(b"\0")
        yield name.decode(errors="replace")
        at += row * (1 + content[at + row - 1])  # the last byte counts the rows that belong to this one


# --- linked files


def _of_linked(binary: Any, content: memoryview, name: str) -> Image:
    arch, bits = _architecture(binary)
    base, width = binary.optional_header.imagebase, bits // 8
    sections = [_linked_section(part, content, base) for part in binary.sections]
    sections.sort(key=lambda section: section.address)
    layout = Layout((), width, above=max((section.end for section in sections), default=0))
    for page in binary.relocations:
        for entry in page.entries:
            place = base + entry.address
            target = word_at(sections, place, width) if _known(entry.type) in _ABSOLUTE_BASE_RELOCATIONS else None
            if target is not None:
                layout.pointers[place] = target
    for imported in binary.imports:
        for entry in imported.entries:
            layout.pointers[base + entry.iat_address] = layout.external(
                text(entry.name or f"{text(imported.name)}#{entry.ordinal}")
            )
    code = [section for section in sections if section.executable]
    symbols = tuple(_linked_symbols(binary, base, code))
    unwound = list(_unwound(binary, base))
    starts = {start for start, _ in unwound}  # the file does not tell where other exports end
    is_library = int(binary.header.characteristics) & _DLL
    image = Image(
        name=name,
        format="PE",
        arch=arch,
        bits=bits,
        kind="library" if is_library else "executable",
        sections=tuple(sections),
        symbols=symbols,
        functions=functions(sections, [symbol for symbol in symbols if symbol.address in starts], unwound),
        data=tuple(_tables(layout.pointers, code, width)),
        pointers=layout.pointers,
        externals=layout.externals,
        entry=binary.entrypoint or None,
        bases=(0, base),
    )
    return image.replace(ways_in=dict(_ways_in(binary, image)), tells_references=arch == "x86_64")


def _ways_in(binary: Any, image: Image) -> Iterator[tuple[int, WayIn]]:
    """Yield the addresses that the loader, the C run time or the unwinder comes to by itself; the last way counts."""
    base = image.bases[-1]
    for entry in binary.exceptions:
        handler = getattr(getattr(entry, "unwind_info", entry), "handler", None) or getattr(
            entry, "exception_handler", 0
        )
        if handler:
            yield base + handler, UNWINDER
    yield from _ways_by_section(image)
    if binary.has_tls:
        yield from ((target, THREAD_DATA) for target in image.pointed(*binary.tls.addressof_raw_data))
        yield from ((callback, INITIALISER) for callback in binary.tls.callbacks)
    if binary.entrypoint:
        yield binary.entrypoint, ENTRY


def _linked_section(part: Any, content: memoryview, base: int) -> Section:
    flags, size = int(part.characteristics), part.virtual_size or part.sizeof_raw_data
    return Section(
        name=text(part.name),
        address=base + part.virtual_address,
        content=_stored(part, content, min(part.sizeof_raw_data, size)),
        size=size,
        executable=bool(flags & (_EXECUTE | _CODE)),
        writable=bool(flags & _WRITE),
        alignment=_PAGE,
        offset=part.pointerto_raw_data,
    )


def _linked_symbols(binary: Any, base: int, code: list[Section]) -> Iterator[Symbol]:
    exported = (
        [(base + entry.address, text(entry.name)) for entry in binary.get_export().entries if not entry.is_forwarded]
        if binary.has_exports
        else []
    )
    for address, name in exported:
        is_code = section_at(code, address) is not None
        yield Symbol(address, 0, name, "function" if is_code else "data", True)


def _unwound(binary: Any, base: int) -> Iterator[tuple[int, int]]:
    """Yield the functions in ``.pdata``, each together with its chained parts."""
    start = end = 0
    for entry in sorted(binary.exceptions, key=lambda entry: entry.rva_start):
        information = getattr(entry, "unwind_info", None)
        is_chained = information is not None and information.flags & _CHAINED and entry.rva_start == end
        if not is_chained:
            if end:
                yield base + start, base + end
            start = entry.rva_start
        end = entry.rva_end
    if end:
        yield base + start, base + end


def _tables(pointers: Mapping[int, int], code: Sequence[Section], width: int) -> Iterator[tuple[int, int]]:
    """Yield the jump tables in code sections: runs of pointers, to the first of which another pointer leads."""
    end = 0
    for table in sorted(set(pointers.values()) & pointers.keys()):
        if section_at(code, table):
            end = end if table < end and (end - table) % width == 0 else table  # in the run that is known, or a new one
            while end in pointers:
                end += width
            yield table, end
