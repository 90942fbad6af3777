"""What opcodes mean, and where those were found that mean something."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple

from cpufeat.auditing.formats.image import Function
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Meaning(NamedTuple):
    """What an opcode says of the CPU that runs it."""

    features: frozenset[str] = frozenset()
    """Those above the baseline of its architecture that it needs, and that user code can need: of class ``isa``."""
    harmless: str = ""
    """Its mnemonic, where CPUs without the feature run it as something harmless."""
    other: str = ""
    """Its mnemonic, where it needs something that compilers cannot be told, or that is the operating system's."""


class Places:
    """Addresses by feature or mnemonic."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.uses: dict[str, array[int]] = {}
        self.harmless: dict[str, array[int]] = {}
        self.others: dict[str, array[int]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, meaning: Meaning, address: int) -> None:
        """Add an instruction of that meaning."""
        self._length += 1
        for feature in meaning.features:
            self.uses.setdefault(feature, array("Q")).append(address)
        if meaning.harmless:
            self.harmless.setdefault(meaning.harmless, array("Q")).append(address)
        if meaning.other:
            self.others.setdefault(meaning.other, array("Q")).append(address)

    def by_function(self, whole: Function, starts: Iterable[int]) -> Iterator[tuple[Function, Places]]:
        """Yield what was found, divided at those addresses if the whole has no name."""
        cuts = [whole.start] if whole.name else sorted({whole.start, *starts})
        ends = [*cuts[1:], whole.end]
        parts: dict[int, Places] = {}
        for kind in ("uses", "harmless", "others"):
            for name, addresses in getattr(self, kind).items():
                for address in addresses:
                    at = bisect_right(cuts, address) - 1
                    part = getattr(parts.setdefault(at, Places()), kind)
                    part.setdefault(name, array("Q")).append(address)
        for at in sorted(parts):
            yield Function(cuts[at], ends[at], whole.name), parts[at]
