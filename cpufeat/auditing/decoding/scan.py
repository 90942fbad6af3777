"""Scan an image's code: define the result, and do the part of the work that is the same for every architecture.

Most functions use nothing above the baseline. So a scanner first collects the set of opcodes of a region of code, and
looks for addresses only in a region with an opcode that is relevant: one with a requirement, or no instruction.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from cpufeat.auditing.report import Undecoded
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cpufeat.auditing.decoding.requirements import Requirement, Uses
    from cpufeat.auditing.formats.image import Function, Image

    Progress = Callable[[int, int], None]
    """Is called from time to time with the number of bytes of code that are decoded, and with their total."""

_HARMLESS_EXAMPLES = 3
"""The number of functions in which a harmless mnemonic is located."""


class FunctionUses(NamedTuple):
    """A function with instructions that have a requirement, and their addresses."""

    function: Function
    """Without a name for code that belongs to no function that the file names."""
    uses: Mapping[str, Sequence[int]]
    """The addresses of uses, by feature above the baseline."""
    harmless: Mapping[str, Sequence[int]]
    """The addresses of uses, by mnemonic of ``harmless.tsv``."""
    others: Mapping[str, Sequence[int]]
    """The addresses of uses, by mnemonic above the baseline of no compiler's feature (``rdtscp``) or of the system."""
    certain: bool
    """False for code that only looks like code: it is in no function that the file names, nor reached from one."""


class UnknownCode(NamedTuple):
    """Bytes that are reached as code, and are no instruction that the decoder knows."""

    address: int
    size: int
    """In bytes; 0 if where the instruction ends is not known."""
    function: Function
    """Without a name for code that belongs to no function that the file names."""
    least: str
    """The least feature that they need, empty if they do not tell."""
    kind: str
    """The name of the prefix that tells it: ``EVEX``."""
    certain: bool
    """False for bytes that are reached only from what looks like a call in bytes that may be data."""


class Scan(Value):
    """The code of one image."""

    functions: tuple[FunctionUses, ...]
    """By address."""
    undecoded: tuple[Undecoded, ...]
    """By address."""
    unknown: tuple[UnknownCode, ...]
    """By address."""
    instructions: int
    """The number of decoded instructions."""


class Scanner:
    """Base of the scanners of each architecture. An opcode is any number that identifies a kind of instruction."""

    def __init__(self, image: Image, progress: Progress | None) -> None:
        """Prepare to scan an image; ``progress`` None: report to nobody."""
        self.image: Image = image
        self.meter: Meter = Meter(image, progress)
        self.requirements: dict[int, Requirement] = {}
        """The requirement of each opcode that occurred and has one."""
        self.irrelevant: set[int] = set()
        """Opcodes without a requirement, and those of harmless mnemonics that were located often enough."""
        self.functions: list[FunctionUses] = []
        self.undecoded: list[Undecoded] = []
        self.unknown: list[UnknownCode] = []
        self.instructions = 0
        self._harmless_functions: Counter[str] = Counter()
        """The number of functions in which each harmless mnemonic occurs: most functions may begin with ENDBR64."""

    def look_up(self, opcode: int) -> Requirement | None:
        """Return the requirement of an opcode, None for one that any CPU runs."""
        raise NotImplementedError

    def requirement(self, opcode: int) -> Requirement | None:
        """Return the requirement of an opcode, None for one that any CPU runs; looked up once."""
        if opcode not in self.requirements and opcode not in self.irrelevant:
            requirement = self.look_up(opcode)
            if requirement is None:
                self.irrelevant.add(opcode)
            else:
                self.requirements[opcode] = requirement
        return self.requirements.get(opcode)

    def any_relevant(self, opcodes: set[int]) -> bool:
        """Whether one of the opcodes of a region is relevant."""
        candidates = opcodes - self.irrelevant
        for opcode in candidates - self.requirements.keys():
            self.requirement(opcode)
        return not candidates <= self.irrelevant

    def add_uses(self, function: Function, uses: Uses, starts: Sequence[int], *, certain: bool) -> None:
        """Add the uses in a function, or in the functions that begin at ``starts`` in code without a name.

        A harmless mnemonic becomes irrelevant as soon as it was located often enough.
        """
        for part, part_uses in uses.by_function(function, starts):
            self.functions.append(FunctionUses(part, part_uses.features, part_uses.harmless, part_uses.others, certain))
        self._harmless_functions.update(list(uses.harmless))
        frequent = {name for name, count in self._harmless_functions.items() if count >= _HARMLESS_EXAMPLES}
        self.irrelevant.update(
            opcode for opcode, requirement in self.requirements.items() if requirement.harmless in frequent
        )

    def add_undecoded(self, start: int, end: int, reason: str) -> None:
        """Add a range that was not decoded."""
        self.undecoded.append(Undecoded(start, end - start, self.image.place_of(start), reason))

    def result(self) -> Scan:
        """Return the whole scan, after the last region."""
        self.meter.finish()
        functions = sorted(self.functions, key=lambda uses: uses.function.start)
        unknown = sorted({code.address: code for code in reversed(self.unknown)}.values())
        return Scan(tuple(functions), tuple(sorted(self.undecoded)), tuple(unknown), self.instructions)


class Meter:
    """Reports the progress of a scan."""

    _INTERVAL = 1 << 20
    """Bytes between two reports."""

    def __init__(self, image: Image, progress: Progress | None) -> None:
        """Count the bytes of an image's code; ``progress`` None: report to nobody."""
        self._progress = progress
        self._total = sum(len(section.content) for section in image.sections if section.executable)
        self._scanned = self._reported = 0

    def add(self, size: int) -> None:
        """Count bytes as decoded."""
        self._scanned += size
        if self._progress and self._scanned - self._reported >= self._INTERVAL:
            self._reported = self._scanned
            self._progress(min(self._scanned, self._total), self._total)

    def finish(self) -> None:
        """Report that everything is decoded."""
        if self._progress:
            self._progress(self._total, self._total)
