"""Read and add sections in COFF objects, and read them in PE files (Microsoft's "PE Format").

Not by lief, which takes long to load and cannot write objects.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.objects.elf import append
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator

PE_MAGIC = b"MZ"
_MACHINES = (0x14C, 0x8664, 0x1C4, 0xAA64, 0xA641)
"""IMAGE_FILE_MACHINE_I386, AMD64, ARMNT, ARM64, ARM64EC."""
_PE_HEADER_AT, _SIGNATURE = 0x3C, b"PE\0\0"
_READ_ONLY_DATA = 0x40300040
"""IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_ALIGN_4BYTES, IMAGE_SCN_MEM_READ."""
_ALIGNMENT = 4
_MAX_SECTIONS = 0xFEFF


class _FileHeader(NamedTuple):
    machine: int
    sections: int
    time: int
    symbols_at: int
    symbols: int
    optional_size: int
    characteristics: int


class _Section(NamedTuple):
    name: bytes
    virtual_size: int
    address: int
    size: int
    at: int
    relocations_at: int
    lines_at: int
    relocations: int
    lines: int
    characteristics: int


_FILE_HEADER, _SECTION = struct.Struct("<2H3I2H"), struct.Struct("<8s6I2HI")


def is_coff(content: bytes) -> bool:
    """Whether a file looks like a COFF object, or a PE program or library."""
    return content[:2] == PE_MAGIC or int.from_bytes(content[:2], "little") in _MACHINES


def sections(content: bytes, name: bytes) -> Iterator[bytes]:
    """Yield the content of each section of a name. Raises ArtifactError for a damaged file."""
    for section in _read(content)[1]:
        if section.name.rstrip(b"\0") == name:
            # In an image the size in the file is rounded up; in an object the virtual size is 0.
            size = min(section.size, section.virtual_size or section.size)
            if section.at + size > len(content):
                raise ArtifactError("a damaged COFF or PE file: a section lies outside of it")
            yield content[section.at : section.at + size]


def add_section(content: bytes, name: bytes, payload: bytes) -> bytes:
    """Return a COFF object with one more read-only section at its end, and everything else unchanged.

    The section's header follows the others, and the content after them moves. Raises ArtifactError for a file that is
    no object.
    """
    header, headers, end = _read(content)
    if content[:2] == PE_MAGIC or header.sections >= _MAX_SECTIONS:
        raise ArtifactError("not a COFF object, or one with too many sections")
    body = bytearray(content[:end] + bytes(_SECTION.size) + content[end:])
    at = append(body, payload, _ALIGNMENT)
    added = _Section(name, 0, 0, len(payload), at, 0, 0, 0, 0, _READ_ONLY_DATA)
    symbols_at = header.symbols_at and header.symbols_at + _SECTION.size
    packed = _FILE_HEADER.pack(*header._replace(sections=header.sections + 1, symbols_at=symbols_at))
    packed += content[len(packed) : end - len(headers) * _SECTION.size]
    packed += b"".join(_SECTION.pack(*section) for section in [*map(_moved, headers), added])
    body[: len(packed)] = packed
    return bytes(body)


def _moved(section: _Section) -> _Section:
    at, relocations_at, lines_at = (
        place and place + _SECTION.size for place in (section.at, section.relocations_at, section.lines_at)
    )
    return section._replace(at=at, relocations_at=relocations_at, lines_at=lines_at)


def _read(content: bytes) -> tuple[_FileHeader, list[_Section], int]:
    """Return the file's header, those of its sections, and where these end."""
    try:
        start = 0
        if content[:2] == PE_MAGIC:
            (start,) = struct.unpack_from("<I", content, _PE_HEADER_AT)
            if content[start : start + len(_SIGNATURE)] != _SIGNATURE:
                raise ArtifactError("a damaged PE file: it has no PE header")
            start += len(_SIGNATURE)
        header = _FileHeader(*_FILE_HEADER.unpack_from(content, start))
        first = start + _FILE_HEADER.size + header.optional_size
        end = first + header.sections * _SECTION.size
        rows = struct.unpack_from(f"<{end - first}s", content, first)[0]
    except struct.error as error:
        raise ArtifactError(f"a damaged COFF or PE file: {error}") from None
    return header, [_Section(*row) for row in _SECTION.iter_unpack(rows)], end
