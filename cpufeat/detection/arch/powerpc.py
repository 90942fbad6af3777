"""Read POWER and PowerPC machines: the auxiliary vector and ``/proc/cpuinfo``. All cores are alike.

Sources: Linux ``Documentation/arch/powerpc/elf_hwcaps.rst``, ``arch/powerpc/kernel/setup-common.c`` (``show_cpuinfo``).
The facts are in ``data/powerpc``; nothing here knows a feature or a model by name.
"""

from __future__ import annotations

from cpufeat.detection.arch import Reading
from cpufeat.detection.arch.identity import features_by_number
from cpufeat.detection.machine import AT_HWCAP, AT_PLATFORM
from cpufeat.detection.probe import bits, lscpu, lscpu_or_pycpuinfo, proc_cpuinfo
from cpufeat.features import FeatureSet, table
from cpufeat.levels import baseline, level_features
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine

_ARCHITECTED = 0xF00
"""The upper half of a logical processor version: the kernel runs by an architecture, whatever the silicon is."""
_FREESCALE = 0x8000
_MARKS = "+abcdefghijklmnopqrstuvwxyz"
"""The letters after a generation's number where there are several kinds of it."""
_LATEST = 99
"""A generation that no name goes beyond."""


def read(machine: Machine) -> list[Reading]:
    """Return the reading by the auxiliary vector, or else by the kernel's description."""
    name, revision, count, source = _described(machine)
    platform = machine.auxv_string(AT_PLATFORM)
    version = _version(name, revision) or _architected(platform)
    answers = machine.getauxval(AT_HWCAP) is not None
    if not answers and not name:
        return []
    reading = Reading(
        source="AT_HWCAP" if answers else source,
        vendor="Freescale" if version and version >> 16 >= _FREESCALE else "IBM",
        model=version >> 16 if version else None,
        stepping=version & 0xFFFF if version else None,
        brand=name.partition(",")[0] or platform,
        count=count or max(1, len(machine.online_cpus())),
    )
    if answers:
        return [reading.replace(reported=bits.reported(machine.arch, bits.auxiliary(machine)))]
    return [reading.replace(reported=_named(machine.arch, name, source, features_by_number(machine.arch, reading)))]


def _described(machine: Machine) -> tuple[str, str, int, str]:
    """Return the kernel's words for the processor and its revision, how many there are, and where that was read."""
    processors = [block for block in proc_cpuinfo.blocks(machine.read_file("/proc/cpuinfo") or b"") if "cpu" in block]
    if processors:
        return processors[0]["cpu"], processors[0].get("revision", ""), len(processors), "/proc/cpuinfo"
    (fields, *_), source = lscpu_or_pycpuinfo.described(machine)
    return fields.get("Model name", ""), fields.get("Model", ""), lscpu.online(fields) if fields else 0, source


def _version(name: str, revision: str) -> int | None:
    """Return the processor version in force: of ``2.1 (pvr 004b 0201)``, else of ``POWER8 (architected)``."""
    named = _architected(name.partition(" ")[0])
    halves = revision.partition("(pvr ")[2].rstrip(")").split()
    if "(architected)" in name or not halves:
        return named
    try:
        upper, lower = (int(half, 16) & 0xFFFF for half in halves)
    except ValueError:
        return named
    return upper << 16 | lower


def _architected(name: str) -> int | None:
    """Return the logical version of ``power8`` or ``POWER8E``: POWER5+ is the first (PAPR, "Logical PVR values")."""
    marked = name.lower().removeprefix("power")
    generation = proc_cpuinfo.number(marked.rstrip(_MARKS))
    if generation is None or generation > _LATEST or marked == name.lower():
        return None
    return _ARCHITECTED << 16 | max(generation - 4, 1)


def _named(arch: str, name: str, source: str, by_number: frozenset[str] | None) -> dict[str, str]:
    """Return the features by the kernel's words alone: the baseline, and units named as in ``altivec supported``.

    A CPU whose number is known may lack some of the baseline: an e500 has no registers for floating point.
    """
    flags = set(name.replace(",", " ").split())
    units = [feature for feature in table(arch) if feature in flags]
    least = level_features(arch, baseline(arch))
    least = least if by_number is None else FeatureSet(arch, least.names & by_number)
    return dict.fromkeys(FeatureSet(arch, units).closed() | least, f"{source}: {name}")
