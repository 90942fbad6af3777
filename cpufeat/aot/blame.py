"""Which function LLVM cannot bear, where its last words do not say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def culprit(attempt: Callable[[int, int], list[str] | None], seconds: float) -> str | None:
    """Return the function without which code generation would not fail, None if none alone is to blame.

    ``attempt(first, last)`` emits that range of the defined functions; it returns the names of them all, None if it
    fails. Halves the range until one is left, for at most about ``seconds``.
    """
    until = time.monotonic() + seconds
    names = attempt(0, 0)
    if not names:
        return None
    first, last = 0, len(names)
    while last - first > 1:
        middle = (first + last) // 2
        if time.monotonic() > until:
            return None
        if attempt(first, middle) is None:
            last = middle
        elif attempt(middle, last) is None:
            first = middle
        else:
            return None
    return names[first]
