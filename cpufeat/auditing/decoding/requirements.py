"""Define what an opcode requires, and collect the addresses of the instructions that require it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

from cpufeat.auditing.formats.image import Function
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Requirement(NamedTuple):
    """The requirements of an opcode beyond the baseline of its architecture."""

    features: frozenset[str] = frozenset()
    """The features that it needs and that user code can use: those of class ``isa``."""
    harmless: str = ""
    """Its mnemonic, where CPUs without the feature run it as something harmless."""
    other: str = ""
    """Its mnemonic, where it needs something that is no feature of a compiler, or is reserved for the system."""


NO_INSTRUCTION = Requirement()
"""The requirement of an opcode that is no instruction."""


class Uses:
    """The addresses of the instructions with a requirement, by feature or mnemonic."""

    def __init__(self) -> None:
        """Start without any."""
        self.features: dict[str, array[int]] = {}
        self.harmless: dict[str, array[int]] = {}
        self.others: dict[str, array[int]] = {}
        self._length = 0

    def __len__(self) -> int:
        """Return the number of instructions that were added."""
        return self._length

    def add(self, requirement: Requirement, address: int) -> None:
        """Add an instruction with that requirement."""
        self._length += 1
        for feature in requirement.features:
            self.features.setdefault(feature, array("Q")).append(address)
        if requirement.harmless:
            self.harmless.setdefault(requirement.harmless, array("Q")).append(address)
        if requirement.other:
            self.others.setdefault(requirement.other, array("Q")).append(address)

    def by_function(self, function: Function, starts: Iterable[int]) -> Iterator[tuple[Function, Uses]]:
        """Yield the uses in a function; in one without a name, those in each part that begins at one of ``starts``."""
        cuts = [function.start] if function.name else sorted({function.start, *starts})
        ends = [*cuts[1:], function.end]
        parts: dict[int, Uses] = {}
        for kind in ("features", "harmless", "others"):
            for name, addresses in getattr(self, kind).items():
                for address in addresses:
                    index = bisect_right(cuts, address) - 1
                    part = getattr(parts.setdefault(index, Uses()), kind)
                    part.setdefault(name, array("Q")).append(address)
        for index in sorted(parts):
            yield Function(cuts[index], ends[index], function.name), parts[index]
