"""ELF: programs, libraries and objects (System V gABI, chapters 4 and 5; the psABI of each architecture).

pyelftools reads the headers. Symbols and relocations are plain arrays, which it would take 20 us an entry to read
(libLLVM has 300 000), so they are unpacked here.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import NamedTuple

from cpufeat.auditing.fields_aarch64 import ADDRESS21, BRANCH14, BRANCH19, BRANCH26, OFFSET12, PAGE21, TABLE15
from cpufeat.auditing.functions import functions
from cpufeat.auditing.image import Image, Section, Symbol
from cpufeat.auditing.layout import SPACING, Fix, Layout, Part, word_at
from cpufeat.auditing.unwind import frame_ranges
from cpufeat.errors import AuditError
from cpufeat.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from elftools.elf.elffile import ELFFile

_ARCHITECTURES = {
    "EM_X86_64": "x86_64",
    "EM_386": "i686",
    "EM_S390": "s390x",
    "EM_RISCV": "riscv{}",
    "EM_LOONGARCH": "loongarch{}",
}
"""With the bits of the file's class."""
_BY_ORDER = {("aarch64", False): "aarch64_be", ("ppc64", True): "ppc64le"}
"""Of two byte orders: by whether the file is little-endian."""
_WRITE, _ALLOC, _EXECUTE, _TLS = 1, 2, 4, 0x400
_UNDEFINED, _ABSOLUTE, _COMMON, _FAR = 0, 0xFFF1, 0xFFF2, 0xFFFF
_SYMBOL_KINDS = {0: "label", 1: "data", 2: "function", 10: "resolver"}
"""STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC."""
_LOCAL, _HIDDEN = 0, (1, 2)
"""STB_LOCAL; STV_INTERNAL, STV_HIDDEN."""
_PF_EXECUTE, _PF_WRITE = 1, 2
_DF_1_PIE = 0x08000000
_MOST_ALIGNED = 1 << 32

_FIXES = {
    "x86_64": {
        1: Fix(64),  # R_X86_64_64
        2: Fix(32, relative=True),  # PC32
        4: Fix(32, relative=True),  # PLT32
        9: Fix(32, relative=True, slot=True),  # GOTPCREL
        10: Fix(32),  # 32
        11: Fix(32),  # 32S
        24: Fix(64, relative=True),  # PC64
        41: Fix(32, relative=True, slot=True),  # GOTPCRELX
        42: Fix(32, relative=True, slot=True),  # REX_GOTPCRELX
    },
    "i686": {
        1: Fix(32),  # R_386_32
        2: Fix(32, relative=True),  # PC32
        4: Fix(32, relative=True),  # PLT32
    },
    "aarch64": {
        257: Fix(64),  # R_AARCH64_ABS64
        258: Fix(32),  # ABS32
        260: Fix(64, relative=True),  # PREL64
        261: Fix(32, relative=True),  # PREL32
        273: Fix(field=BRANCH19),  # LD_PREL_LO19
        274: Fix(field=ADDRESS21),  # ADR_PREL_LO21
        275: Fix(field=PAGE21),  # ADR_PREL_PG_HI21
        276: Fix(field=PAGE21),  # ADR_PREL_PG_HI21_NC
        277: Fix(field=OFFSET12),  # ADD_ABS_LO12_NC
        278: Fix(field=OFFSET12),  # LDST8_ABS_LO12_NC
        279: Fix(field=BRANCH14),  # TSTBR14
        280: Fix(field=BRANCH19),  # CONDBR19
        282: Fix(field=BRANCH26),  # JUMP26
        283: Fix(field=BRANCH26),  # CALL26
        284: Fix(field=OFFSET12),  # LDST16_ABS_LO12_NC
        285: Fix(field=OFFSET12),  # LDST32_ABS_LO12_NC
        286: Fix(field=OFFSET12),  # LDST64_ABS_LO12_NC
        299: Fix(field=OFFSET12),  # LDST128_ABS_LO12_NC
        309: Fix(slot=True, field=BRANCH19),  # GOT_LD_PREL19
        311: Fix(slot=True, field=PAGE21),  # ADR_GOT_PAGE
        312: Fix(slot=True, field=OFFSET12),  # LD64_GOT_LO12_NC
        313: Fix(slot=True, field=TABLE15),  # LD64_GOTPAGE_LO15
        314: Fix(32, relative=True),  # PLT32
    },
}
"""In objects: what each type of relocation stores. The others store nothing that an analysis asks for."""
_OWN = {"x86_64": (8, 37, 38), "i686": (8, 42), "aarch64": (1027, 1032)}
"""In linked files: the types that store an address of the file itself (RELATIVE, IRELATIVE)."""
_CHOSEN = {"x86_64": 37, "i686": 42, "aarch64": 1032}
"""In linked files: the type that stores what the function at an address of the file itself returns (IRELATIVE)."""
_SYMBOLIC = {"x86_64": (1, 6, 7), "i686": (1, 6, 7), "aarch64": (257, 1025, 1026)}
"""In linked files: the types that store a symbol's address (absolute, GLOB_DAT, JUMP_SLOT)."""

_TABLE = "_GLOBAL_OFFSET_TABLE_"
_SPACING = {"aarch64": 1024}
"""Bytes kept free for what is in another file: glibc reads its ``_dl_hwcap2`` from far within ``_rtld_global_ro``."""


class _Header(NamedTuple):
    """A section header, or a segment's in a file that has none for code."""

    name: str
    type: str
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class _File(Value):
    content: memoryview
    name: str
    arch: str
    bits: int
    order: str
    kind: str
    entry: int | None
    headers: list[_Header]

    def error(self, what: str) -> AuditError:
        return AuditError(f"{self.name}: a damaged ELF file: {what}")

    def of_type(self, *types: str) -> list[int]:
        """Return the indices of the sections of those types."""
        return [index for index, header in enumerate(self.headers) if header.type in types]

    def content_of(self, index: int) -> memoryview:
        """Return what a section holds in the file."""
        header = self.headers[index]
        return self.content[:0] if header.type == "SHT_NOBITS" else self.content[header.offset :][: header.size]

    def rows(self, index: int, layout: str) -> Iterator[tuple[int, ...]]:
        """Return the rows of the table that a section holds."""
        row, content = struct.Struct(self.order + layout), self.content_of(index)
        return row.iter_unpack(content[: len(content) // row.size * row.size])

    @property
    def letter(self) -> str:
        """The struct module's letter for an address."""
        return "Q" if self.bits == 64 else "I"


class _Entry(NamedTuple):
    """A row of a table of symbols."""

    name: str
    value: int
    size: int
    info: int
    visibility: int
    section: int


class _Relocation(NamedTuple):
    offset: int
    type: int
    symbol: int
    addend: int | None
    """None: it stands in the place itself."""


def elf_image(content: bytes, name: str) -> Image:
    """Return the image of an ELF file. Raises AuditError for a damaged one."""
    from elftools.elf.elffile import ELFFile

    try:
        file = _read(content, name, ELFFile(BytesIO(content)))
    except Exception as error:  # what pyelftools raises for damaged files is not written down
        raise AuditError(f"{name}: a damaged ELF file: {error or type(error).__name__}") from None
    _check(file)
    return _object(file) if file.kind == "object" else _linked(file)


# --- headers


def _read(content: bytes, name: str, elf: ELFFile) -> _File:
    machine = str(elf.header.e_machine)
    arch = _ARCHITECTURES.get(machine, machine.removeprefix("EM_").lower()).format(elf.elfclass)
    arch = _BY_ORDER.get((arch, elf.little_endian), arch)
    segments: list[Any] = list(elf.iter_segments())
    kind = "object" if elf.header.e_type == "ET_REL" else "executable" if _runs(elf, segments) else "library"
    headers = [_of_section(section.name, section.header) for section in elf.iter_sections()]
    if not any(header.flags & _EXECUTE for header in headers):
        headers = [_of_segment(segment.header) for segment in segments if segment.header.p_type == "PT_LOAD"]
    order = "<" if elf.little_endian else ">"
    return _File(memoryview(content), name, arch, elf.elfclass, order, kind, elf.header.e_entry or None, headers)


def _of_section(name: str, header: Mapping[str, Any]) -> _Header:
    fields = ("type", "flags", "addr", "offset", "size", "link", "info", "addralign")
    return _Header(name, *(header[f"sh_{field}"] for field in fields))


def _of_segment(header: Mapping[str, Any]) -> _Header:
    flags = _ALLOC | header["p_flags"] & _PF_WRITE and _WRITE | header["p_flags"] & _PF_EXECUTE and _EXECUTE
    return _Header(
        "", "PT_LOAD", flags, header["p_vaddr"], header["p_offset"], header["p_filesz"], 0, 0, header["p_align"]
    )


def _runs(elf: ELFFile, segments: list[Any]) -> bool:
    """Whether a linked file is a program: at a fixed address, with an interpreter, or marked as one."""
    tags = [
        tag for segment in segments if segment.header.p_type == "PT_DYNAMIC" for tag in segment.iter_tags("DT_FLAGS_1")
    ]
    return (
        elf.header.e_type == "ET_EXEC"
        or any(segment.header.p_type == "PT_INTERP" for segment in segments)
        or any(tag.entry.d_val & _DF_1_PIE for tag in tags)
    )


def _check(file: _File) -> None:
    """Refuse what would cost more than a file of this size can be worth."""
    stored = [header for header in file.headers if header.type != "SHT_NOBITS"]
    for header in stored:
        if header.size and header.offset + header.size > len(file.content):
            raise file.error(f"{header.name or 'a segment'} lies outside of it")
    if sum(header.size for header in stored) > 2 * len(file.content):
        raise file.error("its sections overlap")
    if any(header.address + header.size > 1 << file.bits for header in file.headers):
        raise file.error("a section lies outside of memory")
    if any(header.alignment > _MOST_ALIGNED or header.alignment.bit_count() > 1 for header in file.headers):
        raise file.error("a section is aligned to what is no power of two, or too large for one")


# --- symbols and relocations


def _entries(file: _File, index: int) -> list[_Entry]:
    """Return the symbols of a table."""
    rows = file.rows(index, "IBBHQQ" if file.bits == 64 else "IIIBBH")
    link = file.headers[index].link
    strings = bytes(file.content_of(link)) if link < len(file.headers) else b""
    far = [
        row[0]
        for far in file.of_type("SHT_SYMTAB_SHNDX")
        if file.headers[far].link == index
        for row in file.rows(far, "I")
    ]
    found, length = [], 0
    for number, row in enumerate(rows):
        start, info, visibility, section, value, size = row if file.bits == 64 else (row[0], *row[3:], row[1], row[2])
        end = strings.find(b"\0", start)
        if end < 0 and strings:
            raise file.error("a symbol's name does not end")
        length += end - start
        if length > 4 * len(strings) + 65536:
            raise file.error("its symbols' names overlap")
        if section == _FAR and number < len(far):
            section = far[number]
        found.append(_Entry(strings[start:end].decode(errors="replace"), value, size, info, visibility, section))
    return found


def _relocations(file: _File, index: int) -> Iterator[_Relocation]:
    """Return the relocations of a section of type SHT_REL or SHT_RELA."""
    shift, mask = (32, 0xFFFFFFFF) if file.bits == 64 else (8, 0xFF)
    stated = file.headers[index].type == "SHT_RELA"
    for offset, info, *addend in file.rows(index, file.letter * 2 + file.letter.lower() * stated):
        yield _Relocation(offset, info & mask, info >> shift, addend[0] if stated else None)


def _defined(entry: _Entry) -> bool:
    return entry.section not in (_UNDEFINED, _ABSOLUTE, _COMMON)


def _symbols(entries: Iterable[tuple[_Entry, int, bool]]) -> tuple[Symbol, ...]:
    """Return the symbols among table rows with their addresses, and whether other files can see them."""
    kinds = _SYMBOL_KINDS
    return tuple(
        Symbol(address, entry.size, entry.name, kinds[entry.info & 0xF], visible)
        for entry, address, visible in entries
        if entry.name and entry.info & 0xF in kinds and not _is_mapping(entry)
    )


def _is_mapping(entry: _Entry) -> bool:
    """Whether a symbol of Arm's ABI says what begins here: ``$x`` code, ``$d`` data."""
    return entry.name[:1] == "$" and entry.name[1:2] in ("x", "d", "a", "t") and entry.name[2:3] in ("", ".")


def _data(entries: Iterable[tuple[_Entry, int]], sections: Sequence[Section]) -> tuple[tuple[int, int], ...]:
    """Return the stretches of code sections that symbols call data, from table rows with their addresses."""
    code = [section for section in sections if section.executable]
    found = []
    for section in code:
        inside = [(at, entry) for entry, at in entries if section.address <= at < section.end]
        found += [
            (at, min(at + entry.size, section.end)) for at, entry in inside if entry.info & 0xF == 1 and entry.size
        ]
        marks = sorted((at, entry.name[1]) for at, entry in inside if _is_mapping(entry))
        ends = [at for at, _ in marks[1:]] + [section.end]
        found += [(at, end) for (at, mark), end in zip(marks, ends, strict=False) if mark == "d" and at < end]
    return tuple(sorted(found))


# --- images


def _object(file: _File) -> Image:
    headers = file.headers
    placed = [index for index, header in enumerate(headers) if header.flags & _ALLOC and not header.flags & _TLS]
    layout = Layout(
        ((headers[index].size, headers[index].alignment, bool(headers[index].flags & _EXECUTE)) for index in placed),
        file.bits // 8,
        spacing=_SPACING.get(file.arch, SPACING),
        table=_TABLE if file.arch == "aarch64" else "",
    )
    address = dict(zip(placed, layout.addresses, strict=True))
    content: dict[int, memoryview | bytearray] = {index: file.content_of(index) for index in placed}
    tables = {index: _entries(file, index) for index in file.of_type("SHT_SYMTAB")}
    values = {index: [_object_value(entry, address, layout) for entry in rows] for index, rows in tables.items()}
    fixes = _FIXES.get(file.arch, {})
    for index in file.of_type("SHT_REL", "SHT_RELA"):
        section, targets = headers[index].info, values.get(headers[index].link, [])
        if section not in content:
            continue
        changed = content[section] = bytearray(content[section])
        for one in _relocations(file, index):
            if one.type in fixes and one.symbol < len(targets):
                part = Part(changed, address[section])
                layout.apply(part, one.offset, fixes[one.type], targets[one.symbol], one.addend)
    sections = [_section(headers[index], address[index], memoryview(content[index])) for index in placed]
    rows = [
        (entry, value, entry.info >> 4 != _LOCAL)
        for index, entries in tables.items()
        for entry, value in zip(entries, values[index], strict=True)
        if _defined(entry)
    ]
    return _image(file, sections, rows, layout)


def _object_value(entry: _Entry, address: Mapping[int, int], layout: Layout) -> int:
    if _defined(entry) or entry.section == _ABSOLUTE:
        return address.get(entry.section, 0) + entry.value
    return layout.external(entry.name)


def _linked(file: _File) -> Image:
    loaded = [
        (header, file.content_of(index))
        for index, header in enumerate(file.headers)
        if header.flags & _ALLOC and not (header.flags & _TLS and header.type == "SHT_NOBITS")
    ]
    sections = [_section(header, header.address, content) for header, content in loaded]
    above = max((section.end for section in sections), default=0)
    layout = Layout([], file.bits // 8, above, _SPACING.get(file.arch, SPACING))
    dynamic = {index: _entries(file, index) for index in file.of_type("SHT_DYNSYM")}
    exported = {entry.value for rows in dynamic.values() for entry in rows if _defined(entry)}
    tables = [_entries(file, index) for index in file.of_type("SHT_SYMTAB")] or list(dynamic.values())
    rows = [(entry, entry.value, entry.value in exported) for entries in tables for entry in entries if _defined(entry)]
    sections.sort(key=lambda section: section.address)
    layout.pointers.update(_pointers(file, dynamic, layout, sections))
    chosen = [
        layout.pointers[one.offset]
        for index in file.of_type("SHT_REL", "SHT_RELA")
        for one in _relocations(file, index)
        if one.type == _CHOSEN.get(file.arch) and one.offset in layout.pointers
    ]
    return _image(file, sections, rows, layout, chosen)


def _pointers(
    file: _File, dynamic: Mapping[int, Sequence[_Entry]], layout: Layout, sections: Sequence[Section]
) -> Iterator[tuple[int, int]]:
    """Return what the loader stores where, in the file's own addresses."""
    own, symbolic = _OWN.get(file.arch, ()), _SYMBOLIC.get(file.arch, ())
    in_place = list(_packed(file))
    for index in file.of_type("SHT_REL", "SHT_RELA"):
        entries = dynamic.get(file.headers[index].link, ())
        for one in _relocations(file, index):
            if one.type in symbolic and one.symbol < len(entries):
                entry = entries[one.symbol]
                value = entry.value if _defined(entry) else layout.external(entry.name)
                yield one.offset, value + (one.addend or 0)
            elif one.type in own and one.addend is not None:
                yield one.offset, one.addend
            elif one.type in own:
                in_place.append(one.offset)
    for place in in_place:
        target = word_at(sections, place, file.bits // 8, "little" if file.order == "<" else "big")
        if target is not None:
            yield place, target


def _packed(file: _File) -> Iterator[int]:
    """Return the places that SHT_RELR names: one, then maps of which of the words that follow it are too."""
    width = file.bits // 8
    place = 0
    for index in file.of_type("SHT_RELR"):
        for (row,) in file.rows(index, file.letter):
            if row & 1:
                yield from (place + bit * width for bit in range(file.bits - 1) if row >> bit + 1 & 1)
                place += (file.bits - 1) * width
            else:
                yield row
                place = row + width


def _section(header: _Header, address: int, content: memoryview) -> Section:
    executable, writable = bool(header.flags & _EXECUTE), bool(header.flags & _WRITE)
    return Section(
        header.name, address, content, header.size, executable, writable, max(header.alignment, 1), header.offset
    )


def _image(
    file: _File,
    sections: list[Section],
    rows: list[tuple[_Entry, int, bool]],
    layout: Layout,
    resolvers: Iterable[int] = (),
) -> Image:
    sections.sort(key=lambda section: section.address)
    symbols = _symbols(rows)
    frames = [section for section in sections if section.name == ".eh_frame"]
    unwound = [stretch for one in frames for stretch in frame_ranges(one.content, one.address, file.order, file.bits)]
    return Image(
        name=file.name,
        format="ELF",
        arch=file.arch,
        bits=file.bits,
        kind=file.kind,
        sections=tuple(sections),
        symbols=symbols,
        functions=functions(sections, symbols, unwound),
        data=_data([(entry, address) for entry, address, _ in rows], sections),
        pointers=layout.pointers,
        externals=layout.externals,
        narrow=frozenset(layout.narrow),
        spacing=layout.spacing,
        entry=file.entry if file.kind == "executable" else None,
        resolvers=frozenset([*resolvers, *[symbol.address for symbol in symbols if symbol.kind == "resolver"]]),
    )
