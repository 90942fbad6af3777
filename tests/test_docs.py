"""Documents that are made from the tables are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_pages_of_features_say_what_the_tables_say() -> None:
    check = subprocess.run([sys.executable, ROOT / "tools" / "feature_docs.py", "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
