"""Read and add sections in COFF objects, and read them in PE files (Microsoft's "PE Format").

Not by lief, which takes long to load and cannot write objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.objects.elf import append
from cpufeat.binary_format.coff import FILE_HEADER, MACHINES, PE_MAGIC, SECTION, Section, headers
from cpufeat.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_ONLY_DATA = 0x40300040
"""IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_ALIGN_4BYTES, IMAGE_SCN_MEM_READ."""
_ALIGNMENT = 4
_MAX_SECTIONS = 0xFEFF


def is_coff(content: bytes) -> bool:
    """Whether a file looks like a COFF object, or a PE program or library."""
    return content.startswith(PE_MAGIC) or int.from_bytes(content[:2], "little") in MACHINES


def sections(content: bytes, name: bytes) -> Iterator[bytes]:
    """Yield the content of each section of a name. Raises ArtifactError for a damaged file."""
    for section in headers(content, _damaged).sections:
        if section.name.rstrip(b"\0") == name:
            # In an image the size in the file is rounded up; in an object the virtual size is 0.
            size = min(section.size, section.virtual_size or section.size)
            if section.at + size > len(content):
                raise _damaged("a section lies outside of it")
            yield content[section.at : section.at + size]


def add_section(content: bytes, name: bytes, payload: bytes) -> bytes:
    """Return a COFF object with one more read-only section at its end, and everything else unchanged.

    The section's header follows the others, and the content after them moves. Raises ArtifactError for a file that is
    no object.
    """
    header, rows, end, *_ = headers(content, _damaged)
    if content.startswith(PE_MAGIC) or header.sections >= _MAX_SECTIONS:
        raise ArtifactError("not a COFF object, or one with too many sections")
    body = bytearray(content[:end] + bytes(SECTION.size) + content[end:])
    at = append(body, payload, _ALIGNMENT)
    added = Section(name, 0, 0, len(payload), at, 0, 0, 0, 0, _READ_ONLY_DATA)
    symbols_at = header.symbols_at and header.symbols_at + SECTION.size
    packed = FILE_HEADER.pack(*header._replace(sections=header.sections + 1, symbols_at=symbols_at))
    packed += content[len(packed) : end - len(rows) * SECTION.size]
    packed += b"".join(SECTION.pack(*section) for section in [*map(_moved, rows), added])
    body[: len(packed)] = packed
    return bytes(body)


def _moved(section: Section) -> Section:
    at, relocations_at, lines_at = (
        place and place + SECTION.size for place in (section.at, section.relocations_at, section.lines_at)
    )
    return section._replace(at=at, relocations_at=relocations_at, lines_at=lines_at)


def _damaged(damage: str) -> ArtifactError:
    return ArtifactError(f"a damaged COFF or PE file: {damage}")
