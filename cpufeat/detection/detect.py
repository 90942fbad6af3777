"""Detect a machine: read each kind of core, find its CPU, and merge what all of them can run into a :class:`Host`."""

from __future__ import annotations

import os
import sys

from cpufeat.decisions import DIFFERS, NOT_REPORTED, UNSEEN, Withheld
from cpufeat.detection.arch import PROCESS, Reading
from cpufeat.detection.arch.identity import Identity, identify
from cpufeat.detection.host import Core, Host
from cpufeat.detection.machine import AT_HWCAP, Machine
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import CpufeatError, FromVariable, expect
from cpufeat.features import FeatureSet, family, implied, table
from cpufeat.levels import level_features
from cpufeat.tables import architecture

MACHINE_VARIABLE = "CPUFEAT_MACHINE"


def detect(machine: Machine | None = None) -> Host:
    """Return the host that a machine (this one, if None) is, and the features that it can run.

    ``CPUFEAT_MACHINE`` names a recording that takes the place of this machine. Raises OSError for a recording that
    cannot be read, DumpError for a bad one, UnknownNameError for an architecture without tables, and CpufeatError for a
    machine of which no feature can be read. The module of each architecture in ``cpufeat.detection.arch`` names the
    manuals and the kernel's files from which the meaning of the answers comes.
    """
    expect("machine", machine, (Machine, type(None)), "a Machine, such as load_machine() returns, or None")
    machine = machine or default_machine()
    readings = _read(machine)
    if machine.origin:
        readings = _with_baseline(machine, readings)
    if not readings:
        silent = "no core is described: is it cut off, or another program's output?"
        raise CpufeatError(f"nothing can be read of this {machine.arch} machine: {silent}")
    identities = [identify(machine.arch, reading) for reading in readings]
    host = _merge(machine, readings, identities)
    if not host.evidence and not machine.origin and machine.getauxval(AT_HWCAP) is None:
        said = f"nothing in {host.source} names one: is it cut off, or another program's output?"
        raise CpufeatError(f"no feature can be read of this {machine.arch} machine: {said}")
    return host


def _read(machine: Machine) -> list[Reading]:
    """Return a reading for each kind of core; loads only the module of the machine's family of architectures."""
    name = f"cpufeat.detection.arch.{family(machine.arch)}"
    __import__(name)
    readings: list[Reading] = sys.modules[name].read(machine)
    return readings


def _with_baseline(machine: Machine, readings: list[Reading]) -> list[Reading]:
    """Return readings with at least the baseline of the architecture of which a process runs.

    It is added where nothing else is known, or what is known is of no CPU that runs the process.
    """
    own = architecture(machine.arch)
    needs = set(own.requires.split())
    if readings and all(reading.reported and needs <= reading.reported.keys() for reading in readings):
        return readings
    runs = dict.fromkeys(level_features(machine.arch, own.level).names, f"runs {machine.arch}")
    silent = Reading(source=PROCESS, count=max(1, len(machine.online_cpus())))
    return [reading.replace(reported={**runs, **reading.reported}) for reading in readings or [silent]]


def default_machine() -> Machine:
    """Return the recording that ``CPUFEAT_MACHINE`` names, or else this machine. Raises OSError, DumpError."""
    path = os.environ.get(MACHINE_VARIABLE)
    if not path:
        return ThisMachine()
    from cpufeat.detection.dumps import load

    with FromVariable(MACHINE_VARIABLE):
        return load(path)[1]


def _merge(machine: Machine, readings: list[Reading], identities: list[Identity]) -> Host:
    """Return the host that runs what all kinds of core run, tuned for the first, which is the biggest."""
    reading, identity = readings[0], identities[0]
    usable = [_usable(machine.arch, reading) for reading in readings]
    features = FeatureSet(machine.arch, frozenset.intersection(*(of_core.names for of_core in usable)))
    withheld = {name: why for reading in readings for name, why in reading.withheld.items()}
    differing = frozenset().union(*(of_core.names for of_core in usable)) - features.names - withheld.keys()
    withheld |= {name: Withheld(DIFFERS, _cores_without(name, usable, identities)) for name in differing}
    without_base = reading.reported.keys() - features.names - withheld.keys()
    withheld |= {name: _missing_base(machine.arch, name, reading, withheld) for name in without_base}
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
        evidence={name: evidence for reading in reversed(readings) for name, evidence in reading.reported.items()},
        decisions=tuple(
            dict.fromkeys([*machine.remarks, *(made for identity in identities for made in identity.decisions)])
        ),
        named=identity.named,
        undetermined=reading.undetermined,
        states=reading.states,
        states_evidence=reading.states_evidence,
        stands_for=identity.stands_for,
    )


def _usable(arch: str, reading: Reading) -> FeatureSet:
    """Return the features that are reported and not withheld, and that imply only such features."""
    known, names = table(arch), reading.reported.keys() - reading.withheld.keys()
    while without_base := {name for name in names if not names.issuperset(known[name].implies)}:
        names -= without_base
    return FeatureSet(arch, names)


def _cores_without(name: str, usable: list[FeatureSet], identities: list[Identity]) -> str:
    cores = zip(identities, usable, strict=True)
    cpus = dict.fromkeys(identity.cpu for identity, features in cores if name not in features)
    return f"not on {', '.join(cpus)}"


def _missing_base(arch: str, name: str, reading: Reading, withheld: dict[str, Withheld]) -> Withheld:
    """Return why a reported feature is not usable: the first feature that it implies and that is not."""
    base = min(implied(arch, name) - (reading.reported.keys() - withheld.keys()))
    reason = UNSEEN if base in reading.undetermined else NOT_REPORTED
    return withheld.get(base) or Withheld(reason, f"it depends on {base}")


def _cores(readings: list[Reading], identities: list[Identity]) -> tuple[Core, ...]:
    counts: dict[tuple[str, str], int] = {}
    for reading, identity in zip(readings, identities, strict=True):
        kind = (identity.cpu, identity.stands_for)
        counts[kind] = counts.get(kind, 0) + reading.count
    return tuple(Core(cpu, count, stands_for) for (cpu, stands_for), count in counts.items())
