"""Read and write the bytes of ``.note.gnu.property``, the program properties of an x86 ELF file.

Sources: the Linux gABI extensions, "Program Property" (``NT_GNU_PROPERTY_TYPE_0``), and the x86-64 psABI's Linux
extensions (``GNU_PROPERTY_X86_ISA_1_NEEDED``, ``_USED``).
"""

from __future__ import annotations

import struct

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTION = ".note.gnu.property"
ISA_1_NEEDED, ISA_1_USED = 0xC0008002, 0xC0010002
"""Properties of four bytes, a bit for each level of the psABI, the lowest for the baseline."""
_NT_GNU_PROPERTY_TYPE_0 = 5


def properties(content: bytes, alignment: int) -> Iterator[tuple[int, int]]:
    """Yield the type and value of each property of four bytes, as far as a damaged section has them.

    ``alignment`` is 8 bytes in 64-bit files and 4 in others.
    """
    for kind, description in _notes(content, alignment):
        at = 0
        while at + 8 <= len(description):
            property_type, size = struct.unpack_from("<2I", description, at)
            if size == 4 and kind == _NT_GNU_PROPERTY_TYPE_0:
                yield property_type, int.from_bytes(description[at + 8 : at + 12], "little")
            at += 8 + size + -size % alignment


def _notes(content: bytes, alignment: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and description of each note of GNU's."""
    at = 0
    while at + 16 <= len(content):
        name_size, size, kind = struct.unpack_from("<3I", content, at)
        start = at + 12 + name_size + -name_size % 4
        if content[at + 12 : at + 12 + name_size] == b"GNU\0":
            yield kind, content[start : start + size]
        at = start + size + -size % alignment


def note(property_type: int, value: int) -> bytes:
    """Return the section of a 64-bit file with one property of four bytes."""
    description = struct.pack("<4I", property_type, 4, value, 0)
    return struct.pack("<3I4s", 4, len(description), _NT_GNU_PROPERTY_TYPE_0, b"GNU\0") + description
