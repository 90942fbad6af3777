"""Compare CPUID with what the kernel reports, and list the disagreements.

CPUID decides, since it is what runs in this process; the kernel's account is evidence that something is odd.
"""

from __future__ import annotations

from cpufeat.decisions import NEEDS_PERMISSION, Decision
from cpufeat.detection.arch import x86
from cpufeat.detection.arch.identity import described
from cpufeat.features import FeatureSet, table
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.host import Host
    from cpufeat.detection.machine import Machine


def disagreements(machine: Machine, host: Host) -> tuple[Decision, ...]:
    """Return the differences between the kernel's account of a machine and the host that CPUID made of it.

    A kernel that describes another CPU (an emulator of user programs shows its host's) is one decision; else there is
    one for each ISA feature. Empty where CPUID could not be read, or the kernel not.
    """
    readings = x86.from_kernel(machine) if host.source == "CPUID" else []
    if not readings:
        return ()
    source = readings[0].source
    described_cpus = {(reading.vendor, reading.family, reading.model) for reading in readings}
    if (host.vendor, host.family, host.model) not in described_cpus:
        cpu = described(host.arch, vars(readings[0]))
        return (Decision("disagreement", source, f"describes another CPU ({cpu}), as under an emulator"),)
    flags = frozenset.intersection(*(frozenset(reading.reported) for reading in readings))
    permitted = (name for name, why in host.withheld_reported.items() if why.reason == NEEDS_PERMISSION)
    by_cpuid = FeatureSet(host.arch, host.features.names.union(permitted)).isa
    by_kernel = FeatureSet(host.arch, flags).isa
    return (
        *(
            Decision("disagreement", name, "CPUID alone has it", host.evidence[name])
            for name in by_cpuid - by_kernel
            if table(host.arch)[name].kernel_flags
        ),
        *(
            Decision("disagreement", name, "the kernel alone has it", readings[0].reported[name])
            for name in by_kernel - by_cpuid
        ),
    )
