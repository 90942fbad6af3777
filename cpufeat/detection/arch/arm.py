"""32-bit Arm, and what 64-bit Arm has in common with it: the cores, and the features that the kernel reports of them.

Sources: Linux ``arch/arm/kernel/setup.c`` (hardware capabilities, AT_PLATFORM) and ``arch/arm64/include/asm/hwcap.h``
(those of 32-bit programs). The facts are in ``data/arm`` and ``data/aarch64``; nothing here knows a core by name.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.decisions import Withheld
from cpufeat.detection.arch.identity import Model, among
from cpufeat.detection.arch.reading import Reading
from cpufeat.detection.machine import AT_HWCAP, AT_PLATFORM
from cpufeat.detection.probe import bits, fallback, midr
from cpufeat.detection.probe.midr import ArmCore
from cpufeat.features import NO_SPELLING, family, table
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cpufeat.detection.machine import Machine

_OF_64BIT = "asimd"
"""A word that only 64-bit kernels print."""
_COMPATIBLE = frozenset(
    ["half", "thumb", "fastmult", "vfp", "edsp", "neon", "vfpv3", "tls", "vfpv4", "idiva", "idivt", "vfpd32", "lpae"]
)
"""What a 64-bit kernel tells every 32-bit program, where there is Advanced SIMD."""


def read(machine: Machine) -> list[Reading]:
    """Return what the best source that answers says of each kind of core, the biggest first.

    A 32-bit program may find the words for 64-bit features in ``/proc/cpuinfo``. Since it runs there, the core has the
    32-bit features of all 64-bit cores as well.
    """
    platform = midr.version(machine.auxv_string(AT_PLATFORM).removeprefix("v"))
    return cores(machine, lambda processor: _versions(platform or processor.architecture or 0))


def _versions(number: int) -> dict[str, str]:
    return {f"architecture>={least}": f"architecture {number}" for least in range(4, number + 1)}


def cores(machine: Machine, more: Callable[[ArmCore], dict[str, str]]) -> list[Reading]:
    """Return a reading for each kind of core, the biggest first: by ``models.tsv``, unknown ones before all.

    ``more`` gives bits of a processor that are in no capability word.
    """
    arch, held = machine.arch, bits.auxiliary(machine)
    source, processors = _processors(machine)
    answers = machine.getauxval(AT_HWCAP) is not None
    if answers:
        source = "AT_HWCAP"
        processors = processors or {ArmCore(): max(1, len(machine.online_cpus()))}
    readings = []
    for processor, count in processors.items():
        said = {**(held if answers else _spelled_out(arch, processor, source)), **more(processor)}
        reading = reading_of(source, processor, count, bits.reported(arch, said))
        readings.append(reading.replace(undetermined=bits.undetermined(arch, said)))
    return biggest_first(arch, readings)


def biggest_first(arch: str, readings: list[Reading]) -> list[Reading]:
    """Return the readings by ``models.tsv``, which goes from small to big, unknown ones before all."""
    return sorted(readings, key=lambda reading: _size(arch, reading), reverse=True) if len(readings) > 1 else readings


def _processors(machine: Machine) -> tuple[str, dict[ArmCore, int]]:
    found = midr.from_sysfs(machine) or midr.from_cpuinfo(machine.read_file("/proc/cpuinfo") or b"")
    if found:
        return "/proc/cpuinfo", found
    kinds, source = fallback.described(machine)
    if source:
        return source, midr.from_lscpu(kinds, tables.rows(_models(machine.arch)))
    model = machine.sysctl("hw.model")
    if isinstance(model, str):
        return "sysctl", midr.from_sysctl(model, max(1, len(machine.online_cpus())), tables.rows(_models(machine.arch)))
    return "", {}


def _spelled_out(arch: str, processor: ArmCore, source: str) -> dict[str, str]:
    """Return the bits that the kernel's words stand for: a feature's kernel names are its bits', in the same order."""
    words: dict[str, str] = {}
    for feature in table(arch).values():
        names = feature.spellings.get("kernel", (feature.name,))
        if feature.bit and names != (NO_SPELLING,):
            words |= dict(zip(names, [term.text for term in feature.condition.terms], strict=True))
    is_foreign = family(arch) == "arm" and _OF_64BIT in processor.flags
    flags = sorted(processor.flags | _COMPATIBLE if is_foreign else processor.flags)
    return {words[flag]: f"{source} feature {flag}" for flag in flags if flag in words}


def reading_of(source: str, processor: ArmCore, count: int, reported: dict[str, str]) -> Reading:
    """Return the reading of a kind of core, without what does not work on it."""
    reading = Reading(
        source=source,
        vendor=processor.implementer,
        model=processor.part,
        stepping=processor.stepping,
        brand=processor.brand,
        count=count,
        reported=reported,
    )
    return reading.replace(withheld=_errata(reading))


def _errata(reading: Reading) -> dict[str, Withheld]:
    withheld: dict[str, Withheld] = {}
    for vendor, model, stepping, names, reason, evidence in tables.rows("arm/errata.tsv"):
        if _may_be(reading, vendor, model, stepping):
            withheld |= dict.fromkeys(reading.reported.keys() & set(names.split()), Withheld(reason, evidence))
    return withheld


def _may_be(reading: Reading, vendor: str, model: str, stepping: str) -> bool:
    """Whether nothing that is known of a core, where anything is, says that it is no such one."""
    is_known = bool(reading.vendor) or reading.model is not None
    cells = ((reading.model, model), (reading.stepping, stepping))
    of_vendor = reading.vendor in ("", vendor)
    return is_known and of_vendor and all(number is None or among(number, cell) for number, cell in cells)


def _size(arch: str, reading: Reading) -> int:
    rows = [Model(*row) for row in tables.rows(_models(arch))]
    reported = frozenset(reading.reported)
    return next((at for at, row in enumerate(rows) if row.cpu and row.fits(reading, reported)), len(rows))


def _models(arch: str) -> str:
    return f"{family(arch)}/models.tsv"
