"""Lay out text for people at the width of their terminal: headings, wrapped text and labelled rows.

A page is a list of blocks, which do not depend on the width; :func:`lay_out` turns them into lines. A line is a list of
(text, style) pairs; :mod:`cpufeat.cli.terminal` defines the styles.
"""

from __future__ import annotations

import textwrap

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Block = Callable[[int], Iterable["Line"]]
    """Takes a width in columns, and returns lines that fit into it."""

Line = list[tuple[str, str]]
"""Pieces of text, each with a style: empty or a key of :data:`cpufeat.cli.terminal.STYLES`."""
NARROWEST, WIDEST = 40, 100
"""The widths in columns between which pages are laid out, whatever the width of the terminal."""
LABEL = 24
"""The column at which a row's text starts, unless the page is too narrow."""
_BESIDE = 60
"""The width from which on labels stand beside their texts, not above them."""


def lay_out(blocks: Iterable[Block], width: int) -> list[Line]:
    """Return the lines of a page that is ``width`` columns wide, at least :data:`NARROWEST`."""
    return [line for block in blocks for line in block(width)]


def fixed(*pieces: tuple[str, str]) -> Block:
    """Return a line that is the same at every width."""
    return lambda _: [list(pieces)]


def section_heading(title: str, note: str = "") -> Block:
    """Return the heading of a section, with a note beside it, or below it if there is no room."""

    def lines(width: int) -> Iterable[Line]:
        if len(title) + 2 + len(note) <= width:
            return [[(title, "head"), (f"  {note}" if note else "", "note")]]
        return [*_wrapped(title, "head", width, 0), *_wrapped(note, "note", width, 2)]

    return lines


def wrapped(text: str, style: str, indent: int = 0) -> Block:
    """Return a text, wrapped to the width; words that are longer are broken."""
    return lambda width: _wrapped(text, style, width, indent)


def folded(*pieces: tuple[str, str], indent: int = 0, hanging: int = 2) -> Block:
    """Return styled pieces of text, wrapped between words; all lines but the first are indented by ``hanging`` more."""
    return lambda width: _folded(pieces, width, indent, hanging)


def cut(text: str, style: str, indent: int = 0) -> Block:
    """Return a text in one line, cut off at the width."""
    return lambda width: [[(" " * indent, ""), (cut_off(text, width - indent), style)]]


def labelled(label: str, *pieces: tuple[str, str], indent: int = 2, label_style: str = "") -> Block:
    """Return a label and styled pieces of text beside it, or below it on a narrow page."""

    def lines(width: int) -> Iterator[Line]:
        column = _column(width, indent)
        return _beside(label, label_style, _folded(pieces, width - column, 0, 0), width, indent)

    return lines


def row(label: str, text: str, style: str = "", evidence: str = "", *, label_style: str = "") -> Block:
    """Return a label, a text beside it, and its evidence: flush right if it fits there, else below."""

    def lines(width: int) -> Iterator[Line]:
        column = _column(width, 2)
        *parts, last = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        room = width - column - len(last) - 2
        fits = 0 < len(evidence) <= room and column == LABEL
        ending: Line = [(last, style), (f"  {evidence.rjust(room)}", "note")] if fits else [(last, style)]
        yield from _beside(label, label_style, [*([(part, style)] for part in parts), ending], width, 2)
        if not fits:
            for part in textwrap.wrap(evidence, width - column, break_on_hyphens=False):
                yield [(" " * column, ""), (part, "note")]

    return lines


def cut_off(text: str, width: int) -> str:
    """Return a text with dots in place of what goes beyond the width."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _column(width: int, indent: int) -> int:
    return LABEL if width >= _BESIDE else indent + 2


def _wrapped(text: str, style: str, width: int, indent: int) -> Iterator[Line]:
    return ([(" " * indent, ""), (part, style)] for part in textwrap.wrap(text, width - indent, break_on_hyphens=False))


def _beside(label: str, label_style: str, parts: Iterable[Line], width: int, indent: int) -> Iterator[Line]:
    """Yield the parts from a column on, with the label in front of the first if it ends before that column."""
    column = _column(width, indent)
    label = " " * indent + label if label else ""
    if len(label) + 2 > column:
        yield from _wrapped(label.strip(), label_style, width, indent)
        label = ""
    for part in parts:
        yield [(label.ljust(column), label_style), *part]
        label = ""


def _folded(pieces: Iterable[tuple[str, str]], width: int, indent: int, hanging: int) -> Iterator[Line]:
    line: Line = []
    used = start = indent
    for word in _words(pieces):
        length = sum(len(text) for text, _ in word)
        if line and used + 1 + length > width:
            yield [(" " * start, ""), *line]
            line, start = [], indent + hanging
            used = start
        used += length + bool(line)
        line = [*line, (" ", ""), *word] if line else word
    yield [(" " * start, ""), *line]


def _words(pieces: Iterable[tuple[str, str]]) -> list[Line]:
    """Return the words of a text, each of one piece, or of several that no space separates."""
    words: list[Line] = [[]]
    for text, style in pieces:
        first, *others = text.split(" ")
        words[-1].append((first, style))
        words += [[(other, style)] for other in others]
    return [word for word in words if any(text for text, _ in word)]
