"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cpufeat.errors import ArtifactError

DATA, PROGRAM = 0o666, 0o777
"""Modes of new files, less what the umask takes."""


def write(path: str | os.PathLike[str], content: bytes, mode: int = DATA) -> None:
    """Write a file under another name beside its place, and rename it into that.

    A link is followed; what is no regular file (``/dev/null``) is written to as it is. Raises ArtifactError, which
    names the path; then nothing has changed.
    """
    try:
        final = Path(os.path.realpath(path))
        if final.exists() and not stat.S_ISREG(final.stat().st_mode):
            final.write_bytes(content)
        else:
            _replace(final, content, mode)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{os.fspath(path)}: {getattr(error, 'strerror', None) or error}") from None


def _replace(final: Path, content: bytes, mode: int) -> None:
    private = final.with_name(f".cpufeat-{secrets.token_hex(8)}")
    try:
        with open(private, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
        private.replace(final)
    except BaseException:
        private.unlink(missing_ok=True)
        raise
