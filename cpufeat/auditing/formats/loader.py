"""From a file to its images: which container it is, and what the containers inside of it hold."""

from __future__ import annotations

import os
import struct
from io import BytesIO

from cpufeat.errors import AuditError
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.formats.image import Image

CONTAINERS = ("archive", "universal")
"""Formats whose members are files of their own."""
_MACHO = (b"\xfe\xed\xfa\xce", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xcf\xfa\xed\xfe")
_UNIVERSAL = (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")
_CPUS = {0x7: "i386", 0x01000007: "x86_64", 0xC: "arm", 0x0100000C: "arm64", 0x0200000C: "arm64_32"}
_MOST_ARCHITECTURES = 32
"""A universal binary has fewer. A Java class file begins alike, and has its version there: 45 and up."""
_INDEX = b"__.SYMDEF"
"""The member of BSD's archives that lists the symbols of the others."""
_COFF_MACHINES = (0x014C, 0x8664, 0xAA64, 0xA641, 0x01C4)
"""i386, x86-64, Arm64, Arm64EC, Thumb-2."""
_COFF_EXTENDED = b"\0\0\xff\xff"
"""IMAGE_FILE_MACHINE_UNKNOWN and 0xFFFF: an object of many sections (/bigobj), or part of an import library."""


def content_of(file: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """Return what a file holds, and its name in messages. Raises AuditError, OSError."""
    if isinstance(file, bytes):
        return file, "(bytes)"
    return files.read(file, wanted=format_of), os.fspath(file)


def format_of(content: bytes) -> str:
    """Return which format a file's first bytes are of, empty for any other.

    ``ELF``, ``Mach-O``, ``COFF``, ``PE``, ``archive``, ``thin`` (an archive of names alone) or ``universal``.
    """
    head = content[:4]
    if head == b"\x7fELF":
        return "ELF"
    if head in _MACHO:
        return "Mach-O"
    if head in _UNIVERSAL and 0 < int.from_bytes(content[4:8], "big") < _MOST_ARCHITECTURES:
        return "universal"
    if content[:8] in (b"!<arch>\n", b"!<thin>\n"):
        return "archive" if content[2:3] == b"a" else "thin"
    if head[:2] == b"MZ":
        return "PE"
    is_coff = len(content) >= 20 and (head == _COFF_EXTENDED or int.from_bytes(head[:2], "little") in _COFF_MACHINES)
    return "COFF" if is_coff else ""


def image_of(content: bytes, name: str) -> Image:
    """Return the image of a file that holds one. Raises AuditError for any other, and for a damaged one."""
    image = _image(content, name)
    if any(section.end > 1 << image.bits for section in image.sections):
        raise AuditError(f"{name}: a damaged {image.format} file: a section lies outside of memory")
    return image


def _image(content: bytes, name: str) -> Image:
    kind = format_of(content)
    if kind == "ELF":
        from cpufeat.auditing.formats.elf import elf_image

        return elf_image(content, name)
    if kind == "Mach-O":
        from cpufeat.auditing.formats.macho import macho_image

        return macho_image(content, name)
    if kind in ("COFF", "PE"):
        from cpufeat.auditing.formats.pe_coff import coff_image, pe_image

        return (coff_image if kind == "COFF" else pe_image)(content, name)
    if kind == "thin":
        raise AuditError(f"{name}: a thin archive, which holds only the names of its members: audit those")
    raise AuditError(f"{name}: not a binary (ELF, Mach-O, COFF, PE, or an archive of them)")


def members(content: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    """Yield the members of an archive or universal binary and their names. Raises AuditError for a damaged one."""
    return (_of_archive if format_of(content) == "archive" else _of_universal)(content, name)


def _of_archive(content: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    import arpy

    try:
        for member in arpy.Archive(fileobj=BytesIO(content)):
            if member.header.name.startswith(_INDEX):
                continue
            member_name = member.header.name.rstrip(b"\0").decode(errors="replace")
            yield member.read(), f"{name}({member_name})"
    except (arpy.ArchiveFormatError, arpy.ArchiveAccessError, ValueError) as error:
        raise AuditError(f"{name}: a damaged archive: {error}") from None


def _of_universal(content: bytes, name: str) -> Iterator[tuple[bytes, str]]:
    """Source: Apple's ``mach-o/fat.h``; all of it is big-endian."""
    row = struct.Struct(">2I2Q2I" if content[:4] == _UNIVERSAL[1] else ">5I")
    count = int.from_bytes(content[4:8], "big")
    table = content[8 : 8 + count * row.size]
    if len(table) < count * row.size:
        raise AuditError(f"{name}: a damaged universal binary: its table lies outside of it")
    for cpu, _, offset, size, *_ in row.iter_unpack(table):
        if offset + size > len(content):
            raise AuditError(f"{name}: a damaged universal binary: a part lies outside of it")
        yield content[offset : offset + size], f"{name}({_CPUS.get(cpu, f'CPU {cpu:#x}')})"


def images(file: str | os.PathLike[str] | bytes) -> Iterator[Image]:
    """Yield the images in a file, given by path or content; members that are no binaries are left out.

    Raises AuditError for a file that is none, and OSError.
    """
    content, name = content_of(file)
    if format_of(content) not in CONTAINERS:
        yield image_of(content, name)
        return
    for part, _ in members(content, name):
        if format_of(part):
            yield from images(part)
