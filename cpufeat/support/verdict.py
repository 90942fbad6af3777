"""Define the four answers to "will it run there?", and the exit status of each.

They are the same in Python, in text, in JSON and in exit statuses, whoever asks: ``check``, ``audit`` and ``verify``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it to be true
if TYPE_CHECKING:
    from collections.abc import Iterable

RUNS = "runs"
"""Every byte that can be reached was decoded, and everything that the file loads was looked at."""
MAY_NOT_RUN = "may not run"
"""Something that is missing is used, and no check of it was seen before the use."""
WILL_NOT_RUN = "will not run"
"""Something known refuses it: a guard, the loader, the system, or an instruction that is reached without a check."""
CANNOT_TELL = "cannot tell"
"""Something that matters could not be looked at."""

EXIT_STATUS = {RUNS: 0, MAY_NOT_RUN: 1, WILL_NOT_RUN: 1, CANNOT_TELL: 3}
"""The exit status of a command that gives the answer."""
_FROM_WORST = (WILL_NOT_RUN, MAY_NOT_RUN, CANNOT_TELL, RUNS)


def worst(verdicts: Iterable[str]) -> str:
    """Return the worst of several answers. Raises ValueError for none of them: what was not asked is not fine."""
    return min(verdicts, key=_FROM_WORST.index)
