"""Read IBM Z machines: the auxiliary vector and ``/proc/cpuinfo``. All cores are alike.

Source: Linux ``arch/s390/kernel/processor.c`` (``setup_hwcaps``, ``show_cpu_summary``).
The facts are in ``data/s390x``; nothing here knows a feature or a model by name.
"""

from __future__ import annotations

from cpufeat.detection.arch import Reading
from cpufeat.detection.machine import AT_HWCAP
from cpufeat.detection.probe import bits, lscpu_or_pycpuinfo, proc_cpuinfo
from cpufeat.features import table
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpufeat.detection.machine import Machine

_STFLE = "hwcap[2]"
"""Whether there is STORE FACILITY LIST EXTENDED, which user code may execute."""
_VENDOR = "IBM/S390"
_HYPERVISOR = "VM00 Control Program"


def read(machine: Machine) -> list[Reading]:
    """Return the reading by the auxiliary vector, or else the kernel's ``features``, and by the list of facilities."""
    described, source = _described(machine)
    enabled = bits.auxiliary(machine)
    stored = machine.facilities() if _STFLE in enabled else None
    listed = described.get("facilities", "").split()
    answers = machine.getauxval(AT_HWCAP) is not None
    set_bits = enabled if answers else _flags(machine.arch, described.get("features", ""), source)
    set_bits |= _facilities(stored, "STFLE bit") if stored is not None else _facilities(listed, f"{source} facility")
    if not set_bits and not answers:
        return []
    by_facility = [feature.name for feature in table(machine.arch).values() if "facility" in feature.bit]
    return [
        Reading(
            source="AT_HWCAP" if answers else source,
            vendor=_VENDOR,
            model=proc_cpuinfo.number(described.get("machine", "")),
            hypervisor=_hypervisor(machine),
            count=proc_cpuinfo.number(described.get("# processors", "")) or max(1, len(machine.online_cpus())),
            reported=bits.reported(machine.arch, set_bits),
            undetermined=frozenset(() if listed or stored is not None else by_facility),
        )
    ]


def _described(machine: Machine) -> tuple[dict[str, str], str]:
    """Return the kernel's values, by its own names, and where they were read."""
    content = machine.read_file("/proc/cpuinfo")
    if content:
        values: dict[str, str] = {}
        for block in reversed(proc_cpuinfo.blocks(content)):
            values.update(block)
        summary = next((value for key, value in values.items() if key.startswith("processor ")), "")
        return {"machine": summary.rpartition("machine = ")[2], **values}, "/proc/cpuinfo"
    (fields, *_), source = lscpu_or_pycpuinfo.described(machine)
    names = {"features": "Flags", "machine": "Machine type", "# processors": "CPU(s)"}
    return {name: fields.get(label, "") for name, label in names.items()}, source


def _flags(arch: str, features: str, source: str) -> dict[str, str]:
    """Return the bits of AT_HWCAP that the kernel spells out: each of its words stands for one."""
    words = set(features.split())
    return {
        term.text: f"{source} feature {word}"
        for feature in table(arch).values()
        for term in feature.condition.terms
        for word in feature.spellings.get("kernel", (feature.name,))
        if term.word.startswith("hwcap") and word in words
    }


def _facilities(numbers: Iterable[int | str], source: str) -> dict[str, str]:
    return {f"facility[{number}]": f"{source} {number}" for number in numbers}


def _hypervisor(machine: Machine) -> str:
    """Return the program that runs this guest (``z/VM    7.2.0``), empty in a logical partition of its own."""
    lines = (machine.read_file("/proc/sysinfo") or b"").decode("ascii", "replace").splitlines()
    named = (line.partition(":")[2] for line in lines if line.startswith(_HYPERVISOR))
    return " ".join(next(named, "").split())
