"""Find what a program carries besides its own code, and what an audit of that code does not see.

An AppImage is a small program with a file system behind it; packers such as UPX and freezers such as PyInstaller put
compressed code behind or into a program that unpacks it when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.binary_format.elf import MAGIC, SHT_NOBITS, Elf
from cpufeat.support.file_kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_APPIMAGE = ((8, b"AI\x01"), (8, b"AI\x02"))
"""AppImage specification, "Image format": types 1 and 2, in the padding of the ELF header."""
_PYINSTALLER = b"MEI\014\013\012\013\016"
"""PyInstaller, ``bootloader/src/pyi_archive.h``: the magic of its archive's last part."""
_PYINSTALLER_END = 8192
"""Bytes at the end of a file that are searched for it."""
_UPX, _UPX_HEAD = b"UPX!", 4096
"""UPX, ``src/stub/src/include/header.S``: its header follows those of the program that unpacks."""
_SIGNATURE = b"~Module signature appended~\n"
"""Linux, ``scripts/sign-file.c``: at the end of a signed module of the kernel."""
_SECURITY, _CLR = 4, 14
"""Indices of data directories of PE files: certificates, which may follow the sections, and the header of .NET."""


def payloads(content: bytes) -> Iterator[str]:
    """Yield what a sound ELF or PE file carries besides its own code, in words; nothing for other files."""
    if any(content[offset:].startswith(magic) for offset, magic in _APPIMAGE):
        yield "it is an AppImage, a file system with a program in it: extract it (--appimage-extract)"
        return
    if content.startswith(MAGIC):
        behind = _behind_elf(content)
        if _UPX in content[:_UPX_HEAD]:
            yield "it was packed by UPX: unpack it (upx -d)"
    elif content.startswith(b"MZ"):
        behind = _behind_pe(content)
        if _pe_directory(content, _CLR)[0]:
            yield "its code is .NET's, which is translated when it runs"
    else:
        return
    if _PYINSTALLER in content[-_PYINSTALLER_END:]:
        yield "it was frozen by PyInstaller: its modules and libraries are packed behind it"
    elif behind.strip(b"\0") and not behind.endswith(_SIGNATURE):
        kind = kind_of(behind[:64])
        yield f"there are {len(behind):,} bytes behind the program{f': {kind}' if kind else ''}"


def _behind_elf(content: bytes) -> bytes:
    file = Elf(content, ValueError)
    header = file.header
    ends = [
        header.shoff + len(file.sections) * header.shentsize,
        *(section.offset + section.size for section in file.sections if section.type != SHT_NOBITS),
        *(segment.offset + segment.filesz for segment in file.segments),
    ]
    return content[max(ends) :]


def _behind_pe(content: bytes) -> bytes:
    """Return what follows the sections, symbols and certificates."""
    start = _number(content, 0x3C)
    count, optional = _number(content, start + 6, 2), _number(content, start + 20, 2)
    rows = (start + 24 + optional + 40 * index for index in range(count))
    symbols, number = _number(content, start + 12), _number(content, start + 16)
    end = max((_number(content, row + 20) + _number(content, row + 16) for row in rows), default=0)
    if symbols:
        end = max(end, symbols + 18 * number + _number(content, symbols + 18 * number))
    certificates, size = _pe_directory(content, _SECURITY)
    return content[end:certificates] + content[certificates + size :] if certificates >= end else content[end:]


def _pe_directory(content: bytes, index: int) -> tuple[int, int]:
    """Return the address and size of a data directory."""
    optional = _number(content, 0x3C) + 24
    first = optional + (112 if _number(content, optional, 2) == 0x20B else 96)
    if index >= _number(content, first - 4):
        return 0, 0
    return _number(content, first + 8 * index), _number(content, first + 8 * index + 4)


def _number(content: bytes, offset: int, size: int = 4) -> int:
    return int.from_bytes(content[offset : offset + size], "little")
