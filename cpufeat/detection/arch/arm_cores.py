"""List the kinds of core of an Arm machine, 32-bit or 64-bit, with the features that the kernel reports for them.

The facts are in ``data/arm`` and ``data/aarch64``; nothing here knows a core by name.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.decisions import Withheld
from cpufeat.detection.arch import Reading
from cpufeat.detection.arch.identity import biggest_first, errata
from cpufeat.detection.machine import AT_HWCAP
from cpufeat.detection.probe import bits, lscpu_or_pycpuinfo, midr
from cpufeat.detection.probe.midr import ArmCore
from cpufeat.features import NO_SPELLING, family, table
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cpufeat.detection.machine import Machine


def read_cores(
    machine: Machine,
    extra_bits: Callable[[ArmCore], dict[str, str]] = lambda core: {},
    flags: Callable[[ArmCore], frozenset[str]] = lambda core: core.flags,
) -> list[Reading]:
    """Return a reading for each kind of core, the biggest first.

    ``extra_bits`` are those of a core that are in no capability word; ``flags`` are its words for features.
    """
    arch, kernel_bits = machine.arch, bits.auxiliary(machine)
    source, cores = _cores(machine)
    answers = machine.getauxval(AT_HWCAP) is not None
    if answers:
        source = "AT_HWCAP"
        cores = cores or {ArmCore(): max(1, len(machine.online_cpus()))}
    readings = []
    for core, count in cores.items():
        set_bits = {**(kernel_bits if answers else _bits_of_flags(arch, flags(core), source)), **extra_bits(core)}
        reading = reading_of(source, core, count, bits.reported(arch, set_bits))
        readings.append(reading.replace(undetermined=bits.undetermined(arch, set_bits)))
    return biggest_first(arch, readings)


def _cores(machine: Machine) -> tuple[str, dict[ArmCore, int]]:
    cores = midr.from_sysfs(machine) or midr.from_cpuinfo(machine.read_file("/proc/cpuinfo") or b"")
    if cores:
        return "/proc/cpuinfo", cores
    kinds, source = lscpu_or_pycpuinfo.described(machine)
    if source:
        return source, midr.from_lscpu(kinds, tables.rows(_models(machine.arch)))
    model = machine.sysctl("hw.model")
    if isinstance(model, str):
        return "sysctl", midr.from_sysctl(model, max(1, len(machine.online_cpus())), tables.rows(_models(machine.arch)))
    return "", {}


def _bits_of_flags(arch: str, flags: frozenset[str], source: str) -> dict[str, str]:
    """Return the bits that the kernel's words stand for: a feature's kernel names are its bits', in the same order."""
    words: dict[str, str] = {}
    for feature in table(arch).values():
        names = feature.spellings.get("kernel", (feature.name,))
        if feature.bit and names != (NO_SPELLING,):
            words |= dict(zip(names, [term.text for term in feature.condition.terms], strict=True))
    return {words[flag]: f"{source} feature {flag}" for flag in sorted(flags) if flag in words}


def reading_of(source: str, core: ArmCore, count: int, reported: dict[str, str]) -> Reading:
    """Return the reading of a kind of core; features that its errata break are withheld."""
    reading = Reading(
        source=source,
        vendor=core.implementer,
        model=core.part,
        stepping=core.stepping,
        brand=core.brand,
        count=count,
        reported=reported,
    )
    return reading.replace(withheld=_errata(reading))


def _errata(reading: Reading) -> dict[str, Withheld]:
    withheld: dict[str, Withheld] = {}
    for row in errata("arm/errata.tsv", reading):
        broken = reading.reported.keys() & set(row.features.split())
        withheld |= dict.fromkeys(broken, Withheld(row.reason, row.evidence))
    return withheld


def _models(arch: str) -> str:
    return f"{family(arch)}/models.tsv"
