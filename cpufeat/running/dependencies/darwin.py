"""Find the libraries that a Mach-O file loads (dyld(1): @executable_path, @loader_path and @rpath)."""

from __future__ import annotations

import posixpath
from pathlib import Path

from cpufeat.auditing.formats.lief_reader import read_by_lief, text
from cpufeat.auditing.formats.loader import format_of
from cpufeat.running.dependencies.closure import Found, Links, Loaded, follow
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cpufeat.running.dependencies.dependency import Dependencies
    from cpufeat.running.dependencies.root import Root

_OF_MACOS = ("/usr/lib/", "/System/")
"""Folders of macOS itself: since macOS 11 their libraries are in dyld's shared cache, not in files."""
_OPTIONAL = "LOAD_WEAK_DYLIB"
_ARCHITECTURES = {"x86_64": "X86_64", "i686": "X86", "aarch64": "ARM64"}


def darwin_dependencies(content: bytes, file: str, root: Root, arch: str) -> Dependencies:
    """Return the libraries that are loaded with a Mach-O file of an architecture.

    Raises AuditError for a damaged file.
    """
    program = str(Path(file).absolute())

    def read(content: bytes, name: str) -> Links:
        return read_by_lief(content, name, "Mach-O file", lambda lief, whole: _parse(lief, whole, arch), _links)

    def find(name: str, requester: Loaded) -> Found:
        places = list(_places(name, requester, program))
        found = (real for place in places if (real := root.real(root.inner(place) if "@" in name else place)))
        real = next(found, "")
        return Found(real, not real and name.startswith(_OF_MACOS), tuple(places))

    return follow(program, read(content, file), read, find)


def _parse(lief: Any, content: bytes, arch: str) -> Any:
    known = format_of(content)
    parsed = lief.MachO.parse(content, lief.MachO.ParserConfig.quick) if known else None
    binaries = [parsed.at(index) for index in range(parsed.size)] if parsed else []
    fitting = (binary for binary in binaries if binary.header.cpu_type.name == _ARCHITECTURES.get(arch))
    return next(fitting, None)


def _links(binary: Any, _content: memoryview, _name: str) -> Links:
    commands = [(text(library.name), library.command.name) for library in binary.libraries]
    return Links(
        needed=tuple(name for name, command in commands if command not in (_OPTIONAL, "ID_DYLIB")),
        optional=tuple(name for name, command in commands if command == _OPTIONAL),
        rpaths=tuple(text(command.path) for command in binary.rpaths),
    )


def _places(name: str, requester: Loaded, program: str) -> Iterator[str]:
    """Yield the paths that a name may stand for, in order."""
    if not name.startswith("@rpath/"):
        yield _expanded(name, requester.path, program)
        return
    at: Loaded | None = requester
    while at:
        for rpath in at.links.rpaths:
            yield posixpath.join(_expanded(rpath, at.path, program), name.removeprefix("@rpath/"))
        at = at.parent


def _expanded(path: str, file: str, program: str) -> str:
    for word, of in (("@executable_path", program), ("@loader_path", file)):
        if path.startswith(word):
            return posixpath.dirname(of) + path.removeprefix(word)
    return path
