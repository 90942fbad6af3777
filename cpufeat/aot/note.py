"""The note in an ELF file that says what it was compiled for.

A section ``.note.cpufeat`` of type SHT_NOTE (System V gABI, "Note Section"): owner ``cpufeat``, type 1, UTF-8 text.
It is allocated, like the build ID: ``strip`` of binutils and of LLVM keeps such sections, and linkers put them into
PT_NOTE. It is added to the finished object, so that it can record what is known only after code generation.
"""

from __future__ import annotations

import struct

from cpufeat.aot.elf import MANY_SECTIONS, SHF_ALLOC, SHT_NOTE, Elf, Section
from cpufeat.errors import ArtifactError

SECTION = b".note.cpufeat\0"
OWNER = b"cpufeat\0"
KIND = 1
_ALIGNMENT = 4


def add(content: bytes, text: str) -> bytes:
    """Return an ELF object with the note added and everything else in its place.

    Appended are the note, a longer copy of the sections' names, and a longer copy of the section headers.
    Raises ArtifactError for what is no ELF file.
    """
    elf = Elf(content)
    names, sections, payload = elf.names(), list(elf.sections), text.encode()
    note = struct.pack(elf.order + "3I", len(OWNER), len(payload), KIND) + OWNER + payload
    out = bytearray(content)

    at = _append(out, note + bytes(-len(note) % _ALIGNMENT), _ALIGNMENT)
    sections.append(Section(len(names), SHT_NOTE, SHF_ALLOC, 0, at, len(out) - at, 0, 0, _ALIGNMENT, 0))
    at = _append(out, names + SECTION, 1)
    sections[elf.names_index] = sections[elf.names_index]._replace(offset=at, size=len(out) - at)
    many = len(sections) >= MANY_SECTIONS
    sections[0] = sections[0]._replace(size=len(sections) if many else 0)
    at = _append(out, b"".join(elf.section_header.pack(*section) for section in sections), 8)
    elf.file_header.pack_into(out, 0, *elf.header._replace(shoff=at, shnum=0 if many else len(sections)))
    return bytes(out)


def read(content: bytes) -> list[str]:
    """Return the text of each of cpufeat's notes: one for each object, in a linked file.

    Raises ArtifactError for what is no ELF file, and for a damaged one.
    """
    elf = Elf(content)
    notes = [section for section in elf.sections if section.type == SHT_NOTE]
    names = elf.names() if notes else b""
    ours = (section for section in notes if names.startswith(SECTION, section.name))
    return [text for section in ours for text in _texts(elf.order, elf.bytes_of(section))]


def _texts(order: str, content: bytes) -> list[str]:
    """Return the texts of the notes in a section: each is a header of 12 bytes, the owner, the text, padding."""
    texts, at = [], 0
    while at < len(content):
        head = content[at : at + 12]
        owner_size, size, kind = struct.unpack(order + "3I", head) if len(head) == 12 else (0, 0, 0)
        start = at + 12 + len(OWNER)
        at = start + size + -size % _ALIGNMENT
        if (owner_size, kind, content[start - owner_size : start]) != (len(OWNER), KIND, OWNER) or at > len(content):
            raise ArtifactError("a damaged note")
        try:
            texts.append(content[start : start + size].decode())
        except UnicodeDecodeError:
            raise ArtifactError("a damaged note: its text is not UTF-8") from None
    return texts


def _append(out: bytearray, content: bytes, alignment: int) -> int:
    out.extend(bytes(-len(out) % alignment))
    out.extend(content)
    return len(out) - len(content)
