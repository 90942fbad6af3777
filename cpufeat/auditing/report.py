"""What an audit says of a binary."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.levels import level_features, levels
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cpufeat.features import FeatureSet


class Use(NamedTuple):
    """An instruction."""

    address: int
    """In an object, one that the audit made up: see :attr:`place`."""
    place: str
    """The address as tools name it: in an object section and offset, ``.text+0x40``."""
    instruction: str
    """As assembly (x86: Intel's syntax)."""


class FunctionNeeds(Value):
    """A function with instructions above the baseline."""

    name: str
    """As the file spells it; of code without a name its address, as tools name it."""
    start: int
    uses: Mapping[str, tuple[Use, ...]]
    """Feature -> the first (at most three) instructions that need it."""
    bare: FeatureSet
    """The features of :attr:`uses` that it may need without a run-time check."""
    guarded: bool | None
    """Whether it is reached only behind a run-time check; None where that cannot be told."""
    why: str
    """What :attr:`guarded` depends on."""
    certain: bool
    """False for code that is taken for code by its looks alone, and may be data."""


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


class Undecoded(NamedTuple):
    """A part of an executable section that was not taken for code, or could not be decoded."""

    address: int
    """In an object, made up by the audit: see :attr:`place`."""
    size: int
    """In bytes."""
    place: str
    """The address as tools print it: in an object section and offset, ``.text+0x40``."""
    reason: str


class Audit(Value):
    """What a binary needs of a CPU, from its own instructions."""

    name: str
    """The file's; of a member of it ``FILE(MEMBER)``."""
    format: str
    """The name of a row of :data:`cpufeat.auditing.formats.loader.FORMATS`: ``ELF``."""
    arch: str
    """Our name; empty for a file with members of several architectures."""
    kind: str
    """``object``, ``executable``, ``library``; empty for a file with members."""
    members: tuple[Audit, ...]
    """Of an archive or universal binary, each on its own; what a member has one by one is empty here."""
    skipped: tuple[str, ...]
    """Members that are no binaries."""
    needs: FeatureSet | None
    """The features that its instructions need, without what those imply; None with several architectures."""
    bare: FeatureSet | None
    """Those of :attr:`needs` that may be needed without a run-time check."""
    functions: tuple[FunctionNeeds, ...]
    """Those with instructions above the baseline, by address."""
    harmless: Mapping[str, tuple[Use, ...]]
    """Mnemonics of ``harmless.tsv`` that occur, and the first places."""
    others: Mapping[str, tuple[Use, ...]]
    """Mnemonics above the baseline that are of no feature of a compiler, or of the system, and the first places."""
    misaligned: tuple[Misaligned, ...]
    note: IsaNote | None
    undecoded: tuple[Undecoded, ...]
    """What was not taken for code, or could not be decoded; an audit without any has seen everything."""
    instructions: int
    """How many were decoded."""

    @property
    def level(self) -> str:
        """The lowest level that has all of :attr:`needs`, empty if none has."""
        return lowest_level(self.needs)

    @property
    def bare_level(self) -> str:
        """The lowest level that has all of :attr:`bare`, empty if none has."""
        return lowest_level(self.bare)

    def beyond(self, features: FeatureSet) -> tuple[FunctionNeeds, ...]:
        """Return the functions that may need more than those features, unchecked; of members as well."""
        own = (one for one in self.functions if one.bare.arch == features.arch and not one.bare <= features)
        return (*own, *(function for member in self.members for function in member.beyond(features)))


def lowest_level(needs: FeatureSet | None) -> str:
    """Return the first level of the table that has all of some features, empty if none has."""
    if needs is None:
        return ""
    return next((level for level in levels(needs.arch) if needs <= level_features(needs.arch, level)), "")


def to_json(audit: Audit) -> dict[str, Any]:
    """Return everything an audit says, in types that JSON has. Addresses are numbers."""
    return {
        "name": audit.name,
        "format": audit.format,
        "arch": audit.arch,
        "kind": audit.kind,
        "level": audit.level,
        "needs": None if audit.needs is None else list(audit.needs),
        "bare_level": audit.bare_level,
        "bare": None if audit.bare is None else list(audit.bare),
        "functions": [_function_to_json(function) for function in audit.functions],
        "harmless": _places_to_json(audit.harmless),
        "others": _places_to_json(audit.others),
        "misaligned": [one._asdict() for one in audit.misaligned],
        "note": None if audit.note is None else vars(audit.note) | {"faults": list(audit.note.faults)},
        "undecoded": [one._asdict() for one in audit.undecoded],
        "instructions": audit.instructions,
        "members": [to_json(member) for member in audit.members],
        "skipped": list(audit.skipped),
    }


def _function_to_json(function: FunctionNeeds) -> dict[str, Any]:
    return {
        "name": function.name,
        "start": function.start,
        "guarded": function.guarded,
        "why": function.why,
        "certain": function.certain,
        "bare": list(function.bare),
        "uses": _places_to_json(function.uses),
    }


def _places_to_json(places: Mapping[str, tuple[Use, ...]]) -> dict[str, Any]:
    return {name: [use._asdict() for use in uses] for name, uses in places.items()}
