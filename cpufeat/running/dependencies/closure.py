"""Follow names from file to file, for systems whose loaders go by the path of a file alone: Windows and macOS."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from cpufeat.errors import AuditError
from cpufeat.running.dependencies.dependency import Dependencies, Dependency
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Links(NamedTuple):
    """What a file names to be loaded with it."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    """What may be missing."""
    rpaths: tuple[str, ...] = ()
    """The folders that ``@rpath`` stands for, on macOS."""


class Loaded(NamedTuple):
    """A file, its links, and the file that it was itself loaded for."""

    path: str
    links: Links
    parent: Loaded | None


class Found(NamedTuple):
    """The result of a search: a real path, or the knowledge that the name is a part of the system, or neither."""

    real: str = ""
    is_system: bool = False
    searched: tuple[str, ...] = ()


def follow(
    program: str, links: Links, read: Callable[[bytes, str], Links], find: Callable[[str, Loaded], Found]
) -> Dependencies:
    """Return what a program loads: ``read`` reads the links of a file, ``find`` finds what a name in a file is.

    ``read`` may raise AuditError.
    """
    unknown: list[str] = []
    loaded: dict[str, Dependency] = {}
    missing: dict[str, Dependency] = {}
    system: dict[str, None] = {}
    waiting = deque([Loaded(program, links, None)])
    while waiting:
        requester = waiting.popleft()
        for name in (*requester.links.needed, *requester.links.optional):
            found = find(name, requester)
            if found.is_system:
                system[name] = None
            elif not found.real:
                if name in requester.links.needed:
                    missing.setdefault(name, Dependency(name, requester.path, searched=found.searched))
            elif found.real not in loaded:
                loaded[found.real] = Dependency(name, requester.path, found.real, found.real)
                try:
                    waiting.append(Loaded(found.real, read(files.read(found.real), found.real), requester))
                except (AuditError, OSError) as error:
                    unknown.append(f"what {found.real} loads is not known: {error}")
    return Dependencies(
        files=(*loaded.values(), *missing.values()),
        system=tuple(system),
        unknown=tuple(unknown),
    )
