"""Files in which many parts claim the same bytes are refused before they cost more than their size."""

from __future__ import annotations

import struct
import time

import pytest

import cpufeat
from cpufeat.binary_format import coff, macho
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


@pytest.mark.parametrize("machine", [0x14C, AMD64, 0xAA64])
def test_an_import_object_holds_no_code_and_is_not_damaged(machine: int) -> None:
    """Microsoft's PE Format, "Import Library Format": a name, the name of its DLL, and nothing else."""
    names = b"f\0some.dll\0"
    header = struct.pack("<2H2H2I2H", 0, 0xFFFF, 0, machine, 0, len(names), 0, 4)
    audit = cpufeat.audit(header + names)
    assert (audit.kind, audit.instructions, list(audit.needs)) == ("object", 0, [])
    with pytest.raises(AuditError, match="a damaged import object: it is cut off"):
        cpufeat.audit(header + names[:-1])
