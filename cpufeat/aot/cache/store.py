"""Store and find files in a content-addressed cache on disk.

It is a folder of plain files. An entry is named by its key, and is written under another name and renamed, so that no
process sees part of it, however the writer ends. It holds its key and the SHA-256 of its content: a damaged or renamed
entry is removed, never used. The least recently used entries are evicted first.

No library fits. diskcache 5.6.3 (SQLite, and files for large values) takes 16 ms to import and 4 ms to open, while a
whole hit takes 2; it does not count what a killed writer or a full disk left behind; a damaged database stays an error;
and a row may name any file to read or to remove, or hold a pickle. cachelib and joblib unpickle as well. platformdirs,
for the folder, takes over 15 ms to import.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat.errors import CpufeatError, warn
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE, SIZE_VARIABLE = "CPUFEAT_CACHE", "CPUFEAT_CACHE_SIZE"
DEFAULT_LIMIT = 1 << 30

_MAGIC = b"cpufeat cache 1\n"
_HEADER = len(_MAGIC) + 2 * hashlib.sha256().digest_size
_NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{16})?")
"""An entry, or one that is being written. Apart from these and the counter, no file in the folder is touched."""
_COUNTER = "written"
"""A file with one byte for each block written since the last eviction."""
_BLOCK = 4096
_ABANDONED_SECONDS = 3600.0
"""Age of a file that is still being written after which its writer is taken to be dead."""
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))


class Cache(Value):
    """Entries by key, 64 hexadecimal digits. No method raises for lack of disk space or permission."""

    folder: str
    """An existing folder that belongs to this user, and that nobody else can write to."""
    limit: int = DEFAULT_LIMIT
    """Maximum of the bytes of all entries together."""

    def get(self, key: str) -> bytes | None:
        """Return the content that was put under a key, None if there is none or it is damaged."""
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
        """Keep a content, unless it would take more than half of the limit."""
        size = _HEADER + len(content)
        if 2 * size > self.limit:
            return
        private = self._path(f"{key}.{os.urandom(8).hex()}")
        try:
            self._reserve(_blocks(size))
            with open(private, "xb", opener=_private) as file:
                file.writelines((_header(key, content), content))
            private.replace(self._path(key))
        except OSError:
            pass  # a full disk, most likely: the next one compiles again
        finally:
            _remove(private)

    def remove(self, key: str) -> None:
        """Remove an entry, if it is there."""
        _remove(self._path(key))

    def _path(self, name: str) -> Path:
        return Path(self.folder, name)

    def _reserve(self, blocks: int) -> None:
        """Count blocks that are about to be written, and evict entries if they may exceed the limit.

        Many processes append to the counter at once, and only its length is read. It counts too much where a writer
        did not finish.
        """
        with open(self._path(_COUNTER), "ab", opener=_private) as counter:
            counter.write(bytes(blocks))
            counted = counter.tell()
        if counted == blocks or counted * _BLOCK > self.limit:
            remaining = self._evict(self.limit // _BLOCK * 9 // 10 - blocks)
            os.truncate(self._path(_COUNTER), remaining + blocks)

    def _evict(self, max_blocks: int) -> int:
        """Remove the least recently used entries until the rest takes at most ``max_blocks``; return its blocks."""
        files = sorted(self._files())
        remaining = sum(blocks for _, blocks, _ in files)
        now = time.time()
        for used, blocks, name in files:
            is_unfinished = "." in name
            if now - used > _ABANDONED_SECONDS if is_unfinished else remaining > max_blocks:
                _remove(self._path(name))
                remaining -= blocks
        return remaining

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield the time of last use of each file, its blocks, and its name."""
        with os.scandir(self.folder) as files:
            for file in files:
                if _NAME.fullmatch(file.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat(follow_symlinks=False)
                        yield status.st_mtime, _blocks(status.st_size), file.name


def from_environment() -> Cache | None:
    """Return the cache that this process uses, None for none.

    ``CPUFEAT_CACHE`` is ``0`` for no cache, or an absolute path; the default is the platform's folder for caches.
    ``CPUFEAT_CACHE_SIZE`` is the limit (``500M``). There is no cache either if the folder cannot be made or if others
    can write to it; a CpufeatWarning says so once, except for a default folder that cannot be made. Raises CpufeatError
    for other values of the variables.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "0":
        return None
    if chosen and not Path(chosen).is_absolute():
        raise CpufeatError(f"{VARIABLE} must be 0, for no cache, or an absolute path, not {chosen!r}")
    folder = Path(chosen) if chosen else _platform_folder()
    limit = _limit(os.environ.get(SIZE_VARIABLE, ""))
    if not folder.is_absolute():
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        distrust = _distrust(folder.stat())
    except (OSError, ValueError) as error:
        if chosen:
            _warn(f"{VARIABLE}={chosen}: no cache is used: {getattr(error, 'strerror', None) or error}")
        return None
    if distrust:
        _warn(f"{folder}: not used as a cache: it {distrust}")
        return None
    return Cache(str(folder), limit)


def key(*parts: bytes) -> str:
    """Return the key of what is made from these parts: a digest of them and of their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _header(key: str, content: bytes) -> bytes:
    return _MAGIC + bytes.fromhex(key) + hashlib.sha256(content).digest()


def _read(path: Path, max_size: int) -> bytes | None:
    """Return the content of a regular file that only this user can write, None if there is none."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _FLAGS)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or _distrust(status) or status.st_size > max_size:
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
    """Return why others may have written to a file or folder, by OpenSSH's rule; empty if they cannot have.

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
    """Return the platform's folder for caches; a relative path if the environment names none.

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
        raise CpufeatError(f"{SIZE_VARIABLE} must be a number of bytes, or a number with K, M, G or T, not {text!r}")
    return int(size[1]) * _UNITS[size[2]]


_warned: set[str] = set()


def _warn(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warn(message)
