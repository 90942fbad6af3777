"""Ask a machine everything that detection asks, and return a ``Recording``: a bug report becomes a test."""

from __future__ import annotations

import inspect
import re

from cpufeat.detection.cpuid import all_leaves
from cpufeat.detection.crosscheck import disagreements
from cpufeat.detection.detect import detect
from cpufeat.detection.machine import Leaves, Machine
from cpufeat.detection.probe import x86_flags
from cpufeat.detection.recording import FACTS, QUESTIONS, Question, Recording
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CPUINFO, _VERSION = "/proc/cpuinfo", "/proc/version"


def record(machine: Machine) -> Recording:
    """Return a recording of whatever detection asks a machine, and of every CPUID leaf of each kind of core.

    No serial number and no name of the machine or of its users goes into it. Raises what :func:`cpufeat.detect` raises.
    """
    recorder = Recorder(machine)
    disagreements(recorder, detect(recorder))
    recorder.online_cpus()
    recording = recorder.recording()
    leaves = _all_leaves(machine, recorder)
    files = dict(recording.files)
    if _VERSION in files:
        files[_VERSION] = re.sub(rb"\(\S+@\S+\)", b"(who built it)", files[_VERSION])
    if _CPUINFO in files:
        cpuinfo = _without_serial_number(files[_CPUINFO])
        files[_CPUINFO] = _one_of_each_kind(cpuinfo) if leaves else cpuinfo
    return recording.replace(leaves=leaves, files=files)


def _all_leaves(machine: Machine, recorder: Recorder) -> dict[int, Leaves]:
    """Return every leaf of each processor that detection asked by number, or else of the one at hand."""
    cpus = sorted({cpu for _, _, cpu in recorder.answered["cpuid"] if cpu is not None})
    leaves = {cpu: all_leaves(machine, cpu) for cpu in cpus} or {0: all_leaves(machine)}
    return {cpu: of_cpu for cpu, of_cpu in leaves.items() if of_cpu}


def _without_serial_number(cpuinfo: bytes) -> bytes:
    return b"".join(line for line in cpuinfo.splitlines(True) if not line.lower().startswith(b"serial"))


def _one_of_each_kind(cpuinfo: bytes) -> bytes:
    """Leave out the processors that repeat an earlier one: where there is CPUID, it alone counts them."""
    kinds: dict[x86_flags.X86Processor, bytes] = {}
    for block in cpuinfo.split(b"\n\n"):
        for processor in x86_flags.from_cpuinfo(block):
            kinds.setdefault(processor, block.strip(b"\n") + b"\n")
    return b"\n".join(kinds.values())


class Recorder(Machine):
    """Passes every question on to a machine, and keeps its arguments and the answer."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.leaves: dict[int, Leaves] = machine.leaves
        self.answered: dict[str, dict[tuple[Any, ...], Any]] = {question.method: {} for question in QUESTIONS}
        self.__dict__.update({name: getattr(machine, name) for name in FACTS})

    def permitted_states(self) -> int:
        """Ask the machine; the answer is not recorded."""
        return self.machine.permitted_states()

    def recording(self) -> Recording:
        """Return the answers so far; those of a silent machine need no record."""
        silent = Machine()
        values: dict[str, Any] = {name: getattr(self, name) for name in FACTS}
        for question in QUESTIONS:
            answers = {
                arguments: answer
                for arguments, answer in self.answered[question.method].items()
                if answer != getattr(silent, question.method)(*arguments)
            }
            if answers:
                values[question.field] = question.answers.collect(answers)
        return Recording(**values)


def _pass_on(question: Question) -> Callable[..., Any]:
    """Return the method that asks a recorder's machine, with all arguments by position."""
    signature = inspect.signature(getattr(Machine, question.method))

    def method(self: Recorder, *arguments: Any, **named: Any) -> Any:
        bound = signature.bind(self, *arguments, **named)
        bound.apply_defaults()
        positional = bound.args[1:]
        answer = self.answered[question.method][positional] = getattr(self.machine, question.method)(*positional)
        return answer

    return method


for _question in QUESTIONS:
    setattr(Recorder, _question.method, _pass_on(_question))
