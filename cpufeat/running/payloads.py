"""Find what a program carries besides its own code, and what an audit of that code does not see.

An AppImage is a small program with a file system behind it; packers such as UPX and freezers such as PyInstaller put
compressed code behind or into a program that unpacks it when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.binary_format import coff
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
    elif content.startswith(coff.PE_MAGIC):
        file = coff.headers(content, ValueError)
        behind = _behind_pe(content, file)
        if file.directory(_CLR)[0]:
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


def _behind_pe(content: bytes, file: coff.Headers) -> bytes:
    """Return what follows the sections, symbols and certificates."""
    end = max((section.at + section.size for section in file.sections), default=0)
    if file.file.symbols_at:
        strings = file.file.symbols_at + file.symbol_size * file.file.symbols
        end = max(end, strings + int.from_bytes(content[strings : strings + 4], "little"))
    certificates, size = file.directory(_SECURITY)
    return content[end:certificates] + content[certificates + size :] if certificates >= end else content[end:]
