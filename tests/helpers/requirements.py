"""Tools that a test needs and that pip cannot install."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import NoReturn


def unavailable(requirement: str, how_to_get_it: str) -> NoReturn:
    """Skip a test for want of a tool; in CI, fail it."""
    stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    stop(f"needs {requirement}: {how_to_get_it}")
