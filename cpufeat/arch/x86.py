"""x86: what CPUID, or the kernel's flags, say of each kind of core, and which CPU that is.

Sources: Intel SDM volume 2A (CPUID), Linux ``arch/x86/include/asm/cpufeatures.h`` (flags), the x86-64 psABI (levels).
The facts are in ``data/x86``; nothing here knows a feature or a model by name.
"""

from __future__ import annotations

from cpufeat import llvm, tables
from cpufeat.arch.reading import Identity, Reading
from cpufeat.decisions import NEEDS_PERMISSION, STATE_OFF, Decision, Withheld
from cpufeat.features import Feature, FeatureSet, table
from cpufeat.machine import Machine
from cpufeat.probe.cpuid import Cpuid
from cpufeat.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpufeat.probe.procfs import Processor

BASELINE = "x86-64"
LONG_MODE = "64bit"
"""What makes a CPU an x86-64 one: LLVM aborts on 64-bit code without it, and leaves parts of the baseline out of some."""
_HYBRID = "7.0:edx[15]"
_CORE_TYPE = "1A.0:eax[24-31]"
_ATOM = 0x20
_BRAND = (0x80000002, 0x80000003, 0x80000004)
_HYPERVISOR_VENDOR = 0x40000000


def read(machine: Machine) -> list[Reading]:
    """Return what the best source that answers says of each kind of core: CPUID, then the kernel, then py-cpuinfo."""
    for source in (from_cpuid, from_kernel, from_py_cpuinfo):
        readings = source(machine)
        if readings:
            return readings
    return []


# --- CPUID


def from_cpuid(machine: Machine) -> list[Reading]:
    """Read CPUID: once, or on a hybrid part on a processor of each kind."""
    cpuid = Cpuid(machine)
    if not cpuid.available:
        return []
    if not cpuid.holds(_HYBRID):
        return [_reading(machine, cpuid, max(1, len(machine.online_cpus())))]
    readings = (_reading(machine, Cpuid(machine, cpu), count) for cpu, count in _representatives(machine))
    return _merge_like(reading for reading in readings if reading.reported) or [_reading(machine, cpuid, 1)]


def _representatives(machine: Machine) -> Iterable[tuple[int, int]]:
    """One processor of each kind with the number of its like, by the kernel's lists of performance-counter kinds.

    Source: Linux ``Documentation/ABI/testing/sysfs-bus-event_source-devices``. Without them, every processor.
    """
    online = machine.online_cpus()
    kinds = [_cpu_list(machine.read_file(f"/sys/devices/{kind}/cpus")) for kind in ("cpu_core", "cpu_atom", "cpu_lowpower")]
    listed = [[cpu for cpu in kind if cpu in online] for kind in kinds]
    if sum(map(len, listed)) != len(online):
        return [(cpu, 1) for cpu in online]
    return [(kind[0], len(kind)) for kind in listed if kind]


def _cpu_list(content: bytes | None) -> list[int]:
    """Parse ``0-7,12`` (Linux ``Documentation/admin-guide/cputopology.rst``)."""
    cpus: list[int] = []
    for part in (content or b"").decode("ascii", "replace").strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            cpus.extend(range(int(first), min(int(last or first), int(first) + 0xFFFF) + 1))
    return cpus


def _merge_like(readings: Iterable[Reading]) -> list[Reading]:
    merged: list[Reading] = []
    for reading in readings:
        for index, other in enumerate(merged):
            if other.replace(count=reading.count) == reading:
                merged[index] = other.replace(count=other.count + reading.count)
                break
        else:
            merged.append(reading)
    return merged


def _reading(machine: Machine, cpuid: Cpuid, count: int) -> Reading:
    family, model, stepping = cpuid.signature()
    features = [feature for feature in table(machine.arch).values() if feature.bit and cpuid.holds(feature.bit)]
    return Reading(
        source="CPUID",
        vendor=cpuid.vendor(),
        family=family,
        model=model,
        stepping=stepping,
        brand=cpuid.text(*_BRAND),
        hypervisor=cpuid.vendor(_HYPERVISOR_VENDOR),
        core="atom" if cpuid.value(_CORE_TYPE) == _ATOM else "",
        count=count,
        reported={feature.name: f"CPUID {_in_capitals(feature.bit)}" for feature in features},
        withheld=_gated(machine, features, *cpuid.xcr0()),
    )


def _in_capitals(bit: str) -> str:
    where, _, register = bit.partition(":")
    return f"{where}:{register.upper()}" if register else bit


class State(Value):
    """A row of ``states.tsv``: register state that the operating system has to enable."""

    mask: int
    """The XCR0 bits that must be set."""
    permission: str
    """How a process asks for its use, empty where it need not."""


def states() -> dict[str, State]:
    """Return every state by name."""
    return {
        name: State(sum(1 << int(bit) for bit in bits.split()), permission)
        for name, bits, permission, *_ in tables.rows("x86/states.tsv")
    }


def _gated(machine: Machine, features: list[Feature], xcr0: int, evidence: str) -> dict[str, Withheld]:
    known = states()
    withheld = {}
    for feature in features:
        if not feature.state:
            continue
        state = known[feature.state]
        if xcr0 & state.mask != state.mask:
            withheld[feature.name] = Withheld(STATE_OFF, f"{feature.state}: {evidence}, needs {state.mask:#x}")
        elif state.permission and machine.permitted_states() & state.mask != state.mask:
            withheld[feature.name] = Withheld(NEEDS_PERMISSION, state.permission)
    return withheld


# --- the kernel's flags, which it has already gated by state


def from_kernel(machine: Machine) -> list[Reading]:
    """Read the kernel's account: ``/proc/cpuinfo``, or what ``lscpu`` made of it."""
    from cpufeat.probe import lscpu, procfs

    content = machine.read_file("/proc/cpuinfo")
    if content:
        alike = procfs.alike(procfs.processors(content))
        return [_from_flags(machine, "/proc/cpuinfo", processor, count) for processor, count in alike.items()]
    content = machine.read_file("lscpu")
    if content:
        fields = lscpu.fields(content)
        return [_from_flags(machine, "lscpu", lscpu.processor(fields), lscpu.online(fields))]
    return []


def from_py_cpuinfo(machine: Machine) -> list[Reading]:
    """Read py-cpuinfo's account."""
    from cpufeat.probe import pycpuinfo

    answer = machine.py_cpuinfo()
    if not answer:
        return []
    return [_from_flags(machine, "py-cpuinfo", pycpuinfo.processor(answer), pycpuinfo.count(answer))]


def _from_flags(machine: Machine, source: str, processor: Processor, count: int) -> Reading:
    features = [feature for feature in table(machine.arch).values() if not processor.flags.isdisjoint(_flags_of(feature))]
    every_state = -1  # a flag that the kernel shows is one whose state it enabled
    return Reading(
        source=source,
        vendor=processor.vendor,
        family=processor.family,
        model=processor.model,
        stepping=processor.stepping,
        brand=processor.brand,
        count=count,
        reported={feature.name: f"{source} flag {', '.join(_flags_of(feature))}" for feature in features},
        withheld=_gated(machine, features, every_state, source),
    )


def _flags_of(feature: Feature) -> tuple[str, ...]:
    return feature.spellings.get("kernel", (feature.name,))


# --- identity


class Model(Value):
    """A row of ``models.tsv``, whose header says what each column means."""

    vendor: str
    family: str
    model: str
    stepping: str
    core: str
    requires: str
    cpu: str
    name: str
    may: str

    def fits(self, reading: Reading, reported: frozenset[str]) -> bool:
        """Whether the row is about such a core."""
        return (
            reading.vendor in self.vendor.split(",")
            and _among(reading.family, self.family)
            and _among(reading.model, self.model)
            and _among(reading.stepping, self.stepping)
            and self.core in ("*", reading.core)
            and reported.issuperset(self.requires.split())
        )


def _among(number: int | None, ranges: str) -> bool:
    """Whether ``1,4-7`` or ``*`` holds a number; an unknown one is only in ``*``."""
    if ranges == "*":
        return True
    ends = (part.partition("-") for part in ranges.split(","))
    return number is not None and any(int(low) <= number <= int(high or low) for low, _, high in ends)


def identify(arch: str, reading: Reading) -> Identity:
    """Return the CPU of the model number, unless it has no row or what is reported contradicts it: then the best fit."""
    models = [Model(*row) for row in tables.rows("x86/models.tsv")]
    reported = FeatureSet(arch, reading.reported).closed().names
    row = next((row for row in models if row.cpu and row.fits(reading, reported)), None)
    what = f"{reading.vendor or 'unknown vendor'} family {reading.family} model {reading.model}"
    if row is None:
        fitted = _best_fit(arch, models, reading, reported)
        reason = f"{what} is in no table; {fitted} fits the features best"
        return Identity(fitted, "", _expected(arch, fitted), (Decision("identity", fitted, reason, reading.source),))
    expected = _expected(arch, row.cpu)
    always = " ".join(other.may for other in models if other.vendor == "*").split()
    extra = FeatureSet(arch, reading.reported).isa.names.difference(expected, row.may.split(), always)
    fitted = _best_fit(arch, models, reading, reported) if extra and row.may != "*" else row.cpu
    if fitted == row.cpu:
        return Identity(row.cpu, row.name, expected, named=row.cpu)
    listed = ", ".join(FeatureSet(arch, extra))
    reason = f"{what} is {row.name}, which has no {listed}; {fitted} fits the features best"
    decision = Decision("identity", fitted, reason, reading.reported[min(extra)])
    return Identity(fitted, "", _expected(arch, fitted), (decision,), row.cpu)


def _best_fit(arch: str, models: list[Model], reading: Reading, reported: frozenset[str]) -> str:
    """Return the vendor's CPU, or the level, that differs least from what is reported and needs no state beyond it."""
    vendors = dict.fromkeys(row.cpu for row in models if row.cpu and reading.vendor in row.vendor.split(","))
    candidates = [(cpu, _expected(arch, cpu)) for cpu in [*vendors, *reversed(levels())]]
    features = table(arch)
    fitting = [
        (len(expected ^ reported), index, cpu)
        for index, (cpu, expected) in enumerate(candidates)
        if all(name in reported for name in expected if features[name].state and features[name].kind == "isa")
    ]
    return min(fitting)[2] if fitting else BASELINE


def _expected(arch: str, cpu: str) -> frozenset[str]:
    features = llvm.cpu_features(arch, cpu)
    return features.names if features else frozenset()


# --- levels


def levels() -> dict[str, tuple[str, ...]]:
    """Return the psABI's levels, lowest first, and what each adds to the one below."""
    return {level: tuple(adds.split()) for level, adds, *_ in tables.rows("x86/levels.tsv")}


def level_features(arch: str, level: str) -> FeatureSet:
    """Return all that a level has. Raises KeyError for what is no level."""
    known = levels()
    names = list(known[level])
    for below, adds in known.items():
        if below == level:
            break
        names.extend(adds)
    return FeatureSet(arch, names).closed()


def level(features: FeatureSet) -> str:
    """Return the highest level whose features are all there, empty if not even the lowest."""
    reached = ""
    for name, adds in levels().items():
        if not features.names.issuperset(adds):
            break
        reached = name
    return reached
