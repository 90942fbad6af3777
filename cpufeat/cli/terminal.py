"""Print pages: at the width of the terminal, in colour if that is wanted and rich is installed, plain otherwise."""

from __future__ import annotations

import os
import shutil
import sys

from cpufeat.cli.layout import NARROWEST, WIDEST, cut_off, folded, lay_out
from cpufeat.cli.streams import printable
from cpufeat.errors import MissingExtraError
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, TextIO

    from rich.console import Console

    from cpufeat.cli.layout import Block, Line

STYLES = {
    "title": "bold",
    "head": "bold cyan",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "name": "bold",
    "note": "dim",
}
COLOUR = ("auto", "always", "never")
"""The values of ``--color``."""
_COLUMNS = 80
"""The width of pages that are not printed on a terminal, unless ``COLUMNS`` says otherwise."""

_colour = "auto"


def choose_colour(colour: str) -> None:
    """Set what ``--color`` says, for the rest of this process."""
    global _colour  # noqa: PLW0603 - the help, which is printed while arguments are parsed, needs it too
    _colour = colour


def width() -> int:
    """Return the width of pages: the columns of the terminal, or ``COLUMNS``, within what can be read."""
    return min(max(shutil.get_terminal_size((_COLUMNS, 0)).columns, NARROWEST), WIDEST)


def show(blocks: Iterable[Block]) -> None:
    """Print a page on standard output."""
    _print(lay_out(blocks, width()))


def show_row(text: str) -> None:
    """Print a row of a list: one line, which only a terminal that is too narrow gets in several."""
    _print(lay_out([folded((text, ""), hanging=4)], _row_width(len(text))))


def show_cut(rows: Iterable[tuple[str, str]]) -> None:
    """Print texts in their styles, a line each, cut off where a terminal ends; nothing else cuts them off."""
    _print([(cut_off(text, _row_width(len(text))), style)] for text, style in rows)


def _row_width(length: int) -> int:
    """Return the room for a row of a length: unlimited unless standard output is a terminal."""
    return max(shutil.get_terminal_size().columns if sys.stdout.isatty() else length, NARROWEST)


def _print(lines: Iterable[Line]) -> None:
    console = _console() if wants_colour() else None
    if console:
        paint(console, lines)
        return
    for line in lines:
        print(printable("".join(text for text, _ in line)).rstrip())


def paint(console: Console, lines: Iterable[Line]) -> None:
    """Print lines on a rich console."""
    with extra("cli"):
        from rich.text import Text
    for line in lines:
        pieces = ((printable(text), STYLES.get(style, "")) for text, style in line)
        console.print(Text.assemble(*pieces), soft_wrap=True)


def wants_colour(stream: TextIO | None = None) -> bool:
    """Return whether to write in colour to a stream (None: standard output).

    What ``--color`` says is followed, else ``NO_COLOR`` (no-color.org) or ``FORCE_COLOR``; else a terminal gets colour.
    """
    if _colour != "auto":
        return _colour == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"


def _console() -> Console | None:
    try:
        with extra("cli"):
            from rich.console import Console
    except MissingExtraError:
        if _colour == "always":
            raise
        return None
    system: Literal["auto", "standard"] = "auto" if sys.platform == "win32" else "standard"
    return Console(highlight=False, force_terminal=True, no_color=False, color_system=system)
