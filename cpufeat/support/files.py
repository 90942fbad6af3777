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
_DESCRIPTORS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Paths of what this process was given open: shells pass pipes by them."""
_SPECIAL = (
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)
"""Kinds of files that may never answer, or have no end."""


def opened(path: str | os.PathLike[str]) -> FileIO:
    """Open a regular file to read, or a pipe or whatever else this process was given by descriptor (``/dev/stdin``).

    Raises OSError, for any other pipe, a socket and a device with the words of what it is, and ValueError for an
    invalid path.
    """
    if not os.fspath(path).startswith(_DESCRIPTORS):
        mode = Path(path).stat().st_mode
        for is_kind, kind in _SPECIAL:
            if is_kind(mode):
                raise OSError(errno.EINVAL, f"Is a {kind}, not a regular file", os.fspath(path))
    return Path(path).open("rb", buffering=0)


def read(path: str | os.PathLike[str], *, limit: int = LARGEST, wanted: Callable[[bytes], object] = bool) -> bytes:
    """Return the content of a file, or only its first 64 bytes if ``wanted`` is false of them.

    Raises as :func:`opened` does, and OSError with EFBIG for a file of more than ``limit`` bytes.
    """
    with opened(path) as file:
        content = _blocks(file, _HEAD)
        if wanted(content):
            content = _whole(file, content, limit)
    if len(content) > limit:
        raise _too_large(path, limit)
    return content


def _too_large(path: str | os.PathLike[str], limit: int) -> OSError:
    return OSError(errno.EFBIG, f"Larger than {limit / 2**20:g} MiB", os.fspath(path))


def _whole(file: FileIO, head: bytes, limit: int) -> bytes:
    """Read to the end, but at most one byte more than ``limit``: a pipe may have no end, nor a file without a size."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return head + _blocks(file, limit - len(head) + 1)
    if status.st_size > limit:
        raise _too_large(str(file.name), limit)
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
