"""Parse conditions on bits, the column ``bit`` of ``features.tsv``: ``hwcap[7]&hwcap2[31]|facility[129]``.

``&`` (and) binds before ``|`` (or). A term is a bit of a word (``7.0:EBX[16]``), several bits as a number
(``24.0:EBX[0-7]>=1``), a number (``architecture>=7``), or the name of a feature in a row above (``zba``).
"""

from __future__ import annotations


class Term:
    """One term, never changed. It is no :class:`Value`, which takes three times as long: every start parses terms."""

    __slots__ = ("least", "low", "text", "width", "word")
    text: str
    """As the table writes it."""
    word: str
    """The word before the bits: ``7.0:EBX``, ``hwcap2``, ``architecture``, ``zba``."""
    low: int
    """The lowest of its bits."""
    width: int
    """The number of its bits."""
    least: int
    """The number that they must at least be."""

    def __init__(self, text: str) -> None:
        """Parse a term."""
        self.text = text
        place, _, least = text.partition(">=")
        self.word, _, bits = place.partition("[")
        low, _, high = bits[:-1].partition("-")
        self.low = int(low or 0)
        self.width = int(high) - self.low + 1 if high else 1
        self.least = int(least or 1)

    def __repr__(self) -> str:
        return f"Term({self.text!r})"


class Condition:
    """A parsed condition, never changed: it holds if all terms of one alternative do. One without any never holds."""

    __slots__ = ("alternatives", "text")
    text: str
    """As the table writes it, empty if nothing tells."""
    alternatives: tuple[tuple[Term, ...], ...]

    def __init__(self, text: str) -> None:
        """Parse a condition."""
        self.text = text
        self.alternatives = ()  # no comprehension: this runs for every feature at each start
        for terms in text.split("|") if text else ():
            self.alternatives += (tuple(map(Term, terms.split("&"))),)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of all alternatives."""
        return tuple(term for terms in self.alternatives for term in terms)

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


def written(terms: tuple[Term, ...]) -> str:
    """Return an alternative as the table writes it."""
    return "&".join([term.text for term in terms])
