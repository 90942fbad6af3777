"""Define what a program loads: the result of following it."""

from __future__ import annotations

from cpufeat.support.value import Value


class Dependency(Value):
    """A file that is loaded with a program."""

    name: str
    """As the file that loads it names it: ``libc.so.6``, or a path."""
    by: str
    """The path of the file that loads it."""
    path: str = ""
    """Its path on the machine that has it; empty if it was not found."""
    real: str = ""
    """Its path here, links followed; empty if it was not found."""
    searched: tuple[str, ...] = ()
    """Where it was searched for, in order."""


class Dependencies(Value):
    """All that is loaded with a program."""

    files: tuple[Dependency, ...] = ()
    """In the order in which they are loaded."""
    system: tuple[str, ...] = ()
    """Names of files that are parts of the operating system and are not here."""
    may_open: tuple[str, ...] = ()
    """Names of libraries in constants of files that can load some later on, by ``dlopen``."""
    unknown: tuple[str, ...] = ()
    """What could not be found out about what is loaded, in words."""
    used: frozenset[str] | None = None
    """The names of all symbols that one of the files takes from another, or may look up; None if that is not known."""
