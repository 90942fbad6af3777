"""Read 64-bit Arm under Windows: features from ``IsProcessorFeaturePresent``, the CPU from the registry's MIDR.

Sources: Microsoft's "IsProcessorFeaturePresent" (winnt.h); Arm ARM (DDI 0487), MIDR_EL1: Windows' ``CP 4000``.
The facts are in ``data/aarch64``.
"""

from __future__ import annotations

from cpufeat.detection.arch.arm_cores import reading_of
from cpufeat.detection.arch.identity import biggest_first
from cpufeat.detection.probe import bits, midr, proc_cpuinfo
from cpufeat.detection.probe.midr import ArmCore
from cpufeat.features import Feature, table
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.arch import Reading
    from cpufeat.detection.machine import Machine

_PROCESSOR = "HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\{}"
_MIDR, _BRAND = "CP 4000", "ProcessorNameString"


def read(machine: Machine) -> list[Reading]:
    """Return a reading for each kind of core, the biggest first; none where Windows does not answer."""
    features = table(machine.arch).values()
    answers = {feature.name: _evidence(machine, feature) for feature in features}
    reported = bits.with_sums(machine.arch, {name: evidence for name, evidence in answers.items() if evidence})
    newest = max((_newest(feature) for feature in features if answers[feature.name]), default=0)
    undetermined = frozenset(feature.name for feature in features if _newest(feature) > newest)
    if not reported:
        return []
    kinds = proc_cpuinfo.count_kinds(_core(machine, cpu) for cpu in machine.online_cpus() or (0,))
    readings = [reading_of("IsProcessorFeaturePresent", kind, count, reported) for kind, count in kinds.items()]
    return biggest_first(machine.arch, [reading.replace(undetermined=undetermined) for reading in readings])


def _newest(feature: Feature) -> int:
    """Return the latest of the numbers that stand for the feature: Windows denies those that it does not know."""
    return max(map(int, feature.spellings.get("windows", ())), default=0)


def _evidence(machine: Machine, feature: Feature) -> str:
    numbers = feature.spellings.get("windows", ())
    if not numbers or not all(machine.processor_feature(int(number)) for number in numbers):
        return ""
    return f"IsProcessorFeaturePresent {', '.join(numbers)}"


def _core(machine: Machine, cpu: int) -> ArmCore:
    register = machine.registry(_PROCESSOR.format(cpu), _MIDR)
    brand = str(machine.registry(_PROCESSOR.format(cpu), _BRAND) or "").strip()
    return (midr.of_register(register) if isinstance(register, int) else ArmCore()).replace(brand=brand)
