"""What terminals, pagers, mail and people do to a text before it is a file: ways that add nothing to it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    Lines = list[str]

WIDTHS = range(44, 200)


def at_column(lines: Lines, width: int, indent: str = "", *, strips: bool = False) -> Lines:
    """Lines as a terminal breaks them at a column, copied with or without the spaces at their ends."""
    broken = []
    for line in lines:
        broken.append(line[:width])
        step = width - len(indent)
        broken += [indent + line[at : at + step] for at in range(width, len(line), step)]
    return [line.rstrip() for line in broken] if strips else broken


def at_words(lines: Lines, width: int, indent: str = "") -> Lines:
    """Lines as a mail program breaks them."""
    wrapped = (textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False) for line in lines)
    return [line for parts in wrapped for line in parts or [""]]


def marked(lines: Lines, width: int, mark: str) -> Lines:
    """Lines as a pager cuts them off, with a mark."""
    return [line[:width] + mark if len(line) > width else line for line in lines]


def without_a_word(lines: Lines, chosen: random.Random) -> Lines:
    """Lines, one of them a word shorter."""
    at = chosen.randrange(len(lines))
    words = lines[at].split(" ")
    del words[chosen.randrange(len(words))]
    return [*lines[:at], " ".join(words), *lines[at + 1 :]]


def without_a_line(lines: Lines, chosen: random.Random) -> Lines:
    """Lines, one less."""
    at = chosen.randrange(len(lines))
    return lines[:at] + lines[at + 1 :]


def _indent(chosen: random.Random) -> str:
    return " " * chosen.choice((0, 0, 4, 17))


WAYS = (
    lambda lines, chosen: at_column(lines, chosen.choice(WIDTHS), _indent(chosen), strips=chosen.random() < 0.5),
    lambda lines, chosen: at_words(lines, chosen.choice(WIDTHS), _indent(chosen)),
    lambda lines, chosen: [each for line in lines for each in (line, "")],
    lambda lines, chosen: [f"> {line}" for line in lines],
    lambda lines, chosen: [f"\x1b[1m{line}\x1b[0m" for line in lines],
    lambda lines, chosen: [f"node7: {line}" for line in lines],
    lambda lines, chosen: marked(lines, chosen.choice(WIDTHS), chosen.choice(("...", "\u2026", ">"))),
    without_a_line,
    without_a_word,
    lambda lines, chosen: [line for line in lines if line.strip()],
)


def cut_at_column(lines: Lines, chosen: random.Random) -> Lines:
    """Lines as ``cut -c`` leaves them, without a mark."""
    return marked(lines, chosen.choice(WIDTHS), "")


def pasted(text: str, chosen: random.Random, *more_ways: object) -> str:
    """A text that went one to three of these ways, and then perhaps lost its end."""
    lines = text.expandtabs().splitlines() or [""]
    for _ in range(chosen.choice((1, 1, 2, 3))):
        way = chosen.choice((*WAYS, *more_ways))
        lines = way(lines, chosen) or [""]  # type: ignore[operator]
    text = "\n".join([*lines, ""])
    return text[: chosen.randrange(len(text))] if chosen.random() < 0.1 else text
