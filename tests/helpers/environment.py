"""The environment of programs that tests start."""

from __future__ import annotations

import os

from helpers.paths import PROJECT

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("CPUFEAT_", "PYTEST_"))},
    "PYTHONPATH": str(PROJECT),
}
"""This process's, without settings of cpufeat and of pytest, and with this cpufeat to import."""
