"""Machines that others recorded, in ``../shared/corpora``; tests of them are skipped where that folder is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.paths import CORPORA, CORPUS

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = "needs ../shared/corpora, recorded machines that are not part of the project"
needs_corpora = pytest.mark.skipif(not CORPUS.is_dir(), reason=NEEDED)


def corpora(part: str) -> Path:
    """Return the folder or file of this path in it. Skips the test where it is missing."""
    if not (CORPORA / part).exists():
        pytest.skip(f"{NEEDED}: {part} is missing")
    return CORPORA / part
