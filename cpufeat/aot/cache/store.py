"""What was made once, kept on disk under a key of all that it was made from.

A folder of plain files: an entry is named by its key, written beside its place and renamed into it, so that no
process sees part of one, however a writer ends. It says its key and the SHA-256 of its content: one that was damaged or
renamed is taken away, never used. The least recently used entries go first.

A well-kept library was wanted; none keeps what is promised here. diskcache 5.6.3 (SQLite, and files for large values)
takes 16 ms to import and 4 ms to open, where a whole hit may cost 2; what a killed writer or a full disk left behind
stays there uncounted; a damaged database is an error from then on; and a row may name any file to read or to remove,
or hold a pickle. cachelib and joblib unpickle as well. platformdirs, for the folder, takes over 15 ms to import.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat.errors import CpufeatError, CpufeatWarning
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE, SIZE_VARIABLE = "CPUFEAT_CACHE", "CPUFEAT_CACHE_SIZE"
DEFAULT_LIMIT = 1 << 30

_MAGIC = b"cpufeat cache 1\n"
_HEADER = len(_MAGIC) + 2 * hashlib.sha256().digest_size
_NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{16})?")
"""An entry, or one that is being written. No other file in the folder is ever touched, but for the counter."""
_COUNTER = "written"
_BLOCK = 4096
_ABANDONED = 3600.0
"""Seconds after which a file that is still being written belongs to a process that died."""
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))


class Cache(Value):
    """Entries by key: 64 hexadecimal digits. Nothing here raises for want of disk space or permission."""

    folder: str
    """It exists, belongs to this user, and nobody else can write to it."""
    limit: int = DEFAULT_LIMIT
    """Bytes that all entries together may take."""

    def get(self, key: str) -> bytes | None:
        """Return the content that was put under a key, None if there is none, or only a damaged one."""
        path = self._path(key)
        entry = _read(path, self.limit)
        if entry is None:
            return None
        content = entry[_HEADER:]
        if entry[:_HEADER] != _header(key, content):
            self.remove(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep a content, unless it would take more than half of the room."""
        size = _HEADER + len(content)
        if 2 * size > self.limit:
            return
        private = self._path(f"{key}.{os.urandom(8).hex()}")
        try:
            self._make_room(_blocks(size))
            with open(private, "xb", opener=_private) as file:
                file.writelines((_header(key, content), content))
            private.replace(self._path(key))
        except OSError:
            pass  # a full disk, most likely: the next one compiles again
        finally:
            _remove(private)

    def remove(self, key: str) -> None:
        """Take an entry away, if it is there."""
        _remove(self._path(key))

    def _path(self, name: str) -> Path:
        return Path(self.folder, name)

    def _make_room(self, blocks: int) -> None:
        """Count what is about to be written, and drop entries if the limit may be exceeded by it.

        The counter is a file with a byte for each block written since the entries were last looked at: many processes
        append to it at once, and its length is all that is read. It says too much for what a writer did not finish.
        """
        with open(self._path(_COUNTER), "ab", opener=_private) as counter:
            counter.write(bytes(blocks))
            counted = counter.tell()
        if counted == blocks or counted * _BLOCK > self.limit:
            kept = self._drop(self.limit // _BLOCK * 9 // 10 - blocks)
            os.truncate(self._path(_COUNTER), kept + blocks)

    def _drop(self, most: int) -> int:
        """Drop the least recently used entries until the others take at most so many blocks, and return how many."""
        files = sorted(self._files())
        kept = sum(blocks for _, blocks, _ in files)
        now = time.time()
        for used, blocks, name in files:
            is_written = "." in name
            if now - used > _ABANDONED if is_written else kept > most:
                _remove(self._path(name))
                kept -= blocks
        return kept

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield when each file was last used, how many blocks it takes, and its name."""
        with os.scandir(self.folder) as files:
            for file in files:
                if _NAME.fullmatch(file.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat(follow_symlinks=False)
                        yield status.st_mtime, _blocks(status.st_size), file.name


def from_environment() -> Cache | None:
    """Return the cache that this process is to use, None for none.

    ``CPUFEAT_CACHE`` is ``0`` for none, or an absolute path; by default the platform's folder for such files. None
    also where the folder cannot be made, and, with a CpufeatWarning once, where somebody else could have put something
    into it. ``CPUFEAT_CACHE_SIZE`` is the limit (``500M``). Raises CpufeatError for other values of either.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "0":
        return None
    if chosen and not Path(chosen).is_absolute():
        raise CpufeatError(f"{VARIABLE} is {chosen!r}: neither 0, for no cache, nor an absolute path")
    folder = Path(chosen) if chosen else _platform_folder()
    limit = _limit(os.environ.get(SIZE_VARIABLE, ""))
    if not folder.is_absolute():
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        distrust = _distrust(folder.stat())
    except (OSError, ValueError):
        return None
    if distrust:
        _warn(f"{folder}: not used as a cache, since it {distrust}")
        return None
    return Cache(str(folder), limit)


def key(*parts: bytes) -> str:
    """Return the key of what is made from these parts, and from nothing else."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _header(key: str, content: bytes) -> bytes:
    return _MAGIC + bytes.fromhex(key) + hashlib.sha256(content).digest()


def _read(path: Path, most: int) -> bytes | None:
    """Return a file of this user's own, None if there is none."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _FLAGS)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or _distrust(status) or status.st_size > most:
                return None
            return file.read()
    except OSError:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS, 0o600)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _blocks(size: int) -> int:
    return -(-size // _BLOCK)


def _distrust(status: os.stat_result) -> str:
    """Return why a file or folder may hold what somebody else wrote, as OpenSSH decides it; empty if it may not.

    On Windows a user's own folders are closed to others.
    """
    if not hasattr(os, "geteuid"):
        return ""
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def _platform_folder() -> Path:
    """Return where the platform wants such files; a path that is not absolute where it does not say.

    XDG Base Directory Specification, by which a path that is not absolute is ignored; Apple's File System Programming
    Guide; Microsoft's KNOWNFOLDERID for ``%LOCALAPPDATA%``.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.expanduser raises where there is no home
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", ""), "cpufeat", "Cache")
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "cpufeat"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (chosen if chosen.is_absolute() else home / ".cache") / "cpufeat"


def _limit(text: str) -> int:
    size = _SIZE.fullmatch(text.upper() or str(DEFAULT_LIMIT))
    if not size:
        raise CpufeatError(f"{SIZE_VARIABLE} is {text!r}: expected bytes, or a number with K, M, G or T")
    return int(size[1]) * _UNITS[size[2]]


_said: set[str] = set()


def _warn(message: str) -> None:
    if message not in _said:
        _said.add(message)
        warnings.warn(message, CpufeatWarning, stacklevel=2)
