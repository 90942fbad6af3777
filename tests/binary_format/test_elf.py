"""The reader of ELF tables: what pyelftools reads, of either class and byte order, and damage by name."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding

from cpufeat.aot.llvm.llvmlite_setup import initialize
from cpufeat.binary_format import elf
from cpufeat.binary_format.elf import Elf, Section, Symbol
from cpufeat.binary_format.gnu_property import ISA_1_NEEDED, note, properties

TRIPLES = {
    "x86_64-unknown-linux-gnu": (64, "<"),
    "i686-unknown-linux-gnu": (32, "<"),
    "powerpc64-unknown-linux-gnu": (64, ">"),
    "powerpc-unknown-linux-gnu": (32, ">"),
}
MODULE = """
@counter = global i32 5
@pointer = global i32* @counter
declare i32 @elsewhere(i32)
define i32 @exported(i32 %x) {
  %c = load i32, i32* @counter
  %r = call i32 @elsewhere(i32 %c)
  ret i32 %r
}
define internal i32 @local() noinline { ret i32 3 }
@local.address = global i32 ()* @local
"""


class DamagedError(Exception):
    """What the tests have raised for a damaged file."""


def compiled(triple: str) -> bytes:
    initialize()
    module = binding.parse_assembly(MODULE)
    machine = binding.Target.from_triple(triple).create_target_machine(reloc="pic", codemodel="default")
    module.triple, module.data_layout = triple, str(machine.target_data)
    return bytes(machine.emit_object(module))


FILES = {triple: compiled(triple) for triple in TRIPLES} | {"this Python": Path(sys.executable).read_bytes()}
OBJECT = FILES["x86_64-unknown-linux-gnu"]


@pytest.mark.parametrize("name", FILES)
def test_headers_symbols_and_relocations_are_those_that_pyelftools_reads(name: str) -> None:
    ours, theirs = Elf(FILES[name], DamagedError), ELFFile(io.BytesIO(FILES[name]))
    assert (ours.bits, ours.header.shoff, ours.header.entry) == (
        theirs.elfclass,
        theirs.header.e_shoff,
        theirs.header.e_entry,
    )
    assert [list(section)[2:] for section in ours.sections] == [
        list(section.header.values())[2:] for section in theirs.iter_sections()
    ]
    names = ours.names()
    assert [names[section.name : names.find(b"\0", section.name)].decode() for section in ours.sections] == [
        section.name for section in theirs.iter_sections()
    ]
    assert [(each.vaddr, each.filesz, each.flags, each.offset, each.align) for each in ours.segments] == [
        (each["p_vaddr"], each["p_filesz"], each["p_flags"], each["p_offset"], each["p_align"])
        for each in theirs.iter_segments()
    ]
    tables = [
        (index, section)
        for index, section in enumerate(theirs.iter_sections())
        if isinstance(section, SymbolTableSection)
    ]
    assert tables
    for index, table in tables:
        assert [(each.name, each.value, each.size) for each in ours.symbols(index)] == [
            (each.name, each["st_value"], each["st_size"]) for each in table.iter_symbols()
        ]
    relocated = [
        (index, section)
        for index, section in enumerate(theirs.iter_sections())
        if isinstance(section, RelocationSection)
    ]
    assert relocated
    for index, section in relocated:
        assert [(each.offset, each.type, each.symbol) for each in ours.relocations(ours.sections[index])] == [
            (each["r_offset"], each["r_info_type"], each["r_info_sym"]) for each in section.iter_relocations()
        ]


@pytest.mark.parametrize(("triple", "expected"), TRIPLES.items())
def test_the_class_and_byte_order_are_read(triple: str, expected: tuple[int, str]) -> None:
    file = Elf(FILES[triple], DamagedError)
    assert (file.bits, file.order) == expected


def test_a_symbol_has_its_binding_type_and_place() -> None:
    file = Elf(OBJECT, DamagedError)
    (table,) = (index for index, section in enumerate(file.sections) if section.type == elf.SHT_SYMTAB)
    symbols = {symbol.name: symbol for symbol in file.symbols(table)}
    assert (symbols["exported"].binding, symbols["exported"].type) == (elf.STB_GLOBAL, elf.STT_FUNC)
    assert (symbols["local"].binding, symbols["counter"].type) == (elf.STB_LOCAL, elf.STT_OBJECT)
    assert symbols["elsewhere"].shndx == elf.SHN_UNDEF
    value = struct.unpack_from("<Q", OBJECT, symbols["local"].at + 8)[0]
    assert value == symbols["local"].value


# --- more than the fields of the header can say


def with_sections(*sections: Section, content: bytes) -> bytes:
    """The object with other sections after its own, and their content."""
    file = Elf(OBJECT, DamagedError)
    body = OBJECT + content
    table = b"".join(file.section_header.pack(*section) for section in (*file.sections, *sections))
    header = file.header._replace(shoff=len(body), shnum=len(file.sections) + len(sections))
    return file.file_header.pack(*header) + body[file.file_header.size :] + table


def test_a_large_section_index_is_in_a_table_of_its_own() -> None:
    file, at = Elf(OBJECT, DamagedError), len(OBJECT)
    strings = b"\0far\0"
    rows = struct.pack("<I2BH2Q", 1, 0x12, 0, elf.SHN_XINDEX, 7, 9) + struct.pack("<I", 70000)
    first = len(file.sections)
    made = with_sections(
        Section(0, elf.SHT_STRTAB, 0, 0, at, len(strings), 0, 0, 1, 0),
        Section(0, elf.SHT_SYMTAB, 0, 0, at + len(strings), 24, first, 0, 1, 24),
        Section(0, elf.SHT_SYMTAB_SHNDX, 0, 0, at + len(strings) + 24, 4, first + 1, 0, 1, 4),
        content=strings + rows,
    )
    assert Elf(made, DamagedError).symbols(first + 1) == [Symbol(at + len(strings), "far", 0x12, 0, 70000, 7, 9)]


def test_packed_relocations_are_addresses_and_bit_maps_of_what_follows() -> None:
    file, rows = Elf(OBJECT, DamagedError), struct.pack("<4Q", 0x1000, 0b1011, 0b11, 0x3000)
    made = with_sections(Section(0, elf.SHT_RELR, 0, 0, len(OBJECT), len(rows), 0, 0, 8, 8), content=rows)
    read = Elf(made, DamagedError)
    assert list(read.packed_relocations(read.sections[len(file.sections)])) == [
        *(0x1000, 0x1008, 0x1018),
        0x1008 + 63 * 8,
        0x3000,
    ]


# --- damage


def with_header(**changes: int) -> bytes:
    file = Elf(OBJECT, DamagedError)
    return file.file_header.pack(*file.header._replace(**changes)) + OBJECT[file.file_header.size :]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header"),
        (OBJECT[:60], "header is cut off"),
        (OBJECT[:4] + b"\x07" + OBJECT[5:], "unknown"),
        (b"\x7fELG" + OBJECT[4:], "magic"),
        (OBJECT[:-1], "section headers lie outside"),
        (with_header(shoff=1 << 63), "section headers lie outside"),
        (with_header(shentsize=65), "unknown size"),
        (with_header(phoff=64, phnum=3, phentsize=55), "program headers .* unknown size"),
        (with_header(phoff=1 << 40, phnum=3, phentsize=56), "program headers lie outside"),
    ],
)
def test_damaged_headers_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        Elf(content, DamagedError)


SYMTAB = Section(0, elf.SHT_SYMTAB, 0, 0, 0, 24, 0, 0, 8, 24)


@pytest.mark.parametrize(
    ("table", "strings", "message"),
    [
        ({"offset": 1 << 40}, b"\0", "lies outside"),
        ({"size": 25}, b"\0", "ends within one"),
        ({"entsize": 23}, b"\0", "unknown size"),
        ({"link": 1 << 20}, b"\0", "does not link"),
        ({"link": 0}, b"\0", "does not link"),
        ({}, b"abc", "do not end"),
        ({"size": 24 * 400}, b"\0" + b"a" * 1000 + b"\0", "overlap"),
    ],
)
def test_damaged_symbols_are_refused(table: dict[str, int], strings: bytes, message: str) -> None:
    first, at = len(Elf(OBJECT, DamagedError).sections), len(OBJECT)
    rows = struct.pack("<I2BH2Q", 1, 0, 0, 0, 0, 0) * 400
    made = with_sections(
        Section(0, elf.SHT_STRTAB, 0, 0, at, len(strings), 0, 0, 1, 0),
        SYMTAB._replace(**{"offset": at + len(strings), "link": first, **table}),
        content=strings + rows,
    )
    with pytest.raises(DamagedError, match=message):
        Elf(made, DamagedError).symbols(first + 1)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(OBJECT) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_file_with_any_bytes_changed_is_read_or_refused_as_damaged(changes: list[tuple[int, int]]) -> None:
    content = bytearray(OBJECT)
    for at, byte in changes:
        content[at] = byte
    try:
        file = Elf(bytes(content), DamagedError)
        file.names()
        for index, section in enumerate(file.sections):
            file.content_of(section)
            if section.type == elf.SHT_SYMTAB:
                file.symbols(index)
            elif section.type in (elf.SHT_REL, elf.SHT_RELA):
                list(file.relocations(section))
    except DamagedError:
        pass


def test_a_property_that_was_written_is_read() -> None:
    assert list(properties(note(ISA_1_NEEDED, 6), 8)) == [(ISA_1_NEEDED, 6)]
