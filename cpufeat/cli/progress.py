"""How far a long run is, on standard error and only for a person: by rich where it is installed, else a percentage."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Told = Callable[[int, int], None]
    """Takes how much is done, and of how much."""


@contextmanager
def progress(what: str) -> Iterator[Told | None]:
    """Give what is to be told of the progress, None where nobody watches; all of it is erased at the end."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        try:
            yield lambda done, total: print(f"\r{what}: {done * 100 // max(total, 1):3}%", end="", file=sys.stderr)
        finally:
            print("\r" + " " * (len(what) + 6) + "\r", end="", file=sys.stderr)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
