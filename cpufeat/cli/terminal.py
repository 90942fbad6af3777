"""Print styled lines: in colour on a terminal if rich is installed, plain otherwise."""

from __future__ import annotations

import os
import sys

from cpufeat.cli.streams import printable
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from cpufeat.cli.layout import Line

STYLES = {
    "title": "bold",
    "head": "bold cyan",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "name": "bold",
    "note": "dim",
}


def show(lines: Iterable[Line]) -> None:
    """Print lines on standard output."""
    console = _console() if wants_colour() else None
    if console:
        paint(console, lines)
        return
    for line in lines:
        print(printable("".join(text for text, _ in line)).rstrip())


def paint(console: Console, lines: Iterable[Line]) -> None:
    """Print lines on a rich console."""
    from rich.text import Text

    for line in lines:
        pieces = ((printable(text), STYLES.get(style, "")) for text, style in line)
        console.print(Text.assemble(*pieces), soft_wrap=True)


def wants_colour() -> bool:
    """Return whether to use colour: as ``NO_COLOR`` (no-color.org) or ``FORCE_COLOR`` says, else only on a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _console() -> Console | None:
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(highlight=False, force_terminal=True)
