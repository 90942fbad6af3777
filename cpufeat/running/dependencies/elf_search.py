"""Find the libraries that an ELF file names, as the loaders of glibc and of musl search for them.

Sources: ld.so(8); glibc, ``elf/dl-load.c`` (``_dl_map_object``) and ``elf/dl-cache.c``; musl, ``ldso/dynlink.c``
(``load_library``).
"""

from __future__ import annotations

import posixpath
import re
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cpufeat.levels import level_features, levels
from cpufeat.running.dependencies.elf_links import kind_of
from cpufeat.running.dependencies.glibc_cache import CACHE, OTHER, configured_folders, read_cache
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.features import FeatureSet
    from cpufeat.running.dependencies.elf_links import ElfLinks
    from cpufeat.running.dependencies.glibc_cache import Cached
    from cpufeat.running.dependencies.root import Root

LOADERS = {
    "x86_64": "/lib64/ld-linux-x86-64.so.2",
    "i686": "/lib/ld-linux.so.2",
    "aarch64": "/lib/ld-linux-aarch64.so.1",
}
"""glibc's loader of each architecture (its ``sysdeps``, ``shlib-versions``), which loads a library that names none."""
_SYSTEM_FOLDERS = re.compile(rb"(?:/[\w./+-]+/\0)+")
"""In glibc's loader: the folders that it always searches, each with a slash and a NUL at its end."""
_SUBFOLDERS = "glibc-hwcaps"
_OLD_SUBFOLDERS = ("tls", "haswell", "xeon_phi", "x86_64", "avx512_1", "atomics")
"""What glibc before 2.37 searched as well, by properties of the CPU that are no levels."""
_MUSL = re.compile(r"ld-musl-(.+)\.so\.1$")
_MUSL_FOLDERS = ("/lib", "/usr/local/lib", "/usr/lib")
_MUSL_OWN = ("c", "pthread", "rt", "m", "dl", "util", "xnet")
"""Libraries that musl's loader is itself."""


class Requester(NamedTuple):
    """A file that names libraries, and the one that it was itself loaded for."""

    path: str
    """Its path on the machine."""
    links: ElfLinks
    parent: Requester | None

    @property
    def chain(self) -> Iterator[Requester]:
        """The file, what it was loaded for, and so on up to the program."""
        at: Requester | None = self
        while at:
            yield at
            at = at.parent


class Search(NamedTuple):
    """The result of a search for one library."""

    found: tuple[str, ...]
    """The paths on the machine: the one that is loaded, and others that might be in its place."""
    searched: tuple[str, ...]
    """Where, in order, for messages."""


class ElfSearch:
    """The loader of one program."""

    def __init__(self, root: Root, kind: tuple[int, int, int], loader: str, available: FeatureSet) -> None:
        """Search a root for files of a class, byte order and machine, as a loader at a path does.

        ``available``: the features of the CPU, which choose among glibc-hwcaps.
        """
        self._root, self._kind = root, kind
        self.loader: str = loader
        own = reversed(levels(available.arch)) if available.arch == "x86_64" else ()
        self._levels = tuple(level for level in own if level_features(available.arch, level) <= available)
        self._arch = available.arch
        self.is_musl: bool = bool(_MUSL.search(loader))

    def find(self, name: str, requester: Requester) -> Search:
        """Return the files that a name in a file stands for; none if it is not found."""
        if "/" in name:
            path = self._expanded(name, requester)
            return Search((path,) if path and self._fits(path) else (), (path or name,))
        if self.is_musl:
            return self._find_as_musl(name, requester)
        return self._find_as_glibc(name, requester)

    # --- glibc

    def _find_as_glibc(self, name: str, requester: Requester) -> Search:
        before, after = self._rpath(requester), self._expand_all(requester.links.runpath or (), requester)
        searched = [*before, *self._root.library_path, *after]
        found = self._in_folders(name, searched)
        if found or not requester.links.has_defaults:
            return Search(found, tuple(searched))
        searched.append(CACHE)
        found = self._in_cache(name)
        if not found:
            found = self._in_folders(name, self.system_folders)
            searched += self.system_folders
        if not found and not self._cache:
            configured = configured_folders(self._root)
            found = self._in_folders(name, configured)
            searched += configured
        return Search(found, tuple(searched))

    def _rpath(self, requester: Requester) -> list[str]:
        if requester.links.runpath is not None:
            return []
        return [folder for file in requester.chain for folder in self._expand_all(file.links.rpath, file)]

    def _in_folders(self, name: str, folders: Sequence[str]) -> tuple[str, ...]:
        for folder in folders:
            subfolders = [posixpath.join(_SUBFOLDERS, level) for level in self._levels]
            places = [posixpath.join(folder, subfolder, name) for subfolder in (*subfolders, "")]
            chosen = next((place for place in places if self._fits(place)), "")
            others = [posixpath.join(folder, old, name) for old in _OLD_SUBFOLDERS]
            found = [place for place in (chosen, *others) if place and (place == chosen or self._fits(place))]
            if found:
                return tuple(found)
        return ()

    def _in_cache(self, name: str) -> tuple[str, ...]:
        entries = [entry for entry in self._cache.get(name, ()) if self._fits(entry.path)]
        ranks = {level: rank for rank, level in enumerate((*self._levels, ""))}
        usable = sorted((ranks[entry.subfolder], entry.path) for entry in entries if entry.subfolder in ranks)
        others = [entry.path for entry in entries if entry.subfolder == OTHER]
        return (*[path for _, path in usable[:1]], *others)

    @cached_property
    def _cache(self) -> dict[str, list[Cached]]:
        return read_cache(self._root.read(CACHE))

    @cached_property
    def system_folders(self) -> tuple[str, ...]:
        """The folders that the loader always searches: glibc's has their names in its constants."""
        lists = (found.decode() for found in _SYSTEM_FOLDERS.findall(self._root.read(self.loader)))
        folders = next((found for found in lists if "lib" in found), "/lib/\0/usr/lib/\0")
        return tuple(folder.rstrip("/") for folder in folders.split("\0") if folder)

    # --- musl

    def _find_as_musl(self, name: str, requester: Requester) -> Search:
        stem, dot, _ = name.removeprefix("lib").partition(".")
        if name.startswith("lib") and dot and stem in _MUSL_OWN:
            return Search((self.loader,), (self.loader,))
        chain = [
            folder
            for file in requester.chain
            for folder in self._expand_all(file.links.runpath or file.links.rpath, file)
        ]
        searched = (*self._root.library_path, *chain, *self._musl_folders)
        places = (posixpath.join(folder, name) for folder in searched)
        return Search(tuple(place for place in places if self._fits(place))[:1], searched)

    @cached_property
    def _musl_folders(self) -> tuple[str, ...]:
        known = _MUSL.search(self.loader)
        listed = self._root.read(f"/etc/ld-musl-{known[1] if known else ''}.path").decode(errors="surrogateescape")
        return tuple(re.split(r"[:\n]", listed.strip())) if listed.strip() else _MUSL_FOLDERS

    # --- both

    def _expand_all(self, folders: Sequence[str], requester: Requester) -> list[str]:
        expanded = (self._expanded(folder or ".", requester) for folder in folders)
        return [folder for folder in expanded if folder]

    def _expanded(self, path: str, requester: Requester) -> str:
        """Return a path with ``$ORIGIN``, ``$LIB`` and ``$PLATFORM`` replaced."""
        values = {"ORIGIN": posixpath.dirname(requester.path)}
        if not self.is_musl:
            values |= {"LIB": self.system_folders[0].lstrip("/"), "PLATFORM": self._arch}
        for name, value in values.items():
            path = path.replace(f"${{{name}}}", value).replace(f"${name}", value)
        return path

    def _fits(self, path: str) -> bool:
        """Whether there is a file at a path that the loader takes: others of the name are skipped."""
        real = self._root.real(path)
        if not real:
            return False
        try:
            with Path(real).open("rb") as file:
                return kind_of(file.read(20)) == self._kind
        except OSError:
            return False
