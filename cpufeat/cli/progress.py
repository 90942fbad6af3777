"""Show progress on standard error if that is a terminal: a bar if rich is installed, else a percentage."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from cpufeat.cli.terminal import wants_colour
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = Callable[[int, int], None]
    """Takes the amount done and the total amount."""


@contextmanager
def progress(label: str) -> Iterator[Report | None]:
    """Yield a function that shows progress, None if standard error is no terminal; erase the display at the end."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        with extra("cli"):
            from rich.console import Console
            from rich.progress import Progress
    except ImportError:
        try:
            yield lambda done, total: print(f"\r{label}: {done * 100 // max(total, 1):3}%", end="", file=sys.stderr)
        finally:
            print("\r" + " " * (len(label) + 6) + "\r", end="", file=sys.stderr)
        return
    with Progress(console=Console(stderr=True, no_color=not wants_colour(sys.stderr)), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
