"""Documents that are made from the tables are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_pages_of_features_say_what_the_tables_say() -> None:
    command = [sys.executable, ROOT / "tools" / "feature_docs.py", "--check"]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
