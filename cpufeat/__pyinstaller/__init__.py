"""What PyInstaller reads when it freezes an application that imports cpufeat (entry point ``pyinstaller40``).

The hook adds the tables, and the modules that are imported by name; the run-time hook lets the frozen application serve
as the worker process of ``cpufeat.aot``.
"""

from __future__ import annotations

from pathlib import Path


def hook_folders() -> list[str]:
    """Return the folder that holds the hook."""
    return [str(Path(__file__).parent)]
