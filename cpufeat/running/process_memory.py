"""Find out which code of which file a process is at, from what Linux tells of its memory (proc(5))."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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
        lines = Path(f"/proc/{process}/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return "", 0
    for line in lines:
        addresses, _, offset, _, _, *path = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in addresses.split("-"))
        if start <= address < end and path and path[0].startswith("/"):
            return path[0], int(offset, 16) + address - start
    return "", 0
