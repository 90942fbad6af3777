"""Real C kernels, compiled for a target, run with right results on the CPU that it stands for, and never die of SIGILL.

CPUs are emulated by qemu-user; those with AVX-512, which it cannot emulate, have to be this one.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.paths import KERNELS
from helpers.qemu import run
from llvmlite import binding

import cpufeat
from cpufeat import Target, aot, llvm_tables

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = ("dot", "scan", "matrix", "base64", "population")
TRIPLE = "x86_64-unknown-linux-musl"
ZIG_LLVM = 22
NO_AVX = "Haswell,-avx,-avx2,-fma,-f16c"


def zig(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-g0", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


class Workshop:
    """The kernels as unoptimized IR, and the checking program, to link with objects of theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checks = folder / "check.o"
        zig("-O1", "-ffreestanding", "-Wall", "-Wextra", "-Werror", "-c", KERNELS / "check.c", "-o", self.checks)
        self.modules = {name: folder / f"{name}.ll" for name in NAMES}
        for name, path in self.modules.items():
            source = KERNELS / f"{name}.c"
            zig("-O2", "-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm", "-Wall", "-Wextra", source, "-o", path)

    def program(self, target: Target) -> Path:
        """Compile the kernels for a target with cpufeat, and link them."""
        for_musl = target.replace(triple=TRIPLE)
        return self.link(aot.compile(path, for_musl, opt=3, guard=False).object for path in self.modules.values())

    def link(self, objects: Iterable[bytes]) -> Path:
        """Link objects of the kernels with the checks."""
        number = len(list(self.folder.iterdir()))
        paths = [self.folder / f"{number}-{name}.o" for name in NAMES]
        for path, content in zip(paths, objects, strict=True):
            path.write_bytes(content)
        program = self.folder / f"{number}-program"
        zig("-nostdlib", "-static", self.checks, *paths, "-o", program)
        return program


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    if llvm_tables.installed() < ZIG_LLVM:
        pytest.skip(f"the IR that ziglang writes is of LLVM {ZIG_LLVM}: pip install 'llvmlite>=0.48'")
    return Workshop(tmp_path_factory.mktemp("kernels"))


def outcome(process: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """How a checking program ended, and which kernels it found wrong."""
    return process.returncode, process.stdout


RIGHT = (0, "")
DIED = (-signal.SIGILL, "")


def run_here(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("request_", "cpu", "too_little"),
    [
        ("x86-64", "Opteron_G1,-pni", None),
        ("x86-64-v2", "Nehalem", "Opteron_G1,-pni"),
        ("x86-64-v3", "Haswell", "Nehalem"),
        ("haswell-avx", NO_AVX, "Opteron_G1,-pni"),
        ("skylake-avx512-avx512f", "Skylake-Server", NO_AVX),
    ],
)
def test_code_for_a_target_runs_on_that_cpu(
    workshop: Workshop, qemu: str, request_: str, cpu: str, too_little: str | None
) -> None:
    """And dies on a lesser one, which shows that it uses what it may."""
    program = workshop.program(Target.parse(request_))
    assert outcome(run(qemu, cpu, [str(program)])) == RIGHT
    if too_little:
        assert outcome(run(qemu, too_little, [str(program)])) == DIED


@pytest.mark.parametrize(
    "cpu",
    [
        *("Opteron_G1", "Conroe", "Penryn", "phenom", "SandyBridge", "Haswell", "Haswell,-avx", "EPYC"),
        *("Icelake-Server", "max"),
    ],
)
def test_code_for_the_features_detected_on_a_cpu_runs_there(workshop: Workshop, qemu: str, cpu: str) -> None:
    ask = "import cpufeat; print(cpufeat.target_for_host('native').to_json())"
    answer = run(qemu, cpu, [sys.executable, "-c", ask], {"PYTHONPATH": str(Path(cpufeat.__file__).parent.parent)})
    program = workshop.program(Target.from_json(answer.stdout))
    assert outcome(run(qemu, cpu, [str(program)])) == RIGHT


def test_code_for_this_machine_runs_here(workshop: Workshop) -> None:
    assert outcome(run_here(workshop.program(cpufeat.target_for_host("native")))) == RIGHT


def test_code_for_the_highest_level_runs_here(workshop: Workshop) -> None:
    target = Target.parse("x86-64-v4")
    missing = target.missing_on(cpufeat.detect())
    if missing:
        pytest.skip(f"needs a CPU with {', '.join(missing)}, which qemu-user cannot emulate")
    assert outcome(run_here(workshop.program(target))) == RIGHT


def test_code_for_a_cpu_name_without_features_crashes(workshop: Workshop, qemu: str) -> None:
    """A compiler that trusts the name of a CPU: what the tests above would see of it."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(TRIPLE).create_target_machine(cpu="haswell", features="", opt=3)

    def compiled(path: Path) -> bytes:
        text = re.sub(r'"(target-cpu|target-features|tune-cpu)"="[^"]*"', "", path.read_text())
        module = binding.parse_assembly(text)
        passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(module, passes)
        return machine.emit_object(module)

    program = workshop.link(compiled(path) for path in workshop.modules.values())
    assert outcome(run(qemu, "Haswell", [str(program)])) == RIGHT
    assert outcome(run(qemu, NO_AVX, [str(program)])) == DIED
