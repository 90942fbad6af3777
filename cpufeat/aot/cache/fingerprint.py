"""Fingerprint the installed llvmlite and cpufeat for the cache key, without importing them.

Version numbers are not enough: a checkout changes at the same version, and so may a build of llvmlite. So the contents
of their files are digested, once: the digest is kept in the cache under the files' names, sizes and times.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from pathlib import Path

from cpufeat import tables
from cpufeat.aot.cache.store import Cache, key

_File = tuple[str, str, int, int]
"""Path, path within the package, size in bytes, time of the last change in nanoseconds."""
_SKIPPED = {"cpufeat/cli", "cpufeat/data/machines", "llvmlite/ir", "llvmlite/tests"}
"""Folders that do not affect an object, by their path within the package: others of the same name count."""
_MIN_LLVM_SIZE = 16 << 20
"""Bytes: a smaller llvmlite is linked to an LLVM elsewhere, as in some distributions. A wheel takes over 80 MiB."""
_LOADED = time.time_ns()
"""The time at which this process began to load cpufeat: a file that changed later may differ from what is loaded."""


@functools.lru_cache(maxsize=8)
def fingerprint(cache: Cache, llvmlite: str, cpufeat: str, family: str) -> str:
    """Return a digest of everything that affects how a module is compiled; empty if files do not determine that.

    ``llvmlite`` and ``cpufeat`` are the paths of their ``__init__.py``, ``family`` is the folder of tables that counts.
    It is empty if LLVM is outside of llvmlite's folder, if cpufeat's code is inside of another file (a zip archive, a
    frozen application), or if a file changed after this process began to load cpufeat.
    Raises OSError for a file that cannot be read.
    """
    if not Path(cpufeat).is_file():
        return ""
    llvm = _files(Path(llvmlite).parent)
    data = Path(tables.DATA)
    files = sorted([*llvm, *_files(Path(cpufeat).parent), *_files(data / family), *_files(data, deep=False)])
    if sum(size for *_, size, _ in llvm) < _MIN_LLVM_SIZE or any(changed > _LOADED for *_, changed in files):
        return ""
    listed = key(b"toolchain", repr(files).encode(errors="surrogateescape"))
    known = cache.get(listed)
    if known is not None:
        return known.decode()
    contents = key(
        *(part for path, name, *_ in files for part in (name.encode(errors="surrogateescape"), _digest(path)))
    )
    cache.put(listed, contents.encode())
    return contents


def _files(folder: Path, *, deep: bool = True) -> list[_File]:
    files: list[_File] = []
    waiting = [(str(folder), folder.name)]
    for path, name in waiting:
        with os.scandir(path) as entries:
            for entry in entries:
                inside = f"{name}/{entry.name}"
                if not entry.is_dir():
                    status = entry.stat()
                    files.append((entry.path, inside, status.st_size, status.st_mtime_ns))
                elif deep and inside not in _SKIPPED and entry.name != "__pycache__":
                    waiting.append((entry.path, inside))
    return files


def _digest(path: str) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()
