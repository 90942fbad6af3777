"""What decoding the code of an image finds, in words that do not depend on the architecture."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cpufeat.auditing.formats.image import Function, Image

    Progress = Callable[[int, int], None]
    """Told from time to time how many bytes of code are decoded, of how many."""

EXAMPLES = 3
"""In how many functions a harmless mnemonic is looked for."""


class Body(NamedTuple):
    """A function with something in it that matters here."""

    function: Function
    """Without a name for code that belongs to no function that the file names."""
    uses: Mapping[str, Sequence[int]]
    """Features above the baseline that it needs."""
    harmless: Mapping[str, Sequence[int]]
    """Mnemonics of ``harmless.tsv``."""
    others: Mapping[str, Sequence[int]]
    """Mnemonics above the baseline that belong to no feature of a compiler (``rdtscp``), or to the system."""
    certain: bool
    """False for code that is taken for code by its looks: no function that the file names, nor reached from one."""


class Undecoded(NamedTuple):
    """A stretch of an executable section that was not taken for code, or could not be decoded as such."""

    address: int
    size: int
    """In bytes."""
    place: str
    """The address as tools name it: in an object section and offset, ``.text+0x40``."""
    reason: str


class Scan(Value):
    """The code of one image."""

    bodies: tuple[Body, ...]
    """By address."""
    undecoded: tuple[Undecoded, ...]
    """By address."""
    instructions: int
    """How many were decoded."""


class Meter:
    """Tells how far a scan is."""

    _EVERY = 1 << 20
    """Bytes between two reports."""

    def __init__(self, image: Image, progress: Progress | None) -> None:
        """Count the bytes of an image's code; ``progress`` None: tell nobody."""
        self._progress = progress
        self._total = sum(len(section.content) for section in image.sections if section.executable)
        self._done = self._told = 0

    def add(self, size: int) -> None:
        """Count bytes as decoded."""
        self._done += size
        if self._progress and self._done - self._told >= self._EVERY:
            self._told = self._done
            self._progress(min(self._done, self._total), self._total)

    def finish(self) -> None:
        """Tell that all is done."""
        if self._progress:
            self._progress(self._total, self._total)
