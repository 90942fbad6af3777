"""The note in an ELF file that says what it was compiled for.

A section ``.note.cpufeat`` of type SHT_NOTE (System V gABI, "Note Section"): owner ``cpufeat``, type 1, UTF-8 text.
It is allocated, like the build ID: ``strip`` of binutils and of LLVM keeps such sections, and linkers put them into
PT_NOTE. It is added to the finished object, so that it can record what is known only after code generation.
"""

from __future__ import annotations

import struct

from cpufeat.errors import ArtifactError
from cpufeat.value import Value

SECTION = b".note.cpufeat"
OWNER = b"cpufeat\0"
KIND = 1
_SHT_NOTE, _SHF_ALLOC, _ALIGNMENT = 7, 2, 4
_MANY_SECTIONS, _FAR_NAMES = 0xFF00, 0xFFFF
"""SHN_LORESERVE, SHN_XINDEX: the number of sections, and that of their names, stand in the first section header."""
_FILE_HEADER = {1: "16s2H5I6H", 2: "16s2HI3QI6H"}
_SECTION_HEADER = {1: "10I", 2: "2I4Q2I2Q"}
_BYTE_ORDER = {1: "<", 2: ">"}
_TABLE, _COUNT, _NAMES = 6, 12, 13
"""Fields of the file header: e_shoff, e_shnum, e_shstrndx."""
_NAME, _TYPE, _OFFSET, _SIZE, _LINK = 0, 1, 4, 5, 6
"""Fields of a section header."""


class _Layout(Value):
    order: str
    file_header: struct.Struct
    section_header: struct.Struct
    header: list[int]
    sections: list[list[int]]
    names: int
    """The index of the section that holds the sections' names."""


def add(elf: bytes, text: str) -> bytes:
    """Return an ELF object with the note added and everything else in its place.

    Appended are the note, a longer copy of the sections' names, and a longer copy of the section headers.
    Raises ArtifactError for what is no ELF file.
    """
    layout = _layout(elf)
    header, sections, names = layout.header, layout.sections, layout.sections[layout.names]
    payload = text.encode()
    note = struct.pack(layout.order + "3I", len(OWNER), len(payload), KIND) + OWNER + payload
    out = bytearray(elf)
    at = _append(out, note + bytes(-len(note) % _ALIGNMENT), _ALIGNMENT)
    sections.append([names[_SIZE], _SHT_NOTE, _SHF_ALLOC, 0, at, len(out) - at, 0, 0, _ALIGNMENT, 0])
    names[_OFFSET] = _append(out, _content(elf, names) + SECTION + b"\0", 1)
    names[_SIZE] = len(out) - names[_OFFSET]
    header[_COUNT], sections[0][_SIZE] = (len(sections), 0) if len(sections) < _MANY_SECTIONS else (0, len(sections))
    header[_TABLE] = _append(out, b"".join(layout.section_header.pack(*row) for row in sections), 8)
    layout.file_header.pack_into(out, 0, *header)
    return bytes(out)


def read(elf: bytes) -> list[str]:
    """Return the text of each of cpufeat's notes: one for each object, in a linked file.

    Raises ArtifactError for what is no ELF file, and for a damaged one.
    """
    layout = _layout(elf)
    names = _content(elf, layout.sections[layout.names]) if layout.sections else b""
    texts: list[str] = []
    for row in layout.sections:
        if row[_TYPE] == _SHT_NOTE and names[row[_NAME] :].startswith(SECTION + b"\0"):
            texts.extend(_texts(layout.order, _content(elf, row)))
    return texts


def _texts(order: str, content: bytes) -> list[str]:
    texts, at = [], 0
    while at + 12 <= len(content):
        owner_size, size, kind = struct.unpack_from(order + "3I", content, at)
        start = at + 12 + owner_size + -owner_size % _ALIGNMENT
        at = start + size + -size % _ALIGNMENT
        if (content[start - len(OWNER) : start], owner_size, kind) != (OWNER, len(OWNER), KIND) or at > len(content):
            raise ArtifactError("a damaged note")
        try:
            texts.append(content[start : start + size].decode())
        except UnicodeDecodeError:
            raise ArtifactError("a damaged note: its text is not UTF-8") from None
    return texts


def _layout(elf: bytes) -> _Layout:
    if elf[:4] != b"\x7fELF":
        raise ArtifactError("not an ELF file")
    try:
        order = _BYTE_ORDER[elf[5]]
        file_header = struct.Struct(order + _FILE_HEADER[elf[4]])
        section_header = struct.Struct(order + _SECTION_HEADER[elf[4]])
        header = list(file_header.unpack_from(elf))
        first = section_header.unpack_from(elf, header[_TABLE]) if header[_TABLE] else [0] * 10
        count = header[_COUNT] or first[_SIZE]
        names = first[_LINK] if header[_NAMES] == _FAR_NAMES else header[_NAMES]
        if header[_TABLE] + count * section_header.size > len(elf) or names >= max(count, 1):
            raise ArtifactError("a damaged ELF file: its sections lie outside of it")
        table = memoryview(elf)[header[_TABLE] : header[_TABLE] + count * section_header.size]
        sections = [list(row) for row in section_header.iter_unpack(table)]
    except (struct.error, KeyError, IndexError) as error:
        raise ArtifactError(f"a damaged ELF file: {error}") from None
    return _Layout(order, file_header, section_header, header, sections, names)


def _content(elf: bytes, row: list[int]) -> bytes:
    if row[_OFFSET] + row[_SIZE] > len(elf):
        raise ArtifactError("a damaged ELF file: a section lies outside of it")
    return elf[row[_OFFSET] : row[_OFFSET] + row[_SIZE]]


def _append(out: bytearray, content: bytes, alignment: int) -> int:
    out.extend(bytes(-len(out) % alignment))
    out.extend(content)
    return len(out) - len(content)
