"""Follow what an ELF program or library loads, in the order in which its loader does: breadth first."""

from __future__ import annotations

import posixpath
from collections import deque
from itertools import chain

from cpufeat.errors import AuditError
from cpufeat.running.dependencies.dependency import Dependencies, Dependency
from cpufeat.running.dependencies.elf_links import elf_links, kind_of
from cpufeat.running.dependencies.elf_search import LOADERS, ElfSearch, Requester
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.features import FeatureSet
    from cpufeat.running.dependencies.elf_links import ElfLinks
    from cpufeat.running.dependencies.root import Root

_PRELOADED = "/etc/ld.so.preload"
_MUSL_C = "libc.musl-"


def elf_dependencies(content: bytes, file: str, root: Root, available: FeatureSet) -> Dependencies:
    """Return what the loader loads with a linked file on a CPU with those features.

    Raises AuditError for a damaged file.
    """
    links = elf_links(content, file)
    if not links.interpreter and not links.needed:
        return Dependencies()
    search = ElfSearch(root, kind_of(content), _loader(links, available.arch), available)
    closure = _Closure(root, search)
    program = Requester(root.inner(file), links, None)
    closure.add_program(program)
    is_program = bool(links.interpreter)
    extra = [*root.preloaded, *root.read(_PRELOADED).decode(errors="surrogateescape").split()] if is_program else []
    closure.follow(program, [*extra, *links.needed])
    if is_program and links.interpreter not in closure.by_name:
        closure.add(links.interpreter, program)
    return closure.result()


def _loader(links: ElfLinks, arch: str) -> str:
    """Return the path of the loader: a library may name none, but its C library tells which it is for."""
    if links.interpreter:
        return links.interpreter
    musl = next((name for name in links.needed if name.startswith(_MUSL_C) or name == "libc.so"), "")
    return f"/lib/ld-musl-{arch}.so.1" if musl else LOADERS.get(arch, "")


class _Closure:
    """The files that are loaded so far."""

    def __init__(self, root: Root, search: ElfSearch) -> None:
        self._root, self._search = root, search
        self.by_name: dict[str, Dependency | None] = {}
        """By the names under which loaded files are known: as they were asked for, and their sonames."""
        self._by_real: dict[str, Dependency] = {}
        self._links: list[ElfLinks] = []
        self._waiting: deque[Requester] = deque()
        self._files: list[Dependency] = []
        self._unknown: list[str] = []

    def add_program(self, program: Requester) -> None:
        self._links.append(program.links)
        if program.links.soname:
            self.by_name[program.links.soname] = None

    def follow(self, program: Requester, needed: Sequence[str]) -> None:
        """Load what a program needs, then what that needs, and so on."""
        for name in needed:
            self.add(name, program)
        while self._waiting:
            requester = self._waiting.popleft()
            for name in requester.links.needed:
                self.add(name, requester)

    def add(self, name: str, requester: Requester) -> None:
        """Load the library of a name, unless it is loaded."""
        if name in self.by_name:
            return
        found, searched = self._find(name, requester)
        if not found:
            self.by_name[name] = Dependency(name, requester.path, searched=searched)
            self._files.append(Dependency(name, requester.path, searched=searched))
            return
        for path in found:
            self._load(name, path, requester)

    def _find(self, name: str, requester: Requester) -> tuple[Sequence[str], tuple[str, ...]]:
        if name == self._search.loader or posixpath.basename(name) == posixpath.basename(self._search.loader):
            is_there = self._root.real(self._search.loader)
            return ([self._search.loader] if is_there else []), (self._search.loader,)
        return self._search.find(name, requester)

    def _load(self, name: str, path: str, requester: Requester) -> None:
        real = self._root.real(path)
        if real is None:
            return
        if real in self._by_real:
            self.by_name.setdefault(name, self._by_real[real])
            return
        dependency = Dependency(name, requester.path, path, real)
        self._by_real[real] = dependency
        self._files.append(dependency)
        self.by_name.setdefault(name, dependency)
        try:
            links = elf_links(files.read(real), path, is_loader=path == self._search.loader)
        except (AuditError, OSError) as error:
            self._unknown.append(f"what {path} loads is not known: {error}")
            return
        if links.soname:
            self.by_name.setdefault(links.soname, dependency)
        self._links.append(links)
        self._waiting.append(Requester(path, links, requester))

    def result(self) -> Dependencies:
        opened = dict.fromkeys(chain.from_iterable(links.opens for links in self._links))
        imports = [links.imports for links in self._links]
        names = chain.from_iterable((*(links.imports or ()), *links.looks_up) for links in self._links)
        loaded = self.by_name.keys() | {posixpath.basename(file.path) for file in self._files}
        return Dependencies(
            files=tuple(self._files),
            may_open=tuple(name for name in opened if posixpath.basename(name) not in loaded),
            unknown=tuple(self._unknown),
            used=None if self._unknown or None in imports else frozenset(names),
        )
