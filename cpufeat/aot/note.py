"""The note in an ELF file that says what it was compiled for.

A section ``.note.cpufeat`` of type SHT_NOTE (System V gABI, "Note Section"): owner ``cpufeat``, type 1, UTF-8 text.
It is allocated, like the build ID: ``strip`` of binutils and of LLVM keeps such sections, and linkers put them into
PT_NOTE. It is added to the finished object, so that it can record what is known only after code generation.
"""

from __future__ import annotations

import struct

from cpufeat.aot.elf import SHF_ALLOC, SHT_NOTE, Elf, Section, append
from cpufeat.errors import ArtifactError

SECTION = b".note.cpufeat\0"
OWNER = b"cpufeat\0"
KIND = 1
_ALIGNMENT = 4


def add(content: bytes, text: str) -> bytes:
    """Return an ELF object with the note added, and everything else in its place.

    Appended are the note, a longer copy of the sections' names, and a longer copy of the section headers.
    Raises ArtifactError for what is no ELF file.
    """
    elf = Elf(content)
    names, payload, body = elf.names(), text.encode(), bytearray(content)
    note = struct.pack(elf.order + "3I", len(OWNER), len(payload), KIND) + OWNER + payload
    at = append(body, note + bytes(-len(note) % _ALIGNMENT), _ALIGNMENT)
    section = Section(len(names), SHT_NOTE, SHF_ALLOC, 0, at, len(body) - at, 0, 0, _ALIGNMENT, 0)
    return elf.rebuilt(body, [*elf.sections, section], names + SECTION)


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
