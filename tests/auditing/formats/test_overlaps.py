"""Files in which many parts claim the same bytes are refused before they cost more than their size."""

from __future__ import annotations

import random
import struct
import time

import pytest

import cpufeat
from cpufeat.binary_format import coff, elf, macho
from cpufeat.errors import AuditError

AMD64, CODE, TEXT = 0x8664, 0x60000020, b".text\0\0\0"
SIZE = 1 << 16


def coff_object(count: int, size: int, relocations: int = 0) -> bytes:
    """An object with so many sections of code, each of the same bytes and relocations."""
    at = 20 + count * coff.SECTION.size
    section = coff.SECTION.pack(TEXT, 0, 0, size, at, at, 0, relocations, 0, CODE)
    return coff.FILE_HEADER.pack(AMD64, count, 0, 0, 0, 0, 0) + section * count + b"\xc3" * SIZE


def pe_file(count: int, size: int) -> bytes:
    """A program with so many sections of code, each of the same bytes."""
    sizes = [0, 1 << 24, 1024, 0]
    stack_and_heap = [1 << 20, 4096, 1 << 20, 4096]
    fields = [0x20B, 14, 0, *[0] * 5, 0x140000000, 4096, 512, *[0] * 6, *sizes, 3, 0, *stack_and_heap, 0, 16]
    optional = struct.pack("<H2B5IQ2I6H4I2H4Q2I", *fields)
    optional = optional.ljust(112 + 16 * 8, b"\0")
    start = 64
    at = start + 4 + 20 + len(optional) + count * coff.SECTION.size
    header = coff.FILE_HEADER.pack(AMD64, count, 0, 0, 0, len(optional), 0x22)
    sections = [
        coff.SECTION.pack(TEXT, size, 4096 + number * SIZE, size, at, 0, 0, 0, 0, CODE) for number in range(count)
    ]
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", start) + b"PE\0\0" + header + optional + b"".join(sections)
    return head + b"\xc3" * SIZE


def macho_object(count: int, size: int, relocations: int = 0) -> bytes:
    """An object with so many sections of code, each of the same bytes and relocations."""
    command = struct.calcsize("<" + macho.SEGMENT[64]) + count * struct.calcsize("<" + macho.SECTION[64])
    at = 32 + command
    sections = [
        struct.pack("<" + macho.SECTION[64], b"__text", b"__TEXT", number * SIZE, size, at, 4, at, relocations,
                    0x80000400, 0, 0, 0)
        for number in range(count)
    ]  # fmt: skip
    header = struct.pack("<8I", 0xFEEDFACF, 0x01000007, 3, 1, 1, command, 0, 0)
    segment = struct.pack("<" + macho.SEGMENT[64], 0x19, command, b"", 0, SIZE * count, at, SIZE, 7, 7, count, 0)
    return header + segment + b"".join(sections) + b"\xc3" * SIZE


@pytest.mark.parametrize("make", [coff_object, pe_file, macho_object])
def test_sections_may_not_overlap_as_a_whole(make) -> None:
    assert cpufeat.audit(make(1, SIZE)).instructions == SIZE
    start = time.monotonic()
    with pytest.raises(AuditError, match="its sections overlap"):
        cpufeat.audit(make(1000, SIZE))
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("make", [coff_object, macho_object])
def test_relocations_may_not_overlap_as_a_whole(make) -> None:
    start = time.monotonic()
    with pytest.raises(AuditError, match="its relocations overlap"):
        cpufeat.audit(make(1000, 16, relocations=6000))
    assert time.monotonic() - start < 2


def elf_object(*sections: tuple[int, ...], kind: int = 1, strings: bytes = b"") -> bytes:
    """An ELF file with a section of code, a table of strings, and others."""
    code = (0, elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, 0, 64, 4, 0, 0, 4, 0)
    table = (0, elf.SHT_STRTAB, 0, 0, 68, len(strings), 0, 0, 1, 0)
    rows = [(0,) * 10, table, code, *sections]
    header = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header += struct.pack("<2HI3QI6H", kind, 62, 1, 0, 0, 68 + len(strings), 0, 64, 56, 0, 64, len(rows), 1)
    return header + b"\xc3" * 4 + strings + b"".join(struct.pack("<2I4Q2I2Q", *row) for row in rows)


DATA = (1, elf.SHT_PROGBITS, elf.SHF_ALLOC, 0, 0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("sections", "kind", "message"),
    [
        ([DATA] * 2000, 1, "its sections' names overlap, or are too long"),
        ([(0, elf.SHT_SYMTAB, 0, 0, 0, 0, 1, 0, 8, 24)] * 2000, 1, "several tables of symbols of one kind"),
        ([(0, elf.SHT_PROGBITS, 6, 2, 64, 4, 0, 0, 2, 0)] * 2, 3, "its code overlaps in memory"),
    ],
)
def test_an_elf_file_may_not_cost_more_than_its_size(sections, kind, message) -> None:
    with pytest.raises(AuditError, match=message):
        cpufeat.audit(elf_object(*sections, kind=kind, strings=b"\0" + b"n" * 30_000 + b"\0"))


def test_many_sections_may_have_one_name() -> None:
    """Such as ``.group``, of which there is one for each template of C++."""
    audit = cpufeat.audit(elf_object(*[DATA] * 30_000, strings=b"\0.group\0"))
    assert audit.instructions == 4


def test_many_symbols_in_many_sections_of_code_take_no_longer_than_both() -> None:
    """``-ffunction-sections``, which took the product."""
    count = 8000
    strings = b"\0f\0" + bytes(24) + struct.pack("<I2BH2Q", 1, 0x12, 0, 2, 0, 4) * count
    symbols = (0, elf.SHT_SYMTAB, 0, 0, 68 + 3, 24 * (count + 1), 1, 1, 8, 24)
    section = (0, elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, 0, 64, 1, 0, 0, 1, 0)
    start = time.process_time()
    assert cpufeat.audit(elf_object(symbols, *[section] * count, strings=strings)).instructions == 4 + count
    assert time.process_time() - start < 3


COUNT, LENGTH = 20_000, 30_000


def coff_names(length: int) -> bytes:
    """An object of which all symbols have one name, of so many bytes."""
    symbol = struct.pack("<3Ih2H2B", 0, 4, 0, -1, 0, 0, 2, 0)[:18]
    strings = struct.pack("<I", 5 + length) + b"n" * length + b"\0"
    return coff.FILE_HEADER.pack(AMD64, 0, 0, 20, COUNT, 0, 0) + symbol * COUNT + strings


def macho_names(length: int) -> bytes:
    """An object of which all symbols have one name, of so many bytes."""
    header = struct.pack("<8I", 0xFEEDFACF, 0x01000007, 3, 1, 1, 24, 0, 0)
    command = struct.pack("<6I", macho.LC_SYMTAB, 24, 56, COUNT, 56 + 16 * COUNT, length + 2)
    return header + command + struct.pack("<I2BHQ", 1, 1, 0, 0, 0) * COUNT + b"\0" + b"n" * length + b"\0"


def pe_names(length: int) -> bytes:
    """A library that exports so many functions of one name, of so many bytes."""
    start, tables = 4096, 40
    names = start + tables + 10 * COUNT
    addresses = [start + tables, start + tables + 4 * COUNT, start + tables + 8 * COUNT]
    directory = struct.pack("<2I2H7I", 0, 0, 0, 0, names, 1, COUNT, COUNT, *addresses)
    body = directory + struct.pack("<I", 4096) * COUNT + struct.pack("<I", names) * COUNT + bytes(2 * COUNT)
    whole = bytearray(pe_file(1, SIZE))
    at = len(whole) - SIZE
    whole[at:] = body + b"n" * length + b"\0"
    struct.pack_into("<2I", whole, 64 + 24 + 112, start, len(body))
    section = at - coff.SECTION.size
    whole[section:at] = coff.SECTION.pack(TEXT, len(whole) - at, start, len(whole) - at, at, 0, 0, 0, 0, CODE)
    return bytes(whole)


@pytest.mark.parametrize("make", [coff_names, macho_names, pe_names])
def test_names_may_not_overlap_as_a_whole(make) -> None:
    assert cpufeat.audit(make(2)).name == "(bytes)"
    start = time.monotonic()
    with pytest.raises(AuditError, match="its names overlap, or are too long"):
        cpufeat.audit(make(LENGTH))
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("machine", [0x14C, AMD64, 0xAA64])
def test_an_import_object_holds_no_code_and_is_not_damaged(machine: int) -> None:
    """Microsoft's PE Format, "Import Library Format": a name, the name of its DLL, and nothing else."""
    names = b"f\0some.dll\0"
    header = struct.pack("<2H2H2I2H", 0, 0xFFFF, 0, machine, 0, len(names), 0, 4)
    audit = cpufeat.audit(header + names)
    assert (audit.kind, audit.instructions, list(audit.needs)) == ("object", 0, [])
    with pytest.raises(AuditError, match="a damaged import object: it is cut off"):
        cpufeat.audit(header + names[:-1])


def test_following_values_takes_time_in_proportion_to_the_code() -> None:
    """A function that stores thousands of values and joins them at hundreds of places, which took the product."""
    chance = random.Random(1)
    code = bytearray.fromhex("b801000000 31c9 0fa2")  # mov eax, 1; xor ecx, ecx; cpuid
    while len(code) < 20_000:
        code += b"\x89\x8c\x24" + struct.pack("<i", chance.randrange(1 << 16) * 4)  # mov [rsp + n], ecx
        if chance.random() < 0.2:
            code += b"\x0f\x84" + struct.pack("<i", chance.randrange(len(code)) - len(code) - 6)  # je
    code += bytes.fromhex("c5fc58c1 c3")  # vaddps ymm0, ymm0, ymm1; ret
    start = time.process_time()
    audit = cpufeat.audit(elf_file_of(bytes(code)))
    assert time.process_time() - start < 5
    assert "avx" in audit.bare


def elf_file_of(code: bytes) -> bytes:
    """An object with one function."""
    symbol = bytes(24) + struct.pack("<I2BH2Q", 1, 0x12, 0, 3, 0, len(code))
    strings = b"\0f\0".ljust(4, b"\0") + symbol + code
    rows = (
        (0, elf.SHT_SYMTAB, 0, 0, 72, len(symbol), 1, 1, 8, 24),
        (0, elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, 0, 72 + len(symbol), len(code), 0, 0, 1, 0),
    )
    content = bytearray(elf_object(*rows, strings=strings))
    struct.pack_into("<H", content, 72 + 24 + 6, 4)  # the second row that was added is section 4
    return bytes(content)


def test_many_symbols_in_many_sections_of_a_mach_o_file_take_no_longer_than_both() -> None:
    sections, symbols = 5000, 20_000
    command = struct.calcsize("<" + macho.SEGMENT[64]) + sections * struct.calcsize("<" + macho.SECTION[64])
    at = 32 + command + 24
    rows = [
        struct.pack("<" + macho.SECTION[64], b"__text", b"__TEXT", 16 * index, 1, at, 0, 0, 0, 0x80000400, 0, 0, 0)
        for index in range(sections)
    ]
    segment = struct.pack("<" + macho.SEGMENT[64], 0x19, command, b"", 0, 16 * sections, at, 16, 7, 7, sections, 0)
    table = [struct.pack("<I2BHQ", 1 + 7 * index, 0x0F, 1, 0, index % sections * 16) for index in range(symbols)]
    strings = b"\0" + b"".join(b"f%05d\0" % index for index in range(symbols))
    symbol_table = struct.pack("<6I", macho.LC_SYMTAB, 24, at + 16, symbols, at + 16 + 16 * symbols, len(strings))
    header = struct.pack("<8I", 0xFEEDFACF, 0x01000007, 3, 1, 2, command + 24, 0, 0)
    content = header + segment + b"".join(rows) + symbol_table + b"\xc3" * 16 + b"".join(table) + strings
    start = time.process_time()
    assert cpufeat.audit(content).instructions == sections
    assert time.process_time() - start < 4
