"""From a file to its images: which container it is, and what the containers inside of it hold."""

from __future__ import annotations

import os
from pathlib import Path

from cpufeat.auditing.elf import elf_image
from cpufeat.errors import AuditError
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.image import Image


def images(file: str | os.PathLike[str] | bytes) -> tuple[Image, ...]:
    """Return the images in a file, given by path or content. Raises AuditError, OSError."""
    content, name = (file, "(bytes)") if isinstance(file, bytes) else (Path(file).read_bytes(), os.fspath(file))
    return tuple(_images(content, name))


def _images(content: bytes, name: str) -> Iterator[Image]:
    if content[:4] == b"\x7fELF":
        yield elf_image(content, name)
        return
    raise AuditError(f"{name}: not a binary (ELF, Mach-O, COFF, PE or an archive of them)")
