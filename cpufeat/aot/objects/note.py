"""Write and read cpufeat's note, which records what an object was compiled for; a linked file has those of all objects.

In ELF it is a section ``.note.cpufeat`` of type SHT_NOTE (System V gABI, "Note Section"): owner ``cpufeat``, type 1,
UTF-8 text. It is allocated, like the build ID: ``strip`` of binutils and of LLVM keeps such sections, and linkers put
them into PT_NOTE. COFF and Mach-O have no notes: there the same bytes are read-only data, in a section ``.cpufeat`` or
``__TEXT,__cpufeat``. It is added to LLVM's object, so that it can record what is known only after code generation.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cpufeat.aot.objects import coff, macho
from cpufeat.aot.objects.elf import Elf
from cpufeat.binary_format.elf import MAGIC, SHF_ALLOC, SHT_NOTE
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTION, COFF_SECTION, MACHO_SECTION = b".note.cpufeat\0", b".cpufeat", b"__cpufeat"
OWNER = b"cpufeat\0"
KIND = 1
_HEADER_SIZE, _ALIGNMENT = 12, 4


def add(content: bytes, text: str) -> bytes:
    """Return an object with the note added, and everything else unchanged.

    Raises ArtifactError for a file that is no object in one of the three formats.
    """
    if content.startswith(macho.MAGIC):
        return macho.add_section(content, b"__TEXT", MACHO_SECTION, _note("<", text))
    if coff.is_coff(content):
        return coff.add_section(content, COFF_SECTION, _note("<", text))
    return with_note(_elf(content), text).to_bytes()


def with_note(elf: Elf, text: str) -> Elf:
    """Return an ELF object with the note added. Raises ArtifactError for a damaged one."""
    return elf.with_section(SECTION[:-1], SHT_NOTE, SHF_ALLOC, _note(elf.order, text), _ALIGNMENT)


def read(content: bytes) -> list[str]:
    """Return the text of each of cpufeat's notes: one for each object, in a linked file.

    Raises ArtifactError for a file in none of the formats, and for a damaged one.
    """
    texts, bytes_left = [], len(content)
    for order, part in _parts(content):
        bytes_left -= len(part)
        if bytes_left < 0:
            raise ArtifactError("a damaged file: its notes overlap")
        texts += _texts(order, part)
    return texts


def _note(order: str, text: str) -> bytes:
    payload = text.encode()
    note = struct.pack(order + "3I", len(OWNER), len(payload), KIND) + OWNER + payload
    return note + bytes(-len(note) % _ALIGNMENT)


def _elf(content: bytes) -> Elf:
    if not content.startswith(MAGIC):
        raise ArtifactError("not an ELF, COFF, PE or 64-bit Mach-O file")
    return Elf(content)


def _parts(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the byte order and the content of each section of notes."""
    if content.startswith(macho.MAGIC):
        yield from (("<", part) for part in macho.sections(content, MACHO_SECTION))
    elif coff.is_coff(content):
        yield from (("<", part) for part in coff.sections(content, COFF_SECTION))
    else:
        elf = _elf(content)
        notes = [section for section in elf.sections if section.type == SHT_NOTE]
        names = elf.names() if notes else b""
        cpufeat_notes = (section for section in notes if names.startswith(SECTION, section.name))
        yield from ((elf.order, bytes(elf.content_of(section))) for section in cpufeat_notes)


def _texts(order: str, content: bytes) -> list[str]:
    """Return the texts of the notes in a section: each is a header of 12 bytes, the owner, the text, padding."""
    texts, at = [], 0
    while at < len(content):
        head = content[at : at + _HEADER_SIZE]
        owner_size, size, kind = struct.unpack(order + "3I", head) if len(head) == _HEADER_SIZE else (0, 0, 0)
        start = at + _HEADER_SIZE + len(OWNER)
        at = start + size + -size % _ALIGNMENT
        if (owner_size, kind, content[start - owner_size : start]) != (len(OWNER), KIND, OWNER) or at > len(content):
            raise ArtifactError("a damaged note")
        try:
            texts.append(content[start : start + size].decode())
        except UnicodeDecodeError:
            raise ArtifactError("a damaged note: its text is not UTF-8") from None
    return texts
