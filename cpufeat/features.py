"""Look up features, and define sets of features: a row of ``data/<family>/features.tsv`` adds a feature.

The header of that file says what each column holds; ``CONTRIBUTING.md`` says what else a new feature takes.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.errors import TargetError, UnknownNameError, expect, one_of
from cpufeat.support.conditions import Condition
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.tables import architecture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HARDWARE = ("isa", "privileged")
"""The kinds of feature that are facts about hardware."""
KINDS = (*HARDWARE, "tuning", "codegen", "other")
"""All kinds of feature."""
NO_SPELLING = "!"
"""The mark in a table for a system that has no name for the feature; beside a name, for its older versions."""


class Feature(Value):
    """One row: a capability of one architecture, where it is reported, and what it implies."""

    name: str
    """LLVM's newest name, lower case, with ``.`` and ``-`` written ``_``."""
    kind: str
    """One of :data:`KINDS`; only ``isa`` decides what runs where."""
    bit: str
    """The bit in which hardware reports it (``7.0:EBX[16]``: CPUID leaf 7, subleaf 0), empty if none does."""
    state: str
    """The operating-system state that it needs, a row of ``states.tsv``, or empty."""
    implies_text: str
    """:attr:`implies` as the table writes it."""
    spellings_text: str
    """:attr:`spellings` as the table writes them."""

    @property
    def implies(self) -> tuple[str, ...]:
        """The features that it directly implies."""
        return tuple(self.implies_text.split())

    @property
    def condition(self) -> Condition:
        """:attr:`bit`, parsed."""
        if self.bit not in _conditions:
            _conditions[self.bit] = Condition(self.bit)
        return _conditions[self.bit]

    @property
    def spellings(self) -> dict[str, tuple[str, ...]]:
        """Its names in other systems, where they differ from ``name`` by more than case and punctuation."""
        pairs = (item.split("=", 1) for item in self.spellings_text.split())
        return {system: tuple(names.split(",")) for system, names in pairs}

    def flags(self, system: str) -> tuple[str, ...]:
        """Return the feature's names in a system or in its newer versions, empty if it has none in any.

        ``system`` is a word of the column ``spellings``, such as ``kernel``, ``gcc``, ``archspec`` or ``rust``.
        """
        expect("system", system, str, "the name of a system, a str")
        return tuple(flag for flag in self.spellings.get(system, (self.name,)) if flag != NO_SPELLING)

    @property
    def kernel_flags(self) -> tuple[str, ...]:
        """The flags of which every Linux shows one in ``/proc/cpuinfo``; empty if some Linux shows none."""
        return () if NO_SPELLING in self.spellings.get("kernel", ()) else self.flags("kernel")


def normalize(spelling: str) -> str:
    """Return a spelling in the form of the table's names: ``SSE4.1`` and ``has_sse4_1`` are both ``sse4_1``."""
    return spelling.strip().lower().removeprefix("has_").replace(".", "_").replace("-", "_")


def family(arch: str) -> str:
    """Return the folder in ``data/`` that has an architecture's tables. Raises UnknownNameError."""
    return architecture(arch).family


_tables: dict[str, dict[str, Feature]] = {}
"""The tables read so far, by family and by architecture."""
_conditions: dict[str, Condition] = {}
"""The conditions parsed so far, by text: a compilation asks for each several times."""
_closures: dict[tuple[str, str], frozenset[str]] = {}
_spellings: dict[str, dict[str, str]] = {}


def table(arch: str) -> dict[str, Feature]:
    """Return every feature of an architecture by name, in the order of its table. Raises UnknownNameError."""
    if arch in _tables:
        return _tables[arch]
    folder = family(arch)
    if folder not in _tables:
        features = [Feature(*line.split("\t")) for line in tables.lines(f"{folder}/features.tsv")]
        _tables[folder] = {feature.name: feature for feature in features}
    return _tables.setdefault(arch, _tables[folder])


def find(arch: str, spelling: str) -> Feature:
    """Return the feature with that spelling in any system. Raises UnknownNameError with the nearest names."""
    expect("a feature", spelling, str, "its name, a str")
    known, name = table(arch), normalize(spelling)
    if name in known:
        return known[name]
    foreign = _foreign_spellings(arch)
    if name in foreign:
        return known[foreign[name]]
    own = {feature: feature for feature in known}
    elsewhere = [folder for folder, other in tables.families().items() if _knows(other, name)]
    raise UnknownNameError(f"{family(arch)} feature", spelling, nearest(name, {**own, **foreign}), tuple(elsewhere))


def _knows(arch: str, name: str) -> bool:
    """Whether a normalized name is one of an architecture's features, in any spelling."""
    return name in table(arch) or name in _foreign_spellings(arch)


def _foreign_spellings(arch: str) -> dict[str, str]:
    folder = family(arch)
    if folder not in _spellings:
        _spellings[folder] = {
            normalize(spelling): feature.name
            for feature in table(arch).values()
            for names in feature.spellings.values()
            for spelling in names
            if spelling != NO_SPELLING
        }
    return _spellings[folder]


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return up to three of the known names of which ``name`` may be a misspelling, the most similar first.

    If ``known`` is a dictionary of spellings and what each stands for, one spelling of each thing is returned. Names
    of three letters and less may differ in one; of longer ones, a quarter of the letters.
    """
    import difflib

    meanings: dict[str, str] = known if isinstance(known, dict) else {spelling: spelling for spelling in known}
    similarity = 0.75 if len(name) > 3 else 0.66
    similar = difflib.get_close_matches(name, meanings, len(meanings) or 1, similarity)
    first = {meanings[spelling]: spelling for spelling in reversed(similar)}
    return tuple([spelling for spelling in similar if first[meanings[spelling]] == spelling][:3])


def closure(arch: str, names: Iterable[str]) -> frozenset[str]:
    """Return the names of features and of all that they imply, directly or not."""
    features, closed, waiting = table(arch), set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in closed:
            closed.add(name)
            waiting += features[name].implies
    return frozenset(closed)


def implied(arch: str, name: str) -> frozenset[str]:
    """Return the names of a feature and of all that it implies, directly or not."""
    key = (arch, name)
    if key not in _closures:
        _closures[key] = closure(arch, [name])
    return _closures[key]


_sums: dict[str, dict[str, frozenset[str]]] = {}


def sums(arch: str) -> dict[str, frozenset[str]]:
    """Return the features that are nothing but several others together, each with these.

    Their bits are the names of others (RISC-V's ``b``: ``zba&zbb&zbs``), or just those of the features that they imply
    (AArch64's ``crypto``: ``aes`` and ``sha2``).
    """
    folder = family(arch)
    if folder not in _sums:
        known = table(arch)
        combined = [feature for feature in known.values() if "&" in feature.bit]
        _sums[folder] = {feature.name: parts for feature in combined if (parts := _parts(feature, known))}
    return _sums[folder]


def _parts(feature: Feature, known: dict[str, Feature]) -> frozenset[str]:
    implied_bits = {bit for name in feature.implies for bit in known[name].bit.split("&")}
    for terms in feature.condition.alternatives:
        bits = frozenset([term.text for term in terms])
        if len(bits) > 1 and known.keys() >= bits:
            return bits
        if len(feature.implies) > 1 and bits == implied_bits:
            return frozenset(feature.implies)
    return frozenset()


def _distinct(argument: str, names: Iterable[str]) -> frozenset[str]:
    """Return the names in an iterable. Raises TypeError for anything else, and for a single str."""
    if not isinstance(names, (str, bytes)):
        try:
            return frozenset(names)
        except TypeError:
            pass
    raise TypeError(f"{argument} must be an iterable of names of features, not {type(names).__name__}")


class FeatureSet:
    """An immutable set of one architecture's features, by name, in table order.

    ``name in features`` takes every spelling of every system (``sse4.1``, ``SSE4_1``), and raises UnknownNameError for
    what is no feature at all. ``<=``, ``&``, ``|`` and ``-`` take two sets of the same tables, and raise TargetError
    for any others.
    """

    __slots__ = ("arch", "names")
    arch: str
    """The architecture, as the kernel calls it: ``x86_64``, ``aarch64``."""
    names: frozenset[str]
    """Names of the table."""

    def __init__(self, arch: str, names: Iterable[str] = ()) -> None:
        """Create a set of ``names``, in any system's spelling. Raises UnknownNameError for a name or an ``arch``."""
        named = _distinct("names", names)
        expect("arch", arch, str, "the name of an architecture")
        known = table(arch)
        if not known.keys() >= named:
            named = frozenset([name if name in known else find(arch, name).name for name in sorted(named, key=str)])
        object.__setattr__(self, "arch", arch)
        object.__setattr__(self, "names", named)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("FeatureSet is immutable")

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make a copy of a set that cannot be filled later: by its arguments."""
        return FeatureSet, (self.arch, tuple(self))

    def closed(self) -> FeatureSet:
        """Return the set with all features that its members imply."""
        return self._with(closure(self.arch, self.names))

    def completed(self) -> FeatureSet:
        """Return the closed set with each feature that is nothing but several of its members (:func:`sums`)."""
        names = set(closure(self.arch, self.names))
        for name, parts in sums(self.arch).items():
            if parts <= names:
                names.add(name)
        return self._with(names)

    def elementary(self) -> FeatureSet:
        """Return the closed set without what is nothing but several of its members: what remains to be tested."""
        return self._with(closure(self.arch, self.names) - sums(self.arch).keys())

    def without(self, removed: Iterable[str]) -> FeatureSet:
        """Return the set without the ``removed`` features and without all that imply one of them.

        Raises UnknownNameError.
        """
        names = FeatureSet(self.arch, _distinct("removed", removed)).names
        return self._with(name for name in self.names if names.isdisjoint(implied(self.arch, name)))

    def of_kind(self, *kinds: str) -> FeatureSet:
        """Return the members of those kinds, which are among :data:`KINDS`. Raises OptionError for another kind."""
        for kind in kinds:
            one_of("a kind", kind, KINDS)
        known = table(self.arch)
        return self._with([name for name in self.names if known[name].kind in kinds])

    @property
    def isa(self) -> FeatureSet:
        """The ISA features among them, which decide what runs where."""
        return self.of_kind("isa")

    def _with(self, names: Iterable[str]) -> FeatureSet:
        """Return a set of the same architecture, of names that are known to be the table's."""
        made = object.__new__(FeatureSet)
        object.__setattr__(made, "arch", self.arch)
        object.__setattr__(made, "names", frozenset(names))
        return made

    def _names_of(self, other: FeatureSet) -> frozenset[str]:
        if self.arch != other.arch and family(self.arch) != family(other.arch):
            raise TargetError(f"features of {self.arch} and of {other.arch} cannot be compared")
        return other.names

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            raise TypeError(f"a feature must be its name, a str, not {type(name).__name__}")
        return name in self.names or find(self.arch, name).name in self.names

    def __iter__(self) -> Iterator[str]:
        return (name for name in table(self.arch) if name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __le__(self, other: FeatureSet) -> bool:
        return self.names <= self._names_of(other) if isinstance(other, FeatureSet) else NotImplemented

    def __lt__(self, other: FeatureSet) -> bool:
        return self.names < self._names_of(other) if isinstance(other, FeatureSet) else NotImplemented

    def __and__(self, other: FeatureSet) -> FeatureSet:
        return self._with(self.names & self._names_of(other)) if isinstance(other, FeatureSet) else NotImplemented

    def __or__(self, other: FeatureSet) -> FeatureSet:
        return self._with(self.names | self._names_of(other)) if isinstance(other, FeatureSet) else NotImplemented

    def __sub__(self, other: FeatureSet) -> FeatureSet:
        return self._with(self.names - self._names_of(other)) if isinstance(other, FeatureSet) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureSet) and (self.arch, self.names) == (other.arch, other.names)

    def __hash__(self) -> int:
        return hash((self.arch, self.names))

    def __repr__(self) -> str:
        return f"FeatureSet({self.arch!r}, {list(self)!r})"
