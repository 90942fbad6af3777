"""Bound what the names in a table of strings cost to read: many rows may refer to the same long one."""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORT = 64
"""Bytes of a name that cost no more than its row: thousands of sections are called ``.group``."""
_MAX_NAME = 1 << 15
"""Bytes of a name: each use of it, such as a relocation, may cost so much."""


def allowance(strings: bytes) -> int:
    """Return how many bytes the names of a table may have in all: they may share their ends, but not too often.

    The first :data:`SHORT` bytes of a name do not count.
    """
    return 4 * len(strings) + 65536


def cost_too_much(strings: bytes, starts: Iterable[int]) -> bool:
    """Whether names, at offsets of a table, overlap so often that they cost much more than it, or are too long."""
    left = allowance(strings)
    for start in starts:
        end = strings.find(b"\0", start)
        size = (len(strings) if end < 0 else end) - start
        left -= max(size - SHORT, 0)
        if left < 0 or size > _MAX_NAME:
            return True
    return False
