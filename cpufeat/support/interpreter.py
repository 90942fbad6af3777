"""Find a Python interpreter that can run code of this package in a process of its own."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_INTERPRETER = re.compile(r"(python|pypy|graalpy)w?[\d.]*[a-z]*(\.exe)?", re.IGNORECASE)


def interpreter() -> str:
    """Return the path of this Python's interpreter; empty where Python is frozen or embedded, and none is installed.

    An application in which Python is embedded or frozen is never taken for one: it would do its work once more.
    """
    own = "" if hasattr(sys, "frozen") else sys.executable or ""
    candidates = (path for path in (own, _installed()) if _INTERPRETER.fullmatch(Path(path).name))
    return next((path for path in candidates if os.access(path, os.X_OK)), "")


def _installed() -> str:
    """Return the path that the interpreter of this Python's installation has."""
    prefix = Path(sys.base_exec_prefix)
    if sys.platform == "win32":
        return str(prefix / "python.exe")
    name = "python" if sys.implementation.name == "cpython" else sys.implementation.name
    version = ".".join(map(str, sys.version_info[:2]))
    return str(prefix / "bin" / f"{name}{version}{sys.abiflags}")
