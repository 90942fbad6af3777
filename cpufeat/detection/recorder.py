"""Writing a machine down, so that it can be replayed elsewhere: a bug report that is a test."""

from __future__ import annotations

from cpufeat.detection.crosscheck import disagreements
from cpufeat.detection.host import detect
from cpufeat.detection.machine import Leaves, Machine
from cpufeat.detection.probe import procfs
from cpufeat.detection.probe.cpuid import all_leaves
from cpufeat.detection.recording import Recording
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeVar

    from cpufeat.detection.instructions import Registers

    Key = TypeVar("Key")
    Answer = TypeVar("Answer")

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
        version=machine.version,
        arch=machine.arch,
        libc=machine.libc,
        emulator=machine.emulator,
        leaves={cpu: found for cpu, found in leaves.items() if found},
        xcr0=asked.xcr0,
        files=files,
        online=machine.online_cpus(),
        auxv=asked.auxv,
        strings=asked.strings,
        probes=asked.probes,
        stored=asked.stored,
        sysctls=asked.sysctls,
        processor_features=tuple(number for number, has in asked.processor_features.items() if has) or None,
        registry_values=asked.registry_values,
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


def _kept(answers: dict[Key, Answer], question: Key, answer: Answer | None) -> Answer | None:
    if answer is not None:
        answers[question] = answer
    return answer


class _Asked(Machine):
    """Passes every question on to a machine, and keeps what was asked and answered."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.system, self.version, self.arch, self.libc = machine.system, machine.version, machine.arch, machine.libc
        self.emulator = machine.emulator
        self.cpus: dict[int | None, None] = {}
        self.files: dict[str, bytes | None] = {}
        self.xcr0: int | None = None
        self.auxv: dict[int, int] = {}
        self.strings: dict[int, str] = {}
        self.probes: dict[int, int] = {}
        self.stored: tuple[int, ...] | None = None
        self.sysctls: dict[str, int | str] = {}
        self.processor_features: dict[int, bool] = {}
        self.registry_values: dict[str, int | str] = {}
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

    def permitted_states(self) -> int:
        return self.machine.permitted_states()

    def getauxval(self, kind: int) -> int | None:
        return _kept(self.auxv, kind, self.machine.getauxval(kind))

    def auxv_string(self, kind: int) -> str:
        return _kept(self.strings, kind, self.machine.auxv_string(kind) or None) or ""

    def hwprobe(self, keys: tuple[int, ...]) -> dict[int, int]:
        answers = self.machine.hwprobe(keys)
        self.probes.update(answers)
        return answers

    def facilities(self) -> tuple[int, ...] | None:
        self.stored = self.machine.facilities()
        return self.stored

    def sysctl(self, name: str) -> int | str | None:
        return _kept(self.sysctls, name, self.machine.sysctl(name))

    def processor_feature(self, number: int) -> bool | None:
        return _kept(self.processor_features, number, self.machine.processor_feature(number))

    def registry(self, key: str, name: str) -> int | str | None:
        return _kept(self.registry_values, f"{key}\\{name}", self.machine.registry(key, name))

    def online_cpus(self) -> tuple[int, ...]:
        return self.machine.online_cpus()

    def py_cpuinfo(self) -> dict[str, Any] | None:
        self.cpuinfo = self.machine.py_cpuinfo()
        return self.cpuinfo
