"""Define the result of an audit, and its JSON form."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.errors import TargetError, expect
from cpufeat.features import FeatureSet
from cpufeat.levels import level_features, levels
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


AT_LOAD = "at load"
"""It runs when the file is loaded or started, without a check: it is a constructor, a resolver, the entry point or
``PyInit_``, or a constructor or resolver itself refers to it."""
UNCHECKED = "without a check"
"""It is reached from outside without a check, but as far as is known not at load."""
UNREFERRED = "not seen"
"""Nothing is seen to refer to it, or to what leads to it, so that neither a call nor a check is known."""
CHECKED = "behind checks"
"""It is reached only behind run-time checks."""
UNUSED = "unused"
"""The file shows that nothing refers to it."""
UNKNOWN = "unknown"
"""The code of the architecture is not followed."""
_GUARDED = {AT_LOAD: False, UNCHECKED: False, CHECKED: True}


class Use(NamedTuple):
    """An instruction that uses a feature."""

    address: int
    """In an object, made up by the audit: see :attr:`place`."""
    place: str
    """The address as tools print it: in an object section and offset, ``.text+0x40``."""
    instruction: str
    """As assembly, x86 in Intel's syntax."""


class FunctionNeeds(Value):
    """The needs of a function with instructions above the baseline."""

    name: str
    """Its name in the file; for code without a name, its address as tools print it."""
    start: int
    """The address of its first instruction; in an object, made up by the audit."""
    uses: Mapping[str, tuple[Use, ...]]
    """Feature -> the first (at most three) instructions that need it."""
    bare: FeatureSet
    """The features of :attr:`uses` that it may use without a run-time check."""
    reached: str
    """:data:`AT_LOAD`, :data:`UNCHECKED`, :data:`UNREFERRED`, :data:`CHECKED`, :data:`UNUSED` or :data:`UNKNOWN`."""
    why: str
    """The reason for :attr:`reached`."""
    certain: bool
    """False for code that only looks like code, and may be data."""

    @property
    def guarded(self) -> bool | None:
        """Whether it is reached only behind a run-time check; None if that is unknown."""
        return _GUARDED.get(self.reached)


class Misaligned(NamedTuple):
    """An instruction whose memory operand must be aligned, but is not or, in an object, may not be after linking."""

    address: int
    """The address of the instruction."""
    function: str
    """The name of the function that it is in; empty in code without a name."""
    instruction: str
    """As assembly, in Intel's syntax."""
    operand: int
    """The address of the memory."""
    symbol: str
    """The symbol at :attr:`operand`, or its section and offset."""
    needs: int
    """The alignment in bytes that the instruction needs."""
    has: int
    """The alignment in bytes that the memory is known to have."""


class IsaNote(Value):
    """The levels that an x86 ELF file states in ``.note.gnu.property`` (x86-64 psABI, Linux extensions)."""

    needed: str
    """The level without which glibc's loader refuses the file (``x86-64-v3``), empty if it states none."""
    used: str
    """The level that the file may use, empty if it states none."""
    faults: tuple[str, ...] = ()
    """A sentence for each fault of the note."""


class Undecoded(NamedTuple):
    """A part of an executable section that was not taken for code, or could not be decoded."""

    address: int
    """In an object, made up by the audit: see :attr:`place`."""
    size: int
    """In bytes."""
    place: str
    """The address as tools print it: in an object section and offset, ``.text+0x40``."""
    reason: str
    """The reason why, in words."""


class Unknown(NamedTuple):
    """Bytes that are reached as code, and are no instruction that the decoder knows."""

    address: int
    """In an object, made up by the audit: see :attr:`place`."""
    place: str
    """The address as tools print it: in an object section and offset, ``.text+0x40``."""
    bytes: str
    """Hexadecimal: the instruction, or as many bytes as an instruction can have if its length is not known."""
    function: str
    """The name of the function that they are in; for code without a name, its address as tools print it."""
    least: str
    """The least feature that they need, as their prefix tells (EVEX: ``avx512f``); empty if they do not tell."""
    reason: str
    """What is known of them, in words."""
    certain: bool
    """Whether they surely are code; False if only what looks like a call leads to them."""


class Audit(Value):
    """The CPU features that a binary needs, by its own instructions."""

    name: str
    """The name of the file, or ``FILE(MEMBER)`` for a member of it."""
    format: str
    """The name of a row of :data:`cpufeat.auditing.formats.loader.FORMATS`: ``ELF``."""
    arch: str
    """Its name in ``architectures.tsv``; empty for a file with members of several architectures."""
    kind: str
    """``object``, ``executable``, ``library``; empty for a file with members."""
    members: tuple[Audit, ...]
    """The audit of each member of a container; the container itself has no functions and no other lists."""
    skipped: tuple[str, ...]
    """The names of members that are no binaries."""
    needs: FeatureSet | None
    """The features that its instructions need, without those that they imply; None with several architectures."""
    bare: FeatureSet | None
    """The features of :attr:`needs` that may be used without a run-time check, in functions to which nothing is seen to
    refer as well."""
    functions: tuple[FunctionNeeds, ...]
    """The functions with instructions above the baseline, by address."""
    harmless: Mapping[str, tuple[Use, ...]]
    """Mnemonics of ``harmless.tsv`` -> their first (at most three) uses."""
    others: Mapping[str, tuple[Use, ...]]
    """Mnemonics that belong to no feature of a compiler, or to the system -> their first (at most three) uses."""
    misaligned: tuple[Misaligned, ...]
    """The instructions of x86 code whose memory operand is misaligned, or in an object may be, by address."""
    note: IsaNote | None
    """The ISA levels that an x86-64 ELF file states; None if it states none."""
    undecoded: tuple[Undecoded, ...]
    """The parts of the code that were not decoded; if there are none, the audit has seen everything."""
    instructions: int
    """The number of decoded instructions."""
    unknown: tuple[Unknown, ...] = ()
    """The code that is reached, but that the decoder does not know, by address."""

    @property
    def level(self) -> str:
        """The lowest level that has all of :attr:`needs`, empty if there is none."""
        return lowest_level(self.needs)

    @property
    def bare_level(self) -> str:
        """The lowest level that has all of :attr:`bare`, empty if there is none."""
        return lowest_level(self.bare)

    @property
    def at_load(self) -> tuple[FunctionNeeds, ...]:
        """The functions that use features without a check whenever the file is loaded or started."""
        return tuple(function for function in self.functions if function.reached == AT_LOAD)

    def beyond(self, features: FeatureSet) -> tuple[FunctionNeeds, ...]:
        """Return the functions, in members too, that may use more than those features without a run-time check.

        Members of another architecture are left out. Raises TargetError if all code is of another architecture.
        """
        expect("features", features, FeatureSet, "a FeatureSet")
        parts = tuple(self._parts())
        archs = dict.fromkeys(part.arch for part in parts)
        if archs and features.arch not in archs:
            raise TargetError(f"{self.name}: code of {' and '.join(archs)}, compared with features of {features.arch}")
        functions = (function for part in parts if part.arch == features.arch for function in part.functions)
        return tuple(function for function in functions if not function.bare <= features)

    def _parts(self) -> Iterator[Audit]:
        """Yield the file, or its members and theirs: all that is of one architecture and has code of its own."""
        if self.members:
            for member in self.members:
                yield from member._parts()
        elif self.arch:
            yield self

    def reached_unknown(self, arch: str) -> tuple[Unknown, ...]:
        """Return the code of an architecture, in members too, that surely is reached but is not known.

        Whatever it needs, nobody can tell whether the file runs.
        """
        expect("arch", arch, str, "the name of an architecture, such as x86_64")
        own = (code for code in self.unknown if code.certain and self.arch == arch)
        return (*own, *(code for member in self.members for code in member.reached_unknown(arch)))


def lowest_level(needs: FeatureSet | None) -> str:
    """Return the lowest level that has all of those features, empty if there is none."""
    if needs is None:
        return ""
    return next((level for level in levels(needs.arch) if needs <= level_features(needs.arch, level)), "")


def to_json(audit: Audit) -> dict[str, Any]:
    """Return an audit as dicts, lists, strings and numbers for JSON. Addresses are numbers."""
    return {
        "name": audit.name,
        "format": audit.format,
        "arch": audit.arch,
        "kind": audit.kind,
        "level": audit.level,
        "needs": None if audit.needs is None else list(audit.needs),
        "bare_level": audit.bare_level,
        "bare": None if audit.bare is None else list(audit.bare),
        "at_load": [
            {"name": function.name, "start": function.start, "bare": list(function.bare)} for function in audit.at_load
        ],
        "functions": [_function_to_json(function) for function in audit.functions],
        "harmless": _uses_to_json(audit.harmless),
        "others": _uses_to_json(audit.others),
        "misaligned": [misaligned._asdict() for misaligned in audit.misaligned],
        "note": None if audit.note is None else vars(audit.note) | {"faults": list(audit.note.faults)},
        "undecoded": [undecoded._asdict() for undecoded in audit.undecoded],
        "unknown": [unknown._asdict() for unknown in audit.unknown],
        "instructions": audit.instructions,
        "members": [to_json(member) for member in audit.members],
        "skipped": list(audit.skipped),
    }


def _function_to_json(function: FunctionNeeds) -> dict[str, Any]:
    return {
        "name": function.name,
        "start": function.start,
        "guarded": function.guarded,
        "reached": function.reached,
        "why": function.why,
        "certain": function.certain,
        "bare": list(function.bare),
        "uses": _uses_to_json(function.uses),
    }


def _uses_to_json(by_name: Mapping[str, tuple[Use, ...]]) -> dict[str, Any]:
    return {name: [use._asdict() for use in uses] for name, uses in by_name.items()}
