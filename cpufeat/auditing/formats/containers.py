"""Yield the files in archives and universal binaries (System V ``ar.h``; Apple's ``mach-o/fat.h``)."""

from __future__ import annotations

import struct
from io import BytesIO

from cpufeat.errors import AuditError
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARCHIVE, _THIN_ARCHIVE = b"!<arch>\n", b"!<thin>\n"
_BSD_SYMBOL_TABLE = b"__.SYMDEF"
"""The name of the member of a BSD archive that lists the symbols of the other members."""
_UNIVERSAL, _UNIVERSAL_64 = b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"
"""FAT_MAGIC, FAT_MAGIC_64."""
_MAX_ARCHITECTURES = 32
"""More than any universal binary has. A Java class file has the same magic, then its version, which is above 44."""
_CPU_NAMES = {0x7: "i386", 0x01000007: "x86_64", 0xC: "arm", 0x0100000C: "arm64", 0x0200000C: "arm64_32"}
"""CPU_TYPE_* -> the name that Apple's tools print."""


def is_archive(content: bytes) -> bool:
    """Whether a file is an archive that holds its members."""
    return content.startswith(_ARCHIVE)


def is_thin_archive(content: bytes) -> bool:
    """Whether a file is an archive that holds only the names of its members."""
    return content.startswith(_THIN_ARCHIVE)


def is_universal(content: bytes) -> bool:
    """Whether a file is a universal ("fat") binary."""
    has_magic = content.startswith((_UNIVERSAL, _UNIVERSAL_64))
    return has_magic and 0 < int.from_bytes(content[4:8], "big") < _MAX_ARCHITECTURES


def archive_members(content: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    """Yield the content and name (``FILE(MEMBER)``) of each member. Raises AuditError for a damaged archive."""
    with extra("audit"):
        import arpy

    try:
        for member in arpy.Archive(fileobj=BytesIO(content)):
            if member.header.name.startswith(_BSD_SYMBOL_TABLE):
                continue
            member_name = member.header.name.rstrip(b"\0").decode(errors="replace")
            yield member.read(), f"{name}({member_name})"
    except (arpy.ArchiveFormatError, arpy.ArchiveAccessError, ValueError) as error:
        raise AuditError(f"{name}: a damaged archive: {error}") from None


def universal_members(content: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    """Yield the content and name (``FILE(arm64)``) of each architecture. Raises AuditError for a damaged file."""
    row = struct.Struct(">2I2Q2I" if content.startswith(_UNIVERSAL_64) else ">5I")
    count = int.from_bytes(content[4:8], "big")
    table = content[8 : 8 + count * row.size]
    if len(table) < count * row.size:
        raise AuditError(f"{name}: a damaged universal binary: its table lies outside of it")
    for cpu, _, offset, size, *_ in row.iter_unpack(table):
        if offset + size > len(content):
            raise AuditError(f"{name}: a damaged universal binary: a part lies outside of it")
        yield content[offset : offset + size], f"{name}({_CPU_NAMES.get(cpu, f'CPU {cpu:#x}')})"
