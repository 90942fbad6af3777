"""Read files up to a size limit, write them atomically, format I/O errors."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from io import BytesIO
from pathlib import Path

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

LARGEST = 4 << 30
"""The default size limit in bytes: more than any binary has."""
DATA, PROGRAM = 0o666, 0o777
"""Modes of new files, before the umask."""
_HEAD, _BLOCK = 64, 1 << 20


def read(path: str | os.PathLike[str], *, limit: int = LARGEST, wanted: Callable[[bytes], object] = bool) -> bytes:
    """Return the content of a file, or only its first 64 bytes if ``wanted`` is false of them.

    Raises OSError, with EFBIG for a file of more than ``limit`` bytes, and ValueError for an invalid path.
    """
    with Path(path).open("rb", buffering=0) as file:
        content = _blocks(file, _HEAD)
        if wanted(content):
            content = _whole(file, content, limit)
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
    return content


def _whole(file: FileIO, head: bytes, limit: int) -> bytes:
    """Read to the end, but at most one byte more than ``limit``: a device may have no end."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        return head + _blocks(file, limit - len(head) + 1)
    file.seek(0)
    return file.readall()


def _blocks(file: FileIO, size: int) -> bytes:
    """Read ``size`` bytes, or fewer if the file ends before."""
    content = BytesIO()
    while content.tell() < size and (block := file.read(min(size - content.tell(), _BLOCK))):
        content.write(block)
    return content.getvalue()


def write(path: str | os.PathLike[str], content: bytes, *, mode: int = DATA, replaces: bool = True) -> None:
    """Write a file atomically: under a temporary name in the same folder, then renamed.

    Links are followed, and a special file (``/dev/null``) is written to in place. Without ``replaces``, raises
    FileExistsError if there is a file. Raises OSError and ValueError; the old file is then unchanged.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        final.write_bytes(content)
        return
    private = final.with_name(f".cpufeat-{secrets.token_hex(8)}")
    try:
        with open(private, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
        if replaces:
            private.replace(final)
        else:
            os.link(private, final)
    finally:
        private.unlink(missing_ok=True)


def failure(path: str | os.PathLike[str], error: OSError | ValueError) -> str:
    """Format the error of a file that could not be read or written: ``PATH: No such file or directory``."""
    return f"{os.fspath(path)}: {getattr(error, 'strerror', None) or error}"
