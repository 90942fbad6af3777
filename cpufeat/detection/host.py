"""Define the result of detection: what a machine is, which features are usable, and why others are withheld."""

from __future__ import annotations

from cpufeat.errors import expect
from cpufeat.features import FeatureSet, find
from cpufeat.levels import level_of
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.triples import triple_of

if TYPE_CHECKING:
    from cpufeat.decisions import Decision, Withheld


class Core(Value):
    """A kind of core."""

    cpu: str
    """Its LLVM CPU."""
    count: int
    """The number of its processors."""


class Host(Value):
    """A machine's identity and its usable features."""

    arch: str
    system: str
    version: str
    """The system's version where the triple has it, else empty."""
    libc: str
    source: str
    """The source of the features: ``CPUID``, ``/proc/cpuinfo``, ``sysctl``, ..."""
    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    brand: str
    name: str
    """The model's name in common use, empty where no table has it."""
    hypervisor: str
    """The hypervisor, or the translator of the instructions: ``KVM``, ``Rosetta 2``; empty on bare metal."""
    cpu: str
    """The LLVM CPU that code for it is best tuned for, or a level."""
    cores: tuple[Core, ...]
    features: FeatureSet
    """The usable features: a feature is usable only if all that it implies are."""
    withheld_reported: dict[str, Withheld]
    """The reported features that are not usable, with the reason."""
    unreported: FeatureSet
    """The features that the CPU of that name has and this one does not report."""
    evidence: dict[str, str]
    """The evidence for each reported feature."""
    decisions: tuple[Decision, ...] = ()
    named: str = ""
    """The CPU of the model number alone, which the features may contradict; empty where no table has it."""
    undetermined: frozenset[str] = frozenset()
    """Features that the source can neither confirm nor rule out."""
    states: tuple[str, ...] = ()
    """The register states that the operating system enabled (rows of ``x86/states.tsv``); only CPUID tells."""
    states_evidence: str = ""
    """The evidence for ``states``: ``XCR0 is 0xe7``; empty if they were not read."""

    @property
    def withheld(self) -> dict[str, Withheld]:
        """The features that the CPU has by its name, or reports, and that may not be used."""
        return self.missing(FeatureSet(self.arch, self.unreported.names.union(self.withheld_reported)))

    @property
    def triple(self) -> str:
        """The triple of code for it, as LLVM and clang write it there."""
        return triple_of(self.arch, self.system, self.libc, self.version)

    @property
    def level(self) -> str:
        """The highest psABI level that runs here, empty if none does."""
        return level_of(self.features)

    def missing(self, features: FeatureSet) -> dict[str, Withheld]:
        """Return those of the features that are not usable here, and why. Raises TargetError for another family's."""
        expect("features", features, FeatureSet, "a FeatureSet")
        return {name: self._why(name) for name in features - self.features}

    def why_missing(self, name: str) -> Withheld | None:
        """Return why a feature, in any spelling, is not usable here; None if it is. Raises UnknownNameError."""
        feature = find(self.arch, name).name
        return None if feature in self.features else self._why(feature)

    def _why(self, name: str) -> Withheld:
        from cpufeat.detection import unreported

        return self.withheld_reported.get(name) or unreported.why(self.arch, self.source, name, self.undetermined)
