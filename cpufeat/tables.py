"""The one reader of ``data/``: tab-separated text, one fact a line, ``#`` for comments, ``-`` for an empty cell.

In a checkout and an editable install the folder lies beside the package; in a wheel, inside it.
"""

from __future__ import annotations

import os

_HERE = os.path.dirname(os.path.abspath(__file__))
_INSTALLED = os.path.join(_HERE, "data")
DATA = _INSTALLED if os.path.isdir(_INSTALLED) else os.path.join(os.path.dirname(_HERE), "data")


def text(name: str) -> str:
    """Return the text of ``data/name`` (``"x86/features.tsv"``). Raises FileNotFoundError."""
    with open(os.path.join(DATA, *name.split("/")), encoding="utf-8") as file:
        return file.read()


def rows(name: str) -> list[list[str]]:
    """Return the rows of the table ``data/name`` without its header, every row as long as the header."""
    lines = [line.split("\t") for line in text(name).splitlines() if line and line[0] != "#"]
    width = len(lines[0])
    return [[("" if cell == "-" else cell) for cell in line] + [""] * (width - len(line)) for line in lines[1:]]
