"""Yield the files in archives and universal binaries (System V ``ar.h``; Apple's ``mach-o/fat.h``).

Members of an archive follow one another, and parts of a universal binary may not overlap, so that all together are no
larger than the file.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

from cpufeat.errors import AuditError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARCHIVE, _THIN_ARCHIVE = b"!<arch>\n", b"!<thin>\n"
_MEMBER = struct.Struct("16s12s6s6s8s10s2s")
"""ar_name, ar_date, ar_uid, ar_gid, ar_mode, ar_size, ar_fmag."""
_MEMBER_END = b"`\n"
_BSD_SYMBOL_TABLE = b"__.SYMDEF"
"""The name of the member of a BSD archive that lists the symbols of the other members."""
_BSD_LONG_NAME = b"#1/"
"""In place of a name: its length follows, and the name itself is the start of the content."""
_LONG_NAMES = b"//"
"""The name of the member with the names that are too long: others refer to them by ``/`` and an offset."""
_MAX_NAME = 1 << 12
"""Bytes of a name that are read: many members may refer to one name."""
_UNIVERSAL, _UNIVERSAL_64 = b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"
"""FAT_MAGIC, FAT_MAGIC_64."""
_MAX_ARCHITECTURES = 32
"""More than any universal binary has. A Java class file has the same magic, then its version, which is above 44."""
_CPU_NAMES = {0x7: "i386", 0x01000007: "x86_64", 0xC: "arm", 0x0100000C: "arm64", 0x0200000C: "arm64_32"}
"""CPU_TYPE_* -> the name that Apple's tools print."""


class _Part(NamedTuple):
    """A row of the table of a universal binary."""

    offset: int
    size: int
    cpu: int


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
    """Yield the content and name (``FILE(MEMBER)``) of each member. Raises AuditError for a damaged archive.

    Tables of symbols and of names, of which the names begin with a slash, are left out.
    """
    at, long_names = len(_ARCHIVE), b""
    while at < len(content):
        header = content[at : at + _MEMBER.size]
        at += _MEMBER.size
        if len(header) < _MEMBER.size or not header.endswith(_MEMBER_END):
            raise AuditError(f"{name}: a damaged archive: a member has no header at {at - _MEMBER.size:#x}")
        stored_name, *_, digits, _ = _MEMBER.unpack(header)
        size = int(digits) if digits.rstrip(b" ").isdigit() else len(content)
        if at + size > len(content):
            raise AuditError(f"{name}: a damaged archive: a member lies outside of it at {at:#x}")
        member_name, member = _named(stored_name.rstrip(b" "), content[at : at + size], long_names)
        if member_name == _LONG_NAMES:
            long_names = member
        if not member_name.startswith((b"/", _BSD_SYMBOL_TABLE)):
            yield member, f"{name}({member_name.decode(errors='replace')})"
        at += size + size % 2


def _named(stored_name: bytes, member: bytes, long_names: bytes) -> tuple[bytes, bytes]:
    """Return a member's name and content. GNU's names end with a slash, those in its table with one and a newline."""
    if stored_name.startswith(_BSD_LONG_NAME):
        length = int(stored_name[3:]) if stored_name[3:].isdigit() else 0
        return member[:length].rstrip(b"\0"), member[length:]
    if stored_name[1:].isdigit() and stored_name.startswith(b"/"):
        start = int(stored_name[1:])
        long_name = long_names[start : start + _MAX_NAME].replace(b"\0", b"\n").partition(b"\n")[0]
        return long_name.removesuffix(b"/").removeprefix(b"/") or b"?", member
    return stored_name if stored_name.startswith(b"/") else stored_name.removesuffix(b"/"), member


def universal_members(content: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    """Yield the content and name (``FILE(arm64)``) of each architecture. Raises AuditError for a damaged file."""
    row = struct.Struct(">2I2Q2I" if content.startswith(_UNIVERSAL_64) else ">5I")
    count = int.from_bytes(content[4:8], "big")
    table = content[8 : 8 + count * row.size]
    if len(table) < count * row.size:
        raise AuditError(f"{name}: a damaged universal binary: its table lies outside of it")
    parts = [_Part(offset, size, cpu) for cpu, _, offset, size, *_ in row.iter_unpack(table)]
    if any(part.offset + part.size > len(content) for part in parts):
        raise AuditError(f"{name}: a damaged universal binary: a part lies outside of it")
    if any(before.offset + before.size > after.offset for before, after in pairwise(sorted(parts))):
        raise AuditError(f"{name}: a damaged universal binary: its parts overlap")
    for offset, size, cpu in parts:
        yield content[offset : offset + size], f"{name}({_CPU_NAMES.get(cpu, f'CPU {cpu:#x}')})"
