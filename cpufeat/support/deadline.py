"""Bound the time of several steps together."""

from __future__ import annotations

import time

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Deadline:
    """The end of a time that began when this was made; without a limit there is none."""

    def __init__(self, seconds: float | None) -> None:
        """Begin; ``seconds`` None is no limit."""
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Return the seconds that are left, 0 if none are; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def half(self) -> Deadline:
        """Return one after half of the time that is left."""
        left = self.left()
        return Deadline(None if left is None else left / 2)

    def within(self, seconds: float) -> Deadline:
        """Return one after so many seconds from now, if this one is later, else this one."""
        left = self.left()
        return self if left is not None and left <= seconds else Deadline(seconds)

    def stop(self, error: Callable[[], Exception]) -> Callable[[int, int], None]:
        """Return a callback for the progress of some work, which raises an error at the end of the time."""

        def progress(done: int, total: int) -> None:
            if self.left() == 0:
                raise error()

        return progress
