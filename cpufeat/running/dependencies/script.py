"""Find the interpreter of a script (execve(2), "Interpreter scripts"; env(1))."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cpufeat.running.dependencies.root import Root

MAGIC = b"#!"
_LONGEST_LINE = 256
"""Bytes of the first line that Linux reads."""
_MAX_SCRIPTS = 5
"""Scripts that may be one another's interpreters (Linux, ``search_binary_handler``)."""
_SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""The folders in which ``env`` finds a program: Debian's PATH for root, which has those of others."""
_ASSIGNMENT = re.compile(r"\w+=")


class Interpreter(NamedTuple):
    """The program that runs a script."""

    path: str
    """Its path on the machine, or its name if it was not found; empty if the first line names none."""
    real: str
    """Its path here; empty if it was not found."""


def interpreter_of(first_line: bytes, root: Root) -> Interpreter:
    """Return the program that runs a script with that first line, through interpreters that are scripts themselves."""
    line = first_line
    found = Interpreter("", "")
    for _ in range(_MAX_SCRIPTS):
        found = _named(line, root)
        head = root.read(found.path)[:_LONGEST_LINE] if found.real else b""
        if not head.startswith(MAGIC):
            return found
        line = head
    return Interpreter(found.path, "")


def _named(line: bytes, root: Root) -> Interpreter:
    """Return what a first line names."""
    text = line.removeprefix(MAGIC).partition(b"\n")[0][:_LONGEST_LINE].decode(errors="surrogateescape").strip()
    path, _, argument = text.partition(" ")
    if posixpath.basename(path) == "env":
        words = (word for word in argument.split() if not word.startswith("-") and not _ASSIGNMENT.match(word))
        path = next(words, path)
    candidates = [path] if "/" in path else [posixpath.join(folder, path) for folder in _SEARCHED]
    for candidate in candidates:
        real = root.real(candidate)
        if real:
            return Interpreter(candidate, real)
    return Interpreter(path, "")
