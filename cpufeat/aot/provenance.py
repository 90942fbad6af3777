"""Remember which objects this process compiled itself, or found in its cache: their notes need no proof.

Whoever can change them has this process's memory, or the user's private folder.
"""

from __future__ import annotations

import hashlib

_MAX_OBJECTS = 1 << 14
"""Objects that are remembered, the last ones."""
_own: dict[bytes, object] = {}
"""SHA-256 of an object -> the variants in it."""


def remember(code: bytes, variants: object) -> None:
    """Remember an object of this process, and the variants in it."""
    _own[hashlib.sha256(code).digest()] = variants
    if len(_own) > _MAX_OBJECTS:
        del _own[next(iter(_own))]


def is_own(code: bytes, variants: object) -> bool:
    """Whether an object, with these variants, is one of this process."""
    return _own.get(hashlib.sha256(code).digest()) == variants
