"""Write to standard output and error, tolerating closed, full and broken streams, and print messages safely."""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    """Replace closed streams by the null device, and let standard output escape what its encoding lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def flush_or_discard() -> None:
    """Flush standard output; if that fails, discard what is buffered."""
    try:
        sys.stdout.flush()
    except OSError:
        discard()


def discard() -> None:
    """Discard buffered output that cannot be written: at exit Python would try again, and fail with its own status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(message: str) -> None:
    """Print a message on standard error, after the name of the program."""
    lines = "\n".join(printable(line) for line in message.splitlines())
    print(f"cpufeat: {lines}", file=sys.stderr)


def printable(text: str) -> str:
    """Replace control characters, which file names and dumps from others may contain, by question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)
