"""Recognize the format of a file by its first bytes and read its images: ``FORMATS`` has one row per format."""

from __future__ import annotations

import os
from typing import NamedTuple

from cpufeat.auditing.formats.containers import (
    archive_members,
    is_archive,
    is_thin_archive,
    is_universal,
    universal_members,
)
from cpufeat.auditing.formats.elf import elf_image, is_elf
from cpufeat.auditing.formats.macho import is_macho, macho_image
from cpufeat.auditing.formats.pe_coff import coff_image, is_coff, is_pe, pe_image
from cpufeat.errors import AuditError, expect
from cpufeat.support import files
from cpufeat.support.file_kinds import kind_of
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cpufeat.auditing.formats.image import Image


class Format(NamedTuple):
    """A format of binaries: it has :attr:`image`, or :attr:`members` if it is a container, or :attr:`refusal`."""

    name: str
    recognizes: Callable[[bytes], bool]
    """Whether a file, of which the first bytes are given at least, is of this format."""
    image: Callable[[bytes, str], Image] | None = None
    """Reads the content of the file of a name. Raises AuditError for a damaged one."""
    members: Callable[[bytes, str], Iterator[tuple[bytes, str]]] | None = None
    """Yields the content and name of each file in a container. Raises AuditError for a damaged one."""
    refusal: str = ""
    """The reason why files of this format cannot be audited."""
    system: str = ""
    """The operating system (``Host.system``) that loads this format and those of the same system alone; empty for
    containers, and for the format of all systems that are in no row."""


FORMATS = (
    Format("ELF", is_elf, image=elf_image),
    Format("Mach-O", is_macho, image=macho_image, system="darwin"),
    Format("PE", is_pe, image=pe_image, system="windows"),
    Format("COFF", is_coff, image=coff_image, system="windows"),
    Format("archive", is_archive, members=archive_members),
    Format("universal", is_universal, members=universal_members),
    Format("thin", is_thin_archive, refusal="a thin archive, which holds only the names of its members: audit those"),
)
"""To add a format, add a row here and an example to ``tests/auditing/formats/test_loader.py``."""


MAX_DEPTH = 2
"""Levels of containers in containers: a universal binary of archives."""


def format_of(content: bytes) -> Format | None:
    """Return the format that a file's first bytes are of."""
    return next((format_ for format_ in FORMATS if format_.recognizes(content)), None)


def is_binary(content: bytes) -> bool:
    """Whether a file's first bytes are of a known format."""
    return format_of(content) is not None


def content_of(file: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """Return the content of a file, and its name in messages. Raises AuditError, OSError."""
    expect("file", file, (str, os.PathLike, bytes), "a path, or the content of a file as bytes")
    if isinstance(file, bytes):
        return file, "(bytes)"
    try:
        return files.read(file, wanted=is_binary), os.fspath(file)
    except ValueError as error:
        raise AuditError(files.failure(file, error)) from None


def image_of(content: bytes, name: str) -> Image:
    """Return the image of a file that is no container. Raises AuditError for any other, and for a damaged one."""
    format_ = format_of(content)
    if format_ is None or format_.image is None:
        raise AuditError(f"{name}: {format_.refusal if format_ else _not_a_binary(content)}")
    image = format_.image(content, name)
    if any(section.end > 1 << image.bits for section in image.sections):
        raise AuditError(f"{name}: a damaged {image.format} file: a section lies outside of memory")
    return image


def _not_a_binary(content: bytes) -> str:
    formats = ", ".join(format_.name for format_ in FORMATS if format_.image)
    kind = kind_of(content)
    return f"not a binary ({formats}, or an archive of them){f', but {kind}' if kind else ''}"


def loads(system: str, name: str) -> bool:
    """Whether an operating system (``Host.system``) loads files of the format of that name, or what they contain."""
    of_system = [format_.name for format_ in FORMATS if format_.image and format_.system == system]
    common = [format_.name for format_ in FORMATS if format_.image and not format_.system]
    containers = [format_.name for format_ in FORMATS if format_.members]
    return name in (*(of_system or common), *containers)


def images(file: str | os.PathLike[str] | bytes, depth: int = 0) -> Iterator[Image]:
    """Yield the images in a file, given by path or content; members that are no binaries are left out.

    Raises AuditError for a file that is none, and for one inside of ``depth`` containers that is one too many; OSError.
    """
    content, name = content_of(file)
    format_ = format_of(content)
    if format_ is None or format_.members is None:
        yield image_of(content, name)
        return
    if depth == MAX_DEPTH:
        raise AuditError(f"{name}: too many nested containers")
    for member, _ in format_.members(content, name):
        if is_binary(member):
            yield from images(member, depth + 1)
