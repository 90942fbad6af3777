"""Read sections of Mach-O files, and add one to an object (Apple's ``<mach-o/loader.h>``).

Not by lief, which takes long to load; in an object to which lief 1.0 added a section, sections overlap the headers.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cpufeat.binary_format.macho import LC_SEGMENT, SECTION, SEGMENT, Macho
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\xcf\xfa\xed\xfe"
"""MH_MAGIC_64, little-endian."""
_MH_OBJECT, _LC_SEGMENT_64 = 1, LC_SEGMENT[64]
_SECTION_OFFSETS = (48, 56)
"""The file offsets in a section's header, of its content and of its relocations: where in the header they are."""
_OFFSETS: dict[int, tuple[int, ...]] = {
    0x02: (8, 16),  # LC_SYMTAB
    0x0B: (32, 40, 48, 56, 64, 72),  # LC_DYSYMTAB
    0x24: (),  # LC_VERSION_MIN_MACOSX
    0x25: (),  # LC_VERSION_MIN_IPHONEOS
    0x29: (8,),  # LC_DATA_IN_CODE
    0x2D: (),  # LC_LINKER_OPTION
    0x2E: (8,),  # LC_LINKER_OPTIMIZATION_HINT
    0x32: (),  # LC_BUILD_VERSION
}
"""The same for the other load commands that LLVM writes into objects."""
_NO_DEAD_STRIP = 0x10000000
"""S_ATTR_NO_DEAD_STRIP, of type S_REGULAR."""
_ALIGNMENT_BITS, _STEP = 2, 8

_HEADER, _OFFSET = struct.Struct("<8I"), struct.Struct("<I")
_SEGMENT, _SECTION = struct.Struct("<" + SEGMENT[64]), struct.Struct("<" + SECTION[64])


def sections(content: bytes, name: bytes) -> Iterator[bytes]:
    """Yield the content of each section of a name. Raises ArtifactError for a damaged file."""
    for section in Macho(content, _damaged).sections():
        if section.name.rstrip(b"\0") == name:
            if section.at + section.size > len(content):
                raise _damaged("a section lies outside of it")
            yield content[section.at : section.at + section.size]


def add_section(content: bytes, segment: bytes, name: bytes, payload: bytes) -> bytes:
    """Return a Mach-O object with one more section, which linkers keep, and everything else unchanged.

    Its header and its content follow those of the other sections, where tools look for them; what was there moves.
    Raises ArtifactError for a file that is no object as LLVM writes it.
    """
    try:
        return _with_section(content, segment, name, payload)
    except struct.error as error:  # a number that becomes too large: what it counts lies outside of the file
        raise _damaged(str(error)) from None


def _with_section(content: bytes, segment: bytes, name: bytes, payload: bytes) -> bytes:
    macho = Macho(content, _damaged)
    segments = [command for command in macho.commands if command.kind == _LC_SEGMENT_64]
    if _HEADER.unpack_from(content)[3] != _MH_OBJECT or len(segments) != 1:
        raise ArtifactError("not a Mach-O object of one segment")
    at, _, size = segments[0]
    kind, _, segment_name, address, memory, start, length, *protection, count, flags = _SEGMENT.unpack_from(content, at)
    headers_end, contents_end = at + size, start + length
    room = len(payload) + -len(payload) % _STEP

    body = bytearray(content)
    for place in _offsets(macho):
        (offset,) = _OFFSET.unpack_from(body, place)
        behind = room if offset >= contents_end else 0
        _OFFSET.pack_into(body, place, offset and offset + _SECTION.size + behind)
    place_in_memory = memory + -memory % _STEP
    fields = (address, place_in_memory + len(payload), start + _SECTION.size, length + room)
    _SEGMENT.pack_into(body, at, kind, size + _SECTION.size, segment_name, *fields, *protection, count + 1, flags)
    head = list(_HEADER.unpack_from(body))
    head[5] += _SECTION.size
    _HEADER.pack_into(body, 0, *head)
    placement = (address + place_in_memory, len(payload), contents_end + _SECTION.size, _ALIGNMENT_BITS)
    added = _SECTION.pack(name, segment, *placement, 0, 0, _NO_DEAD_STRIP, 0, 0, 0)
    return bytes(
        body[:headers_end] + added + body[headers_end:contents_end] + payload.ljust(room, b"\0") + body[contents_end:]
    )


def _damaged(damage: str) -> ArtifactError:
    return ArtifactError(f"a damaged Mach-O file: {damage}")


def _offsets(macho: Macho) -> Iterator[int]:
    """Yield the places of all file offsets, apart from the segment's own."""
    for command in macho.commands:
        at, kind, size = command
        if kind != _LC_SEGMENT_64 and (kind not in _OFFSETS or size < max(_OFFSETS[kind], default=0) + _OFFSET.size):
            raise ArtifactError(f"a Mach-O object with a load command that LLVM does not write: {kind:#x}")
        yield from (at + offset for offset in _OFFSETS.get(kind, ()))
        yield from (at + offset for at in macho.section_offsets(command) for offset in _SECTION_OFFSETS)
