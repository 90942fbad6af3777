"""Read LoongArch machines: the auxiliary vector and ``/proc/cpuinfo``. All cores are alike.

Source: Linux ``arch/loongarch/kernel/cpu-probe.c`` and ``proc.c``.
The facts are in ``data/loongarch``; nothing here knows a feature or a model by name.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.detection.arch import Reading
from cpufeat.detection.machine import AT_HWCAP
from cpufeat.detection.probe import bits, lscpu, lscpu_or_pycpuinfo, proc_cpuinfo
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine


def read(machine: Machine) -> list[Reading]:
    """Return the reading by AT_HWCAP, or else by the kernel's list of features."""
    fields, count, source = _described(machine)
    set_bits = {**bits.auxiliary(machine), machine.arch: f"runs {machine.arch}"}
    words = {word: f"{source} feature {word}" for word in fields.get("features", "").split()}
    answers = machine.getauxval(AT_HWCAP) is not None
    if not answers and not words:
        return []
    vendor, _, name = fields.get("model name", "").partition("-")
    return [
        Reading(
            source="AT_HWCAP" if answers else source,
            vendor=vendor,
            stepping=_revision(fields.get("cpu revision", "")),
            brand=f"{vendor}-{name}" if name else vendor,
            core=_core(name),
            count=count or max(1, len(machine.online_cpus())),
            reported=bits.closed(machine.arch, set_bits, {} if answers else words),
        )
    ]


def _core(name: str) -> str:
    """Return the core of ``models.tsv`` that a name begins with: what follows is a speed, a package or a guest."""
    cores = (row[4] for row in tables.rows("loongarch/models.tsv"))
    return next((core for core in cores if name.startswith(core)), name)


def _described(machine: Machine) -> tuple[dict[str, str], int, str]:
    """Return the kernel's values by its own names in lower case, the number of processors, and where that was read."""
    content = machine.read_file("/proc/cpuinfo")
    if content:
        blocks = [{key.lower(): value for key, value in block.items()} for block in proc_cpuinfo.blocks(content)]
        cores = [block for block in blocks if "features" in block]
        return cores[0] if cores else {}, len(cores), "/proc/cpuinfo"
    (fields, *_), source = lscpu_or_pycpuinfo.described(machine)
    labels = {"features": "Flags", "model name": "Model name", "cpu revision": "Model"}
    return {name: fields.get(label, "").strip("-") for name, label in labels.items()}, lscpu.online(fields), source


def _revision(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None
