"""Find out which code of which file a process is at, from what Linux tells of its memory (proc(5))."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_INSTRUCTION = 16
"""Bytes: an x86 instruction has up to 15."""


class Code(NamedTuple):
    """A place in the code of a process."""

    path: str
    """The path of the file that is mapped there; empty for memory of no file."""
    offset: int
    """The offset in the file, in bytes."""
    content: bytes
    """The bytes there, as many as the longest instruction has; fewer if they cannot be read."""
    address: int
    """The address in the process."""


class MappedRegion(NamedTuple):
    """A part of the memory of a process, a line of ``/proc/PID/maps``."""

    start: int
    end: int
    permissions: str
    """``r-xp``"""
    offset: int
    """The offset in the file, in bytes."""
    path: str
    """The path of the file; empty or in brackets for memory of no file."""


def mappings(process: int) -> Iterator[MappedRegion]:
    """Yield the parts of the memory of a process. Raises OSError for one that has ended."""
    for line in Path(f"/proc/{process}/maps").read_text(errors="surrogateescape").splitlines():
        addresses, permissions, offset, _, _, *path = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in addresses.split("-"))
        yield MappedRegion(start, end, permissions, int(offset, 16), path[0] if path else "")


def code_at(process: int, address: int) -> Code:
    """Return the code at an address of a process, as far as the kernel tells: nothing of a process that has ended."""
    path, offset = _mapped(process, address)
    try:
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            content = memory.read(_LONGEST_INSTRUCTION)
    except (OSError, ValueError, OverflowError):
        content = b""
    return Code(path, offset, content, address)


def _mapped(process: int, address: int) -> tuple[str, int]:
    """Return the file that is mapped at an address, and the offset in it."""
    try:
        for part in mappings(process):
            if part.start <= address < part.end and part.path.startswith("/"):
                return part.path, part.offset + address - part.start
    except OSError:
        pass
    return "", 0
