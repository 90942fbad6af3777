"""A machine of which some or all is hidden: the next source is asked, and a process has at least its baseline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from helpers.environment import ENVIRONMENT
from helpers.machines import INTEL, leaves

import cpufeat
from cpufeat.detection import instructions
from cpufeat.detection.detect import detect
from cpufeat.detection.machine import AT_HWCAP, AT_PLATFORM, Machine
from cpufeat.detection.recorder import record
from cpufeat.detection.recording import Recording
from cpufeat.detection.systems import ThisMachine
from cpufeat.features import FeatureSet
from cpufeat.levels import baseline, level_features
from cpufeat.tables import architectures

if TYPE_CHECKING:
    from cpufeat.detection.instructions import Registers

ARCHITECTURES = [architecture.arch for architecture in architectures()]
FLAGS = b"vendor_id: GenuineIntel\ncpu family: 6\nmodel: 60\nflags: fpu cx8 cmov mmx fxsr sse sse2 lm pni nopl\n"


class Silent(Machine):
    """A process on a machine that answers nothing."""

    origin, system, libc = "process", "linux", "gnu"

    def __init__(self, arch: str) -> None:
        self.arch = arch


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_process_has_the_baseline_of_its_architecture(arch: str) -> None:
    host = detect(Silent(arch))
    assert (host.features, host.level) == (level_features(arch, baseline(arch)), baseline(arch))
    assert set(host.evidence.values()) <= {f"runs {arch}"}


def test_what_a_silent_machine_lacks_cannot_be_seen() -> None:
    for arch, name in (("x86_64", "avx2"), ("aarch64", "sve"), ("riscv64", "v"), ("s390x", "vector")):
        why = detect(Silent(arch)).why_missing(name)
        assert (why.reason, why.evidence) == ("cannot be seen", "neither the processor nor the system answers")


def test_what_another_program_wrote_proves_no_baseline() -> None:
    with pytest.raises(cpufeat.CpufeatError, match="nothing can be read"):
        detect(Recording(arch="x86_64"))


def test_a_recording_of_a_silent_process_replays_it() -> None:
    for arch in ARCHITECTURES:
        recorded = record(Silent(arch))
        again = Recording.from_json(recorded.to_json())
        assert (recorded.origin, detect(again)) == ("process", detect(Silent(arch)))


EMIT = """
import json, sys
import cpufeat
from cpufeat.detection.recording import Recording
from llvmlite import binding

for arch in json.loads(sys.argv[1]):
    target = cpufeat.Target.of(cpufeat.detect(Recording(arch=arch, origin="process")))
    module = binding.parse_assembly("define i32 @f(i32 %a) { ret i32 %a }")
    module.triple = target.triple
    print(arch, len(target.create_target_machine().emit_object(module)) > 0)
"""


def test_code_for_a_silent_machine_of_each_architecture_can_be_generated() -> None:
    """Without the baseline LLVM ends the process: ``64-bit code requested on a subtarget that doesn't support it``."""
    command = [sys.executable, "-c", EMIT, json.dumps(ARCHITECTURES)]
    process = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (process.stderr, process.stdout.split("\n")[:-1]) == ("", [f"{arch} True" for arch in ARCHITECTURES])


@pytest.mark.parametrize(
    "arch", [architecture.arch for architecture in architectures() if architecture.requires], ids=str
)
def test_no_target_machine_ends_the_process(arch: str) -> None:
    with pytest.raises(cpufeat.TargetError, match="LLVM ends the process instead of generating code without"):
        cpufeat.Target(arch, "generic", FeatureSet(arch)).create_target_machine()


def test_what_llvm_takes_for_granted_may_not_be_missing() -> None:
    """``SSE register return with SSE disabled`` ends the process too."""
    lowest = level_features("x86_64", "x86-64")
    with pytest.raises(cpufeat.TargetError, match=r"code without sse, sse2$"):
        cpufeat.Target("x86_64", "haswell", lowest.without(["sse"])).create_target_machine()
    assert cpufeat.Target("x86_64", "haswell", lowest).create_target_machine()


# --- an empty answer is no answer


class Zeros(Recording):
    """CPUID answers zeros, as where an emulator or a tracer traps it."""

    def cpuid(self, leaf: int, subleaf: int = 0, cpu: int | None = None) -> Registers | None:
        return 0, 0, 0, 0


def test_the_kernel_is_asked_where_cpuid_answers_zeros() -> None:
    host = detect(Zeros(files={"/proc/cpuinfo": FLAGS}))
    assert (host.source, host.level, host.model) == ("/proc/cpuinfo", "x86-64", 60)
    assert "sse3" in host.features


def test_flags_for_another_architecture_leave_a_process_its_baseline() -> None:
    """``lm`` is what tells a CPU that runs 64-bit code; LLVM generates none without."""
    flags = FLAGS.replace(b" lm ", b" ").replace(b" sse2 ", b" ")
    host = detect(Recording(origin="process", files={"/proc/cpuinfo": flags}))
    assert (host.source, host.level, host.model) == ("/proc/cpuinfo", "x86-64", 60)
    assert (host.evidence["sse"], host.evidence["sse2"]) == ("/proc/cpuinfo flag sse", "runs x86_64")


@pytest.mark.parametrize("content", [b"", b"\n", b"processor: 0\nvendor_id: GenuineIntel\ncpu family: 6\nmodel: 60\n"])
def test_a_list_of_processors_without_flags_is_no_list_of_features(content: bytes) -> None:
    answer: dict[str, Any] = {"flags": ["fpu", "sse", "sse2", "pni", "lm", "cx8", "cmov", "mmx", "fxsr", "nopl"]}
    host = detect(Recording(origin="process", files={"/proc/cpuinfo": content}, cpuinfo=answer))
    assert host.source == "py-cpuinfo"
    assert "sse3" in host.features
    silent = detect(Recording(origin="process", files={"/proc/cpuinfo": content}))
    assert (silent.level, silent.features) == ("x86-64", level_features("x86_64", "x86-64"))
    assert silent.model == (60 if b"model" in content else None)


def test_a_cpu_that_runs_the_process_is_taken_at_its_word() -> None:
    """A K6-2 runs 32-bit code and has no CMOV, which is in the baseline of this project's ``i686``."""
    words = leaves("AuthenticAMD", 5, 8, 0, {"x87", "cx8", "mmx", "3dnow"})
    host = detect(Recording(arch="i686", origin="process", leaves={0: words}))
    assert "cmov" not in host.features
    assert (host.cpu, detect(Recording(arch="i686", leaves={0: words})).features) == ("k6-2", host.features)
    haswell = leaves(INTEL, 6, 60, 3, {"64bit", "avx2"})
    of_process, of_dump = (detect(Recording(leaves={0: haswell}, xcr0=7, origin=origin)) for origin in ("process", ""))
    assert of_process == of_dump


# --- this machine, without /proc and without memory that may become executable


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This machine as ``ProcSubset=pid`` of systemd, or a chroot without /proc, shows it."""
    read_file = ThisMachine.read_file
    hidden = lambda self, path: None if path.startswith("/proc/") else read_file(self, path)  # noqa: E731
    monkeypatch.setattr(ThisMachine, "read_file", hidden)
    monkeypatch.setattr(ThisMachine, "py_cpuinfo", lambda self: None)
    return ThisMachine()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_the_c_library_has_the_auxiliary_vector_where_proc_is_hidden(without_proc: Machine) -> None:
    with open("/proc/self/auxv", "rb") as file:  # noqa: PTH123
        vector = file.read()
    words = [int.from_bytes(vector[at : at + 8], sys.byteorder) for at in range(0, len(vector), 8)]
    expected = dict(zip(words[::2], words[1::2], strict=True))
    del expected[0]  # the end
    if without_proc.arch == "x86_64":
        del expected[AT_HWCAP]  # for which glibc has a number of its own
    assert {kind: without_proc.getauxval(kind) for kind in expected} == expected
    assert without_proc.getauxval(9999) is None
    assert without_proc.auxv_string(AT_PLATFORM)
    assert record(without_proc).auxv.items() <= expected.items()


def test_this_machine_without_proc_is_the_same(without_proc: Machine) -> None:
    here, expected = detect(without_proc), cpufeat.detect()
    assert (here.source, here.cpu, here.features) == (expected.source, expected.cpu, expected.features)


def test_this_machine_without_proc_and_instructions_has_its_baseline(
    without_proc: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "load", lambda arch: None)
    host = detect(without_proc)
    assert host.level == baseline(host.arch)
    assert detect(Recording.from_json(record(without_proc).to_json())) == host


ASK = "import cpufeat; host = cpufeat.detect(); print(host.source, host.cpu, host.level, len(host.features))"


def test_detection_is_the_same_under_an_empty_proc() -> None:
    """For real: a namespace of this process's own, in which an empty folder covers /proc."""
    unshare = shutil.which("unshare")
    script = f"mount -t tmpfs none /proc && exec {sys.executable} -c '{ASK}'"
    command = [unshare or "", "--map-root-user", "--mount", "sh", "-c", script]
    if not unshare or subprocess.run([*command[:-1], "mount -t tmpfs none /proc"], check=False).returncode:
        pytest.skip("this process may not mount")
    here, there = (
        subprocess.run(one, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
        for one in ([sys.executable, "-c", ASK], command)
    )
    assert here == there
