"""Read 64-bit Arm under macOS: features from ``hw.optional``, the CPU from ``hw.cpufamily``.

Sources: Apple's "Determining instruction set characteristics"; XNU ``osfmk/mach/machine.h`` (CPUFAMILY_ARM) and
``bsd/kern/kern_mib.c``. The facts are in ``data/aarch64``.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.detection.arch import Reading
from cpufeat.detection.probe import bits
from cpufeat.features import Feature, table
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine

VENDOR = "Apple"
KEYS = (("darwin", "hw.optional.arm."), ("darwin11", "hw.optional."))


def read(machine: Machine) -> list[Reading]:
    """Return a reading for each level of performance, the highest first; none where sysctl does not answer."""
    features = table(machine.arch).values()
    evidence = {feature.name: _evidence(machine, feature) for feature in features}
    brand = str(machine.sysctl("machdep.cpu.brand_string") or "")
    model = _unsigned(machine.sysctl("hw.cpufamily"))
    reading = Reading(
        source="sysctl",
        vendor=VENDOR,
        model=_model_by_name(brand) if model is None else model,
        stepping=_unsigned(machine.sysctl("hw.cpusubfamily")),
        brand=brand,
        hypervisor="Apple's hypervisor" if machine.sysctl("kern.hv_vmm_present") == 1 else "",
        reported=bits.with_sums(machine.arch, {name: names for name, names in evidence.items() if names}),
        undetermined=frozenset(
            feature.name for feature in features if not evidence[feature.name] and not _is_denied(machine, feature)
        ),
    )
    return [reading.replace(count=count) for count in _counts(machine)] if reading.reported else []


def _evidence(machine: Machine, feature: Feature) -> str:
    """Return the variables that stand for the feature, under today's names or the first, where none of them is 0."""
    for spelling, prefix in KEYS:
        names = [prefix + name for name in feature.spellings.get(spelling, ())]
        if names and all(_is_set(machine.sysctl(name)) for name in names):
            return ", ".join(names)
    return ""


def _is_set(value: int | str | None) -> bool:
    """Whether a variable is a number above 0: 1, or a length."""
    return isinstance(value, int) and value > 0


def _is_denied(machine: Machine, feature: Feature) -> bool:
    """Whether a variable that stands for the feature is 0: versions before it have no such variable."""
    return any(machine.sysctl(prefix + name) == 0 for key, prefix in KEYS for name in feature.spellings.get(key, ()))


def _counts(machine: Machine) -> list[int]:
    """Return the number of cores of each level; before macOS 12 there is but one."""
    levels = machine.sysctl("hw.nperflevels")
    names = [f"hw.perflevel{level}.physicalcpu" for level in range(min(levels, 8) if isinstance(levels, int) else 0)]
    counts = [count for name in names if isinstance(count := machine.sysctl(name), int)]
    return counts or [max(1, len(machine.online_cpus()))]


def _model_by_name(brand: str) -> int | None:
    """Return the number of the CPU in ``Apple M1``: people leave the number itself out of dumps."""
    rows = tables.rows("aarch64/models.tsv")
    numbers = (int(row[2], 0) for row in rows if row[0] == VENDOR and brand == f"{VENDOR} {row[7]}")
    return next(numbers, None)


def _unsigned(value: int | str | None) -> int | None:
    """Return a 32-bit number, which the ``sysctl`` command prints with a sign."""
    return value & 0xFFFFFFFF if isinstance(value, int) else None
