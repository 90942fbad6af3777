"""What a machine is and can run, merged from the evidence."""

from __future__ import annotations

import os

from cpufeat.decisions import DIFFERS, NOT_REPORTED, UNSEEN, Decision, Withheld
from cpufeat.detection.arch import read
from cpufeat.detection.arch.identity import Identity, identify
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import CpufeatError
from cpufeat.features import FeatureSet, implied, table
from cpufeat.levels import level_of
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.triples import triple_of

if TYPE_CHECKING:
    from cpufeat.detection.arch.reading import Reading
    from cpufeat.detection.machine import Machine

MACHINE_VARIABLE = "CPUFEAT_MACHINE"


class Core(Value):
    """A kind of core: its LLVM CPU, and how many processors are of it."""

    cpu: str
    count: int


class Host(Value):
    """A machine's identity and its usable features."""

    arch: str
    system: str
    version: str
    """The system's version where the triple has it, else empty."""
    libc: str
    source: str
    """Where the features were read: ``CPUID``, ``/proc/cpuinfo``, ``sysctl``, ..."""
    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    brand: str
    name: str
    """What people call the model, empty where no table has it."""
    hypervisor: str
    """What this machine is a guest of, or what translates for it: ``KVM``, ``Rosetta 2``; empty on bare metal."""
    cpu: str
    """The LLVM CPU that code for it is best tuned for, or a level."""
    cores: tuple[Core, ...]
    features: FeatureSet
    """What runs here, closed under what each feature depends on."""
    withheld_reported: dict[str, Withheld]
    """The reported features that are not usable, with the reason."""
    unreported: FeatureSet
    """The features that the CPU of that name has and this one does not report."""
    evidence: dict[str, str]
    """Where each reported feature was read."""
    decisions: tuple[Decision, ...] = ()
    named: str = ""
    """The CPU of the model number alone, which the features may contradict; empty where no table has it."""
    undetermined: frozenset[str] = frozenset()
    """Features that the source can neither confirm nor rule out."""
    states: tuple[str, ...] = ()
    """The register states that the operating system enabled (rows of ``x86/states.tsv``); only CPUID tells."""
    states_evidence: str = ""
    """Where ``states`` were read: ``XCR0 is 0xe7``; empty where they were not."""

    @property
    def withheld(self) -> dict[str, Withheld]:
        """What the CPU has by its name, or by what it reports, and may not be used."""
        names = FeatureSet(self.arch, self.unreported.names.union(self.withheld_reported))
        return {name: self.why_missing(name) for name in names}

    @property
    def triple(self) -> str:
        """The triple of code for it, as LLVM and clang write it there."""
        return triple_of(self.arch, self.system, self.libc, self.version)

    @property
    def level(self) -> str:
        """The highest psABI level that runs here, empty if none does."""
        return level_of(self.features)

    def why_missing(self, name: str) -> Withheld:
        """Return why a feature is not usable here."""
        from cpufeat.detection import unreported

        return self.withheld_reported.get(name) or unreported.why(self.arch, self.source, name, self.undetermined)


def detect(machine: Machine | None = None) -> Host:
    """Return what a machine (this one, if None) is and can run.

    ``CPUFEAT_MACHINE`` names a recording that takes the place of this machine. Raises DumpError for a bad recording
    and CpufeatError for a machine of which nothing can be read.
    """
    machine = machine or default_machine()
    readings = read(machine)
    if not readings:
        silent = "neither the processor nor the kernel answers"
        raise CpufeatError(f"nothing can be read of this {machine.arch} machine: {silent}")
    identities = [identify(machine.arch, reading) for reading in readings]
    return _merge(machine, readings, identities)


def default_machine() -> Machine:
    """Return the recording that ``CPUFEAT_MACHINE`` names, or else this machine. Raises DumpError."""
    path = os.environ.get(MACHINE_VARIABLE)
    if not path:
        return ThisMachine()
    from cpufeat.detection.dumps import load

    return load(path)[1]


def _merge(machine: Machine, readings: list[Reading], identities: list[Identity]) -> Host:
    """Put the kinds of core together: what all can run, tuned for the one that is no efficiency core."""
    lead = next((index for index, reading in enumerate(readings) if not reading.core), 0)
    reading, identity = readings[lead], identities[lead]
    usable = [_usable(machine.arch, one) for one in readings]
    features = FeatureSet(machine.arch, frozenset.intersection(*(one.names for one in usable)))
    withheld = {name: why for one in readings for name, why in one.withheld.items()}
    differing = frozenset().union(*(one.names for one in usable)) - features.names - withheld.keys()
    withheld |= {name: Withheld(DIFFERS, _which_cores(name, usable, identities)) for name in differing}
    unfounded = reading.reported.keys() - features.names - withheld.keys()
    withheld |= {name: _missing_base(machine.arch, name, reading, withheld) for name in unfounded}
    return Host(
        arch=machine.arch,
        system=machine.system,
        version=machine.version,
        libc=machine.libc,
        source=reading.source,
        vendor=reading.vendor,
        family=reading.family,
        model=reading.model,
        stepping=reading.stepping,
        brand=reading.brand,
        name=identity.name,
        hypervisor=reading.hypervisor,
        cpu=identity.cpu,
        cores=_cores(readings, identities),
        features=features,
        withheld_reported=withheld,
        unreported=FeatureSet(machine.arch, identity.expected - features.names - withheld.keys()).isa,
        evidence={name: where for one in reversed(readings) for name, where in one.reported.items()},
        decisions=tuple(dict.fromkeys(decision for one in identities for decision in one.decisions)),
        named=identity.named,
        undetermined=reading.undetermined,
        states=reading.states,
        states_evidence=reading.states_evidence,
    )


def _usable(arch: str, reading: Reading) -> FeatureSet:
    """What is reported and not withheld, as far as all that it depends on is usable too."""
    known, names = table(arch), reading.reported.keys() - reading.withheld.keys()
    while unfounded := {name for name in names if not names.issuperset(known[name].implies)}:
        names -= unfounded
    return FeatureSet(arch, names)


def _which_cores(name: str, usable: list[FeatureSet], identities: list[Identity]) -> str:
    without = dict.fromkeys(identity.cpu for identity, one in zip(identities, usable, strict=True) if name not in one)
    return f"not on {', '.join(without)}"


def _missing_base(arch: str, name: str, reading: Reading, withheld: dict[str, Withheld]) -> Withheld:
    base = min(implied(arch, name) - (reading.reported.keys() - withheld.keys()))
    reason = UNSEEN if base in reading.undetermined else NOT_REPORTED
    return withheld.get(base) or Withheld(reason, f"it depends on {base}")


def _cores(readings: list[Reading], identities: list[Identity]) -> tuple[Core, ...]:
    counts: dict[str, int] = {}
    for reading, identity in zip(readings, identities, strict=True):
        counts[identity.cpu] = counts.get(identity.cpu, 0) + reading.count
    return tuple(Core(cpu, count) for cpu, count in counts.items())
