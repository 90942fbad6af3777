"""Translate lscpu's labels back into English; ``data/lscpu_labels.tsv`` has what util-linux translates them into."""

from __future__ import annotations

import re

from cpufeat import tables

_COLON = re.compile("[:\uff1a\ufe30]")
_known: dict[str, str] = {}


def split(line: str) -> tuple[str, str]:
    """Return what stands before and after the first colon, also a Chinese one; the whole line where there is none."""
    before, *after = _COLON.split(line, maxsplit=1)
    return before.strip(), after[0] if after else ""


def english(label: str) -> str:
    """Return the English label for one in any language; what is no translation as it is."""
    if not _known:
        _known.update({translation: meaning for translation, meaning, *_ in tables.rows("lscpu_labels.tsv")})
    return _known.get(label, label)


def translated(line: str) -> str:
    """Return a line with its label, if that is one in another language, in English."""
    label, value = split(line)
    meaning = english(label)
    return line if meaning == label else f"{meaning}:{value}"
