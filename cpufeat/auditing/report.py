"""What an audit says of a binary."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.features import FeatureSet
from cpufeat.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.auditing.scan import Undecoded


class FunctionNeeds(Value):
    """A function with instructions above the baseline."""

    name: str
    """As the file spells it; of a place without a name ``.text+0x40``."""
    start: int
    uses: Mapping[str, tuple[int, ...]]
    """Feature -> the addresses of the first (at most three) instructions that need it."""
    guarded: bool | None = None
    """Whether it is reached only behind a run-time check; None where that cannot be told."""
    why: str = ""
    """What :attr:`guarded` rests on."""


class Misaligned(NamedTuple):
    """An instruction whose memory operand must be aligned and is not, or need not be (in an object)."""

    address: int
    """Of the instruction."""
    function: str
    instruction: str
    operand: int
    """The address of the memory."""
    symbol: str
    """What is there, as far as the file says: a symbol, or section and offset."""
    needs: int
    """The alignment in bytes that the instruction needs."""
    has: int
    """The alignment that the memory is known to have."""


class IsaNote(Value):
    """The levels that the file's ``.note.gnu.property`` states (``x86-64-v3``), empty where it states none."""

    needed: str
    used: str
    faults: tuple[str, ...] = ()
    """What is wrong with it, in words."""


class Audit(Value):
    """What a binary needs of a CPU, from its own instructions."""

    name: str
    format: str
    """``ELF``, ``Mach-O``, ``COFF``, ``PE``, ``archive`` or ``universal``."""
    arch: str
    """Empty for an archive, or a universal binary, whose members are of several."""
    members: tuple[Audit, ...]
    """Of an archive or universal binary; everything else here is then of all of them together."""
    needs: FeatureSet | None
    """The features that its instructions need, each by itself (without what it implies); None with several architectures."""
    bare: FeatureSet | None
    """Those of :attr:`needs` that are used at least once without a run-time check that could be found."""
    level: str
    """The lowest level that has all that it needs, empty if none has."""
    bare_level: str
    """The lowest level that has all of :attr:`bare`."""
    functions: tuple[FunctionNeeds, ...]
    """Those with instructions above the baseline, by address."""
    harmless: Mapping[str, tuple[int, ...]]
    """Rows of ``harmless.tsv`` that occur, and where first."""
    misaligned: tuple[Misaligned, ...]
    note: IsaNote | None
    undecoded: tuple[Undecoded, ...]
    instructions: int
    """How many were decoded."""
