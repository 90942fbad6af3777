"""Writing a machine down, so that it can be replayed elsewhere: a bug report that is a test."""

from __future__ import annotations

from cpufeat.crosscheck import disagreements
from cpufeat.host import detect
from cpufeat.machine import Leaves, Machine, Recording
from cpufeat.probe import procfs
from cpufeat.probe.cpuid import all_leaves
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from cpufeat.native import Registers

_CPUINFO = "/proc/cpuinfo"


def record(machine: Machine) -> Recording:
    """Return a machine written down: whatever detection asks of it, and every CPUID leaf of each kind of core.

    No serial number and no name of the machine or of its users goes into it. Raises what :func:`cpufeat.detect` raises.
    """
    asked = _Asked(machine)
    disagreements(asked, detect(asked))
    kinds = sorted(cpu for cpu in asked.cpus if cpu is not None)
    leaves: dict[int, Leaves] = {cpu: all_leaves(machine, cpu) for cpu in kinds} or {0: all_leaves(machine)}
    files = {path: content for path, content in asked.files.items() if content is not None}
    if _CPUINFO in files:
        cpuinfo = _without_serial_number(files[_CPUINFO])
        files[_CPUINFO] = _one_of_each_kind(cpuinfo) if any(leaves.values()) else cpuinfo
    return Recording(
        system=machine.system,
        arch=machine.arch,
        libc=machine.libc,
        leaves={cpu: found for cpu, found in leaves.items() if found},
        xcr0=asked.xcr0,
        files=files,
        online=machine.online_cpus(),
        cpuinfo=asked.cpuinfo,
    )


def _without_serial_number(cpuinfo: bytes) -> bytes:
    return b"".join(line for line in cpuinfo.splitlines(True) if not line.lower().startswith(b"serial"))


def _one_of_each_kind(cpuinfo: bytes) -> bytes:
    """Leave out the processors that repeat an earlier one: where there is CPUID, it alone counts them."""
    kinds: dict[procfs.Processor, bytes] = {}
    for block in cpuinfo.split(b"\n\n"):
        for processor in procfs.processors(block):
            kinds.setdefault(processor, block.strip(b"\n") + b"\n")
    return b"\n".join(kinds.values())


class _Asked(Machine):
    """Passes every question on to a machine, and keeps what was asked and answered."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.system, self.arch, self.libc = machine.system, machine.arch, machine.libc
        self.cpus: dict[int | None, None] = {}
        self.files: dict[str, bytes | None] = {}
        self.xcr0: int | None = None
        self.cpuinfo: dict[str, Any] | None = None

    def cpuid(self, leaf: int, subleaf: int = 0, cpu: int | None = None) -> Registers | None:
        self.cpus[cpu] = None
        return self.machine.cpuid(leaf, subleaf, cpu)

    def xgetbv(self, index: int = 0) -> int | None:
        self.xcr0 = self.machine.xgetbv(index)
        return self.xcr0

    def read_file(self, path: str) -> bytes | None:
        self.files[path] = self.machine.read_file(path)
        return self.files[path]

    def online_cpus(self) -> tuple[int, ...]:
        return self.machine.online_cpus()

    def py_cpuinfo(self) -> dict[str, Any] | None:
        self.cpuinfo = self.machine.py_cpuinfo()
        return self.cpuinfo
