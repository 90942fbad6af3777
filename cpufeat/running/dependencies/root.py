"""Look up files below the root of a machine, as its programs do: a container's, an image's, or ``/`` itself."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from cpufeat.support import files
from cpufeat.support.value import Value

_MAX_LINKS = 40
"""Symbolic links that Linux follows in one path (MAXSYMLINKS)."""


class Root(Value):
    """The files of a machine, and what its environment tells loaders."""

    folder: str = ""
    """The folder that is the machine's ``/``, as an absolute path; empty for this machine's own files."""
    library_path: tuple[str, ...] = ()
    """The folders of LD_LIBRARY_PATH."""
    preloaded: tuple[str, ...] = ()
    """The libraries of LD_PRELOAD."""

    def real(self, path: str) -> str | None:
        """Return the path on this machine of a file of that one, links followed inside of its root; None without it."""
        followed = self._followed(path) if self.folder else Path(os.path.realpath(path))
        try:
            return str(followed) if followed and followed.is_file() else None
        except (OSError, ValueError):
            return None

    def _followed(self, path: str) -> Path | None:
        waiting = [*reversed(PurePosixPath("/", path).parts[1:])]
        at: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                at = at[:-1]
                continue
            place = Path(self.folder, *at, part)
            if not place.is_symlink():
                at.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                return None
            target = PurePosixPath(place.readlink())
            at = [] if target.is_absolute() else at
            waiting += reversed(target.parts[target.is_absolute() :])
        return Path(self.folder, *at)

    def read(self, path: str) -> bytes:
        """Return the content of a file of the machine, empty if it is not there or cannot be read."""
        real = self.real(path)
        try:
            return files.read(real) if real else b""
        except OSError:
            return b""

    def inner(self, path: str) -> str:
        """Return the path on the machine of a file that is given by its path here."""
        absolute = Path(os.path.realpath(path))
        is_inside = bool(self.folder) and absolute.is_relative_to(self.folder)
        return str(PurePosixPath("/", absolute.relative_to(self.folder)) if is_inside else absolute)
