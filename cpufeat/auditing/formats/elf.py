"""Build the image of an ELF file: symbols, functions, relocated sections (System V gABI; each architecture's psABI)."""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter

from cpufeat.auditing.formats.eh_frame import UnwindTable, landing_pads
from cpufeat.auditing.formats.elf_headers import ElfFile, read
from cpufeat.auditing.formats.function_bounds import functions
from cpufeat.auditing.formats.image import (
    ENTRY,
    FINALISER,
    INITIALISER,
    SPACING,
    THREAD_DATA,
    UNWINDER,
    Image,
    Section,
    Symbol,
    WayIn,
)
from cpufeat.auditing.formats.relocation import Fixup, Layout, PatchedSection, word_at
from cpufeat.auditing.formats.relocation_aarch64 import (
    ADDRESS21,
    BRANCH14,
    BRANCH19,
    BRANCH26,
    OFFSET12,
    PAGE21,
    TABLE15,
)
from cpufeat.binary_format import elf, elf_dynamic
from cpufeat.binary_format.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_WRITE, SHT_REL, SHT_RELA, STT_OBJECT
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_SYMBOL_KINDS = {elf.STT_NOTYPE: "label", STT_OBJECT: "data", elf.STT_FUNC: "function", elf.STT_GNU_IFUNC: "resolver"}
_FIXUPS = {
    "x86_64": {
        1: Fixup(64),  # R_X86_64_64
        2: Fixup(32, relative=True),  # PC32
        4: Fixup(32, relative=True),  # PLT32
        9: Fixup(32, relative=True, slot=True),  # GOTPCREL
        10: Fixup(32),  # 32
        11: Fixup(32),  # 32S
        24: Fixup(64, relative=True),  # PC64
        41: Fixup(32, relative=True, slot=True),  # GOTPCRELX
        42: Fixup(32, relative=True, slot=True),  # REX_GOTPCRELX
    },
    "i686": {
        1: Fixup(32),  # R_386_32
        2: Fixup(32, relative=True),  # PC32
        4: Fixup(32, relative=True),  # PLT32
    },
    "aarch64": {
        257: Fixup(64),  # R_AARCH64_ABS64
        258: Fixup(32),  # ABS32
        260: Fixup(64, relative=True),  # PREL64
        261: Fixup(32, relative=True),  # PREL32
        273: Fixup(field=BRANCH19),  # LD_PREL_LO19
        274: Fixup(field=ADDRESS21),  # ADR_PREL_LO21
        275: Fixup(field=PAGE21),  # ADR_PREL_PG_HI21
        276: Fixup(field=PAGE21),  # ADR_PREL_PG_HI21_NC
        277: Fixup(field=OFFSET12),  # ADD_ABS_LO12_NC
        278: Fixup(field=OFFSET12),  # LDST8_ABS_LO12_NC
        279: Fixup(field=BRANCH14),  # TSTBR14
        280: Fixup(field=BRANCH19),  # CONDBR19
        282: Fixup(field=BRANCH26),  # JUMP26
        283: Fixup(field=BRANCH26),  # CALL26
        284: Fixup(field=OFFSET12),  # LDST16_ABS_LO12_NC
        285: Fixup(field=OFFSET12),  # LDST32_ABS_LO12_NC
        286: Fixup(field=OFFSET12),  # LDST64_ABS_LO12_NC
        299: Fixup(field=OFFSET12),  # LDST128_ABS_LO12_NC
        309: Fixup(slot=True, field=BRANCH19),  # GOT_LD_PREL19
        311: Fixup(slot=True, field=PAGE21),  # ADR_GOT_PAGE
        312: Fixup(slot=True, field=OFFSET12),  # LD64_GOT_LO12_NC
        313: Fixup(slot=True, field=TABLE15),  # LD64_GOTPAGE_LO15
        314: Fixup(32, relative=True),  # PLT32
    },
}
"""Types of relocations in objects, and how each stores an address. No analysis needs the other types."""
_RELATIVE_TYPES = {"x86_64": (8, 37, 38), "i686": (8, 42), "aarch64": (1027, 1032)}
"""Types in linked files that store an address of the file itself (RELATIVE, IRELATIVE)."""
_IRELATIVE = {"x86_64": 37, "i686": 42, "aarch64": 1032}
"""The type in linked files that stores what a resolver of the file itself returns."""
_SYMBOL_TYPES = {"x86_64": (1, 6, 7), "i686": (1, 6, 7), "aarch64": (257, 1025, 1026)}
"""Types in linked files that store a symbol's address (absolute, GLOB_DAT, JUMP_SLOT)."""
_INITIALISERS = (".init_array", ".preinit_array", ".ctors")
_FINALISERS = (".fini_array", ".dtors")
"""Names of sections of pointers to functions that the loader or the C library calls; a priority may follow."""
_GOT = "_GLOBAL_OFFSET_TABLE_"
_STARTED = WayIn("the entry point", at_load=False)
"""A library can be a program too, as the loader itself and glibc are."""
_SPACING = {"aarch64": 1024}
"""Bytes to reserve for what another file defines: glibc reads ``_dl_hwcap2`` far inside of ``_rtld_global_ro``."""


def is_elf(content: bytes) -> bool:
    """Whether a file's first bytes are those of an ELF file."""
    return content.startswith(elf.MAGIC)


def elf_image(content: bytes, name: str) -> Image:
    """Return the image of an ELF file. Raises AuditError for a damaged one."""
    file = read(content, name)
    return _object(file) if file.kind == "object" else _linked(file)


def _defined(entry: elf.Symbol) -> bool:
    """Whether a symbol has an address in the file: that of a thread's variable is an offset."""
    return entry.shndx not in (elf.SHN_UNDEF, elf.SHN_ABS, elf.SHN_COMMON) and entry.type != elf.STT_TLS


def _symbols(entries: Iterable[tuple[elf.Symbol, int, bool]]) -> tuple[Symbol, ...]:
    """Return the symbols in rows of (row, address, whether other files can refer to it)."""
    kinds = _SYMBOL_KINDS
    return tuple(
        Symbol(address, entry.size, entry.name, kinds[entry.type], visible)
        for entry, address, visible in entries
        if entry.name and entry.type in kinds and not _is_mapping(entry)
    )


def _is_mapping(entry: elf.Symbol) -> bool:
    """Whether it is a mapping symbol of Arm's ABI: ``$x`` marks the start of code, ``$d`` of data."""
    return entry.name[:1] == "$" and entry.name[1:2] in ("x", "d", "a", "t") and entry.name[2:3] in ("", ".")


def _data(entries: Iterable[tuple[elf.Symbol, int]], sections: Sequence[Section]) -> tuple[tuple[int, int], ...]:
    """Return the parts of code sections that symbols call data; ``entries``: rows with their addresses."""
    code = [section for section in sections if section.executable]
    by_address = sorted(entries, key=itemgetter(1))
    places = [at for _, at in by_address]
    data = []
    for section in code:
        first, last = bisect_left(places, section.address), bisect_left(places, section.end)
        inside = [(at, entry) for entry, at in by_address[first:last]]
        data += [
            (at, min(at + entry.size, section.end)) for at, entry in inside if entry.type == STT_OBJECT and entry.size
        ]
        marks = sorted((at, entry.name[1]) for at, entry in inside if _is_mapping(entry))
        ends = [at for at, _ in marks[1:]] + [section.end]
        data += [(at, end) for (at, mark), end in zip(marks, ends, strict=False) if mark == "d" and at < end]
    return tuple(sorted(data))


# --- images


def _object(file: ElfFile) -> Image:
    headers = file.sections
    placed = [
        index
        for index, header in enumerate(headers)
        if header.flags & SHF_ALLOC and not (header.flags & SHF_TLS and header.type == elf.SHT_NOBITS)
    ]
    layout = Layout(
        (
            (headers[index].size, headers[index].addralign, bool(headers[index].flags & SHF_EXECINSTR))
            for index in placed
        ),
        file.elf.bits // 8,
        spacing=_SPACING.get(file.arch, SPACING),
        table=_GOT if file.arch == "aarch64" else "",
    )
    address = dict(zip(placed, layout.addresses, strict=True))
    content: dict[int, memoryview | bytearray] = {index: file.elf.content_of(headers[index]) for index in placed}
    tables = {index: file.elf.symbols(index) for index in file.of_type(elf.SHT_SYMTAB)}
    values = {index: [_object_value(entry, address, layout) for entry in rows] for index, rows in tables.items()}
    fixups, untold = _FIXUPS.get(file.arch, {}), False
    for index in file.of_type(SHT_REL, SHT_RELA):
        section, targets = headers[index].info, values.get(headers[index].link, [])
        if section not in content:
            continue
        changed = content[section] = bytearray(content[section])
        is_table = not headers[section].flags & SHF_EXECINSTR and file.name_of(headers[section]) != ".eh_frame"
        for relocation in file.elf.relocations(file.sections[index]):
            if relocation.type in fixups and relocation.symbol < len(targets):
                part, fixup = PatchedSection(changed, address[section]), fixups[relocation.type]
                layout.apply(part, relocation.offset, fixup, targets[relocation.symbol], relocation.addend)
                untold |= is_table and (fixup.relative or fixup.bits != file.elf.bits)
            else:
                untold = True
    sections = [_section(file, headers[index], address[index], memoryview(content[index])) for index in placed]
    rows = [
        (entry, value, entry.binding != elf.STB_LOCAL)
        for index, entries in tables.items()
        for entry, value in zip(entries, values[index], strict=True)
        if _defined(entry) and entry.shndx in address
    ]
    frames = [(section.address, section.content) for section in sections if section.name == ".eh_frame"]
    return _image(file, sections, rows, layout, frames).replace(tells_references=not untold)


def _object_value(entry: elf.Symbol, address: Mapping[int, int], layout: Layout) -> int:
    if _defined(entry) or entry.shndx == elf.SHN_ABS:
        return address.get(entry.shndx, 0) + entry.value
    return layout.external(entry.name)


def _linked(file: ElfFile) -> Image:
    loaded = [
        (header, file.elf.content_of(header))
        for header in file.sections
        if header.flags & SHF_ALLOC and not (header.flags & SHF_TLS and header.type == elf.SHT_NOBITS)
    ]
    sections = [_section(file, header, header.addr, content) for header, content in loaded]
    above = max((section.end for section in sections), default=0)
    layout = Layout([], file.elf.bits // 8, above, _SPACING.get(file.arch, SPACING))
    dynamic = {index: file.elf.symbols(index) for index in file.of_type(elf.SHT_DYNSYM)}
    exported = {entry.value for rows in dynamic.values() for entry in rows if _defined(entry)}
    named = [file.elf.symbols(index) for index in file.of_type(elf.SHT_SYMTAB)]
    unloaded = {index for index, header in enumerate(file.sections) if not header.flags & SHF_ALLOC}
    tables = [[entry for entry in entries if entry.shndx not in unloaded] for entries in named] or [*dynamic.values()]
    rows = [(entry, entry.value, entry.value in exported) for entries in tables for entry in entries if _defined(entry)]
    sections.sort(key=lambda section: section.address)
    layout.pointers.update(_pointers(file, dynamic, layout, sections))
    resolvers = [
        layout.pointers[relocation.offset]
        for index in file.of_type(SHT_REL, SHT_RELA)
        for relocation in file.elf.relocations(file.sections[index])
        if relocation.type == _IRELATIVE.get(file.arch) and relocation.offset in layout.pointers
    ]
    image = _image(file, sections, rows, layout, file.unwind_tables())
    return image.replace(
        resolvers=image.resolvers.union(resolvers),
        tells_references=file.arch == "x86_64" or (file.arch == "aarch64" and not image.is_fixed),
        library=elf_dynamic.library_name(file.elf, file.dynamic),
    )


def _pointers(
    file: ElfFile, dynamic: Mapping[int, Sequence[elf.Symbol]], layout: Layout, sections: Sequence[Section]
) -> Iterator[tuple[int, int]]:
    """Yield the place and value of each pointer that the loader stores, in the file's own addresses."""
    relative, symbolic = _RELATIVE_TYPES.get(file.arch, ()), _SYMBOL_TYPES.get(file.arch, ())
    in_place = [
        place for index in file.of_type(elf.SHT_RELR) for place in file.elf.packed_relocations(file.sections[index])
    ]
    for index in file.of_type(SHT_REL, SHT_RELA):
        entries = dynamic.get(file.sections[index].link, ())
        for relocation in file.elf.relocations(file.sections[index]):
            if relocation.type in symbolic and relocation.symbol < len(entries):
                entry = entries[relocation.symbol]
                value = entry.value if _defined(entry) else layout.external(entry.name)
                yield relocation.offset, value + (relocation.addend or 0)
            elif relocation.type in relative and relocation.addend is not None:
                yield relocation.offset, relocation.addend
            elif relocation.type in relative:
                in_place.append(relocation.offset)
    for place in in_place:
        target = word_at(sections, place, file.elf.bits // 8, "little" if file.elf.order == "<" else "big")
        if target is not None:
            yield place, target


def _section(file: ElfFile, header: elf.Section, address: int, content: memoryview) -> Section:
    executable, writable = bool(header.flags & SHF_EXECINSTR), bool(header.flags & SHF_WRITE)
    return Section(
        file.name_of(header),
        address,
        content,
        header.size,
        executable,
        writable,
        max(header.addralign, 1),
        header.offset,
    )


def _image(
    file: ElfFile,
    sections: list[Section],
    rows: list[tuple[elf.Symbol, int, bool]],
    layout: Layout,
    frames: Iterable[tuple[int, memoryview]],
) -> Image:
    sections.sort(key=lambda section: section.address)
    symbols = _symbols(rows)
    has_names = any(section.name for section in sections)
    unwinding = [
        UnwindTable(content, address, file.elf.order, file.elf.bits, cut=not has_names) for address, content in frames
    ]
    image = Image(
        name=file.name,
        format="ELF",
        arch=file.arch,
        bits=file.elf.bits,
        kind=file.kind,
        sections=tuple(sections),
        symbols=symbols,
        functions=functions(sections, symbols, (bounds for table in unwinding for bounds in table.ranges)),
        data=_data([(entry, address) for entry, address, _ in rows], sections),
        pointers=layout.pointers,
        externals=layout.externals,
        narrow=frozenset(layout.narrow),
        spacing=layout.spacing,
        entry=file.entry if file.kind == "executable" else None,
        resolvers=frozenset(symbol.address for symbol in symbols if symbol.kind == "resolver"),
    )
    pads = (
        pad
        for table in unwinding
        for function, exceptions in table.exception_tables
        for pad in landing_pads(function, exceptions, image.bytes_at, file.elf.order, file.elf.bits)
    )
    return image.replace(
        ways_in=dict(_ways_in(file, image, unwinding)),
        landing_pads=tuple(sorted(pad for pad in pads if image.function_at(pad[0]) != image.function_at(pad[1]))),
    )


# --- ways in


def _ways_in(file: ElfFile, image: Image, unwinding: Iterable[UnwindTable]) -> Iterator[tuple[int, WayIn]]:
    """Yield the addresses that the loader, the C library or the unwinder comes to by itself.

    Of an address that occurs several times the last way counts.
    """
    dynamic = file.dynamic
    for start, size in _thread_data(file, image):
        yield from ((target, THREAD_DATA) for target in image.pointed(start, start + size))
    for table in unwinding:
        yield from ((routine, UNWINDER) for routine in table.personalities(image.pointed))
    for way, names, tags, function, code in (
        (FINALISER, _FINALISERS, elf_dynamic.FINI_ARRAYS, elf_dynamic.DT_FINI, ".fini"),
        (INITIALISER, _INITIALISERS, elf_dynamic.INIT_ARRAYS, elf_dynamic.DT_INIT, ".init"),
    ):
        arrays = [(section.address, section.size) for section in image.sections if section.name.startswith(names)]
        arrays += [(dynamic.get(address, 0), dynamic.get(size, 0)) for address, size in tags]
        for start, size in arrays:
            yield from ((target, way) for target in image.pointed(start, start + size))
        if function in dynamic:
            yield dynamic[function], way
        yield from ((section.address, way) for section in image.sections if section.name == code)
    if file.kind != "object" and file.entry is not None:
        yield file.entry, ENTRY if file.kind == "executable" else _STARTED


def _thread_data(file: ElfFile, image: Image) -> Iterator[tuple[int, int]]:
    """Yield the address and size of each part of the initial values of the variables of threads."""
    if file.kind == "object":
        of_threads = {file.name_of(header) for header in file.sections if header.flags & SHF_TLS}
        yield from ((section.address, section.size) for section in image.sections if section.name in of_threads)
    yield from ((segment.vaddr, segment.filesz) for segment in file.elf.segments if segment.type == elf.PT_TLS)
