"""The one reader of ``data/``: tab-separated text, one fact a line, ``#`` for comments, ``-`` for an empty cell.

No other cell begins with ``-``, and every row is as long as the table's header.
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
        with open(os.path.join(DATA, *name.split("/")), "rb") as file:
            _texts[name] = file.read().decode()
    return _texts[name]


def lines(name: str) -> list[str]:
    """Return the rows of the table ``data/name`` without its header, each with tabs between its cells."""
    every = text(name).replace("\t-", "\t").splitlines()
    return [line for line in every if line and line[0] != "#"][1:]


def rows(name: str) -> list[list[str]]:
    """Return the rows of the table ``data/name`` without its header, as cells."""
    return [line.split("\t") for line in lines(name)]


def row(name: str, *first: str) -> list[str] | None:
    """Return the row of ``data/name`` that begins with the cells ``first``, None if there is none."""
    begins = "\t".join(first) + "\t"
    _, found, after = text(name).partition("\n" + begins)
    line = begins + after.partition("\n")[0]
    return line.replace("\t-", "\t").split("\t") if found else None
