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
    """A kind of core of a machine."""

    cpu: str
    """The LLVM CPU that code for it is best tuned for, or a level."""
    count: int
    """The number of its processors."""
    stands_for: str = ""
    """The core's own name in an LLVM that is newer than every table, where ``cpu`` is a stand-in for it; else empty."""


class Host(Value):
    """A machine's identity and its usable features.

    What a source does not tell is None or empty. Where the facts come from is in the docstrings of the modules of
    ``cpufeat.detection.arch``, such as the Intel SDM for x86 and Linux's documentation of hardware capabilities.
    """

    arch: str
    """The architecture of this process, as the kernel calls it: ``x86_64``, ``aarch64``, ``ppc64le``."""
    system: str
    """``linux``, ``darwin``, ``windows``, ``freebsd``, ..."""
    version: str
    """The system's version where the triple has it, else empty."""
    libc: str
    """The last part of the triple: ``gnu``, ``musl``, ``android``, ``msvc``, or empty."""
    source: str
    """The source of the features: ``CPUID``, ``/proc/cpuinfo``, ``sysctl``, ..."""
    vendor: str
    """x86: the vendor string of CPUID leaf 0, ``GenuineIntel``; Arm: the implementer in the MIDR, ``0x41``; else the
    kernel's word."""
    family: int | None
    """x86: the family as vendors count it (SDM volume 2A, CPUID leaf 1: DisplayFamily)."""
    model: int | None
    """x86: DisplayModel; Arm: the part number in the MIDR; POWER: the processor version; others: the model number."""
    stepping: int | None
    """x86: the stepping; Arm: variant and revision in the MIDR, 0x21 for r2p1; others: the revision."""
    brand: str
    """The name that the processor or the kernel gives itself: ``AMD EPYC 9754 128-Core Processor``."""
    name: str
    """The model's name in common use, empty where no table has it."""
    hypervisor: str
    """The hypervisor, or the translator of the instructions: ``KVM``, ``Rosetta 2``; empty on bare metal."""
    cpu: str
    """The LLVM CPU that code for it is best tuned for, or a level."""
    cores: tuple[Core, ...]
    """The kinds of core; the biggest first where the system tells which that is."""
    features: FeatureSet
    """The usable features: a feature is usable only if all that it implies are."""
    withheld_reported: dict[str, Withheld]
    """Feature -> the reason, for every reported feature that is not usable."""
    unreported: FeatureSet
    """The features that the CPU of that name has and this one does not report."""
    evidence: dict[str, str]
    """Feature -> the evidence for it (``CPUID 7.0:EBX[5]``), for every reported feature."""
    decisions: tuple[Decision, ...] = ()
    """The contradictions in what was read, and how each was decided."""
    named: str = ""
    """The CPU of the model number alone, which the features may contradict; empty where no table has it."""
    undetermined: frozenset[str] = frozenset()
    """Features that the source can neither confirm nor rule out."""
    states: tuple[str, ...] = ()
    """The register states that the operating system enabled (rows of ``x86/states.tsv``); only CPUID tells."""
    states_evidence: str = ""
    """The evidence for ``states``: ``XCR0 is 0xe7``; empty if they were not read."""
    stands_for: str = ""
    """The CPU's own name in an LLVM that is newer than every table (``znver6``), where ``cpu`` is a stand-in for it."""

    @property
    def withheld(self) -> dict[str, Withheld]:
        """Feature -> the reason, for every feature that the CPU has by its name, or reports, and that is not usable."""
        return self.missing(FeatureSet(self.arch, self.unreported.names.union(self.withheld_reported)))

    @property
    def triple(self) -> str:
        """The triple of code for it, as LLVM and clang write it there."""
        return triple_of(self.arch, self.system, self.libc, self.version)

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __and__(self, other: object) -> object:
            return _refused("&", other)

        def __le__(self, other: object) -> object:
            return _refused("<=", other)

        def __lt__(self, other: object) -> object:
            return _refused("<", other)

        def __ge__(self, other: object) -> object:
            return _refused(">=", other)

        def __gt__(self, other: object) -> object:
            return _refused(">", other)

    @property
    def level(self) -> str:
        """The highest level that runs here (``x86-64-v3``, ``rva22u64``), empty if none does."""
        return level_of(self.features)

    def missing(self, features: FeatureSet) -> dict[str, Withheld]:
        """Return those of the features that are not usable here: name -> reason and evidence.

        Raises TargetError for features of another family of architectures.
        """
        expect("features", features, FeatureSet, "a FeatureSet")
        return {name: self._why(name) for name in features - self.features}

    def why_missing(self, name: str) -> Withheld | None:
        """Return why a feature, in any spelling, is not usable here; None if it is. Raises UnknownNameError."""
        feature = find(self.arch, name).name
        return None if feature in self.features else self._why(feature)

    def _why(self, name: str) -> Withheld:
        from cpufeat.detection import unreported

        return self.withheld_reported.get(name) or unreported.why(self.arch, self.source, name, self.undetermined)


def _refused(operator: str, other: object) -> object:
    """Raise TypeError for two hosts; a target knows how to compare and combine itself with a host."""
    if isinstance(other, Host):
        raise TypeError(f"two hosts make no target: write Target.of(host) {operator} other_host")
    return NotImplemented
