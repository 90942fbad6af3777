"""Read the cache of glibc's loader, ``/etc/ld.so.cache``, and the folders that ``ldconfig`` makes it from.

Source: glibc, ``sysdeps/generic/dl-cache.h``: the format "glibc-ld.so.cache1.1", with the extension for glibc-hwcaps.
"""

from __future__ import annotations

import posixpath
import struct
from pathlib import Path
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.running.dependencies.root import Root

CACHE, CONFIGURATION = "/etc/ld.so.cache", "/etc/ld.so.conf"
OTHER = "other"
"""In place of a subfolder: versions of glibc before 2.37 test further properties of the CPU."""
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER, _ENTRY = struct.Struct("20s2IB3xI12x"), struct.Struct("i3IQ")
_EXTENSION_MAGIC, _HWCAPS_TAG = 0xEAA42174, 1
_HAS_SUBFOLDER = 1 << 62
"""Set in an entry's hwcap: its lower half is an index into the names of the extension."""
_MAX_INCLUDES = 16
"""Levels of configuration files that include others."""


class Cached(NamedTuple):
    """A library in the cache."""

    path: str
    subfolder: str
    """The subfolder of ``glibc-hwcaps`` that it is from: ``x86-64-v3``; empty if any CPU may load it, :data:`OTHER` if
    that depends on something else."""


def read_cache(content: bytes) -> dict[str, list[Cached]]:
    """Return the libraries of a cache by name, none of a cache of another format or a damaged one."""
    start = content.find(_MAGIC)  # behind a table of an older format, in caches for both
    if start < 0:
        return {}
    cache = content[start:]
    order = ">" if len(cache) > 28 and cache[28] & 3 == 3 else "<"
    header, entry = struct.Struct(order + _HEADER.format), struct.Struct(order + _ENTRY.format)
    try:
        _, count, _, _, extension = header.unpack_from(cache)
        subfolders = _subfolders(cache, extension, order)
        found: dict[str, list[Cached]] = {}
        for index in range(min(count, len(cache) // entry.size)):
            _, name, path, _, hwcap = entry.unpack_from(cache, header.size + index * entry.size)
            subfolder = OTHER if hwcap else ""
            if hwcap & _HAS_SUBFOLDER:
                subfolder = subfolders[hwcap & 0xFFFFFFFF]
            found.setdefault(_text(cache, name), []).append(Cached(_text(cache, path), subfolder))
    except (struct.error, IndexError):
        return {}
    return found


def _subfolders(cache: bytes, extension: int, order: str) -> list[str]:
    if not extension:
        return []
    magic, count = struct.unpack_from(order + "2I", cache, extension)
    if magic != _EXTENSION_MAGIC:
        return []
    for index in range(min(count, len(cache) // 16)):
        tag, _, offset, size = struct.unpack_from(order + "4I", cache, extension + 8 + 16 * index)
        if tag == _HWCAPS_TAG:
            names = struct.unpack_from(f"{order}{min(size, len(cache)) // 4}I", cache, offset)
            return [_text(cache, name) for name in names]
    return []


def _text(content: bytes, start: int) -> str:
    return content[start : content.index(b"\0", start)].decode(errors="surrogateescape") if start < len(content) else ""


def configured_folders(root: Root) -> list[str]:
    """Return the folders that ``ldconfig`` looks through, besides the loader's own."""
    return list(dict.fromkeys(_configured(root, CONFIGURATION, 0)))


def _configured(root: Root, path: str, depth: int) -> Iterator[str]:
    for line in root.read(path).decode(errors="surrogateescape").splitlines():
        first, *words = line.partition("#")[0].replace(",", " ").replace(":", " ").split() or [""]
        if first == "include" and depth < _MAX_INCLUDES:
            for pattern in words:
                for included in _matching(root, posixpath.join(posixpath.dirname(path), pattern)):
                    yield from _configured(root, included, depth + 1)
        elif first and first not in ("include", "hwcap"):
            yield from (folder.partition("=")[0] for folder in (first, *words))


def _matching(root: Root, pattern: str) -> list[str]:
    folder = Path(root.folder or "/")
    return sorted(f"/{path.relative_to(folder).as_posix()}" for path in folder.glob(pattern.lstrip("/")))
