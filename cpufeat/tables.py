"""The one reader of ``data/``: tab-separated text, one fact a line, ``#`` for comments, ``-`` for an empty cell.

In a checkout and an editable install the folder lies beside the package; in a wheel, inside it.
"""

from __future__ import annotations

import os

_HERE = os.path.dirname(os.path.abspath(__file__))
_INSTALLED = os.path.join(_HERE, "data")
DATA = _INSTALLED if os.path.isdir(_INSTALLED) else os.path.join(os.path.dirname(_HERE), "data")


_texts: dict[str, str] = {}


def text(name: str) -> str:
    """Return the text of ``data/name`` (``"x86/features.tsv"``), read once. Raises FileNotFoundError."""
    if name not in _texts:
        with open(os.path.join(DATA, *name.split("/")), encoding="utf-8") as file:
            _texts[name] = file.read()
    return _texts[name]


def rows(name: str) -> list[list[str]]:
    """Return the rows of the table ``data/name`` without its header, every row as long as the header."""
    lines = [line for line in text(name).splitlines() if line and line[0] != "#"]
    width = lines[0].count("\t") + 1
    return [_cells(line, width) for line in lines[1:]]


def row(name: str, *first: str) -> list[str] | None:
    """Return the row of ``data/name`` that begins with the cells ``first``, None if there is none."""
    begins = "\t".join(first) + "\t"
    _, found, after = text(name).partition("\n" + begins)
    return _cells(begins + after.split("\n", 1)[0]) if found else None


def _cells(line: str, width: int = 0) -> list[str]:
    cells = line.split("\t")
    if "-" in cells:
        cells = ["" if cell == "-" else cell for cell in cells]
    return cells if len(cells) >= width else cells + [""] * (width - len(cells))
