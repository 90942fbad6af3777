"""Programs x targets x CPUs: each run is right, or refused in words that are true; none ends by a signal.

The CPUs are every x86-64 model of qemu-user, and this machine. What a CPU can do says libgcc, in a program that runs
there as well; what a run should print says the same C by GCC for the baseline.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest
from helpers.paths import PROGRAMS, PROJECT
from helpers.qemu import NO_64_BIT, models, run, side_by_side
from helpers.requirements import tool

from cpufeat import Target, aot, llvm_tables
from cpufeat.features import find

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MATRIX = PROGRAMS / "matrix"
README = PROJECT / "README.md"
SAID = re.compile(r"runs (\d+) programs .* each of the (\d+) CPUs of qemu-user ([\d.]+)\. All ([\d,]+) runs", re.DOTALL)
HERE = "this machine"
GLIBC, MUSL = "x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"
TARGETS = {
    **{level: (level,) for level in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")},
    "haswell without avx2": ("haswell,-avx2",),
    "skylake-avx512 without avx512f": ("skylake-avx512,-avx512f",),
    "nehalem without popcnt": ("nehalem,-popcnt",),
    "znver5": ("znver5",),
    "v4, v3, baseline": ("x86-64-v4", "x86-64-v3", "x86-64"),
    "v3, v2, baseline": ("x86-64-v3", "x86-64-v2", "x86-64"),
    "v4, v3, no baseline": ("x86-64-v4", "x86-64-v3"),
    "haswell without avx2, v2": ("haswell,-avx2", "x86-64-v2"),
}
PROGRAMS_OF = {"kernels": ("dynamic", "static", "library"), "state": ("dynamic", "static")}
"""By module."""
BY_GUARD = re.compile(r"\S+: this CPU lacks: (?P<lacking>[\w, ]+) \(needed by this program, built for [\w.,+ -]+\)")
BY_LOADER = re.compile(r"\S+: CPU ISA level is lower than required")


class Program(NamedTuple):
    module: str
    kind: str
    target: str
    path: Path


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each module prints, compiled by GCC for the baseline."""
    folder = tmp_path_factory.mktemp("expected")
    return {
        name: subprocess.check_output([gcc(folder / name, MATRIX / f"{name}.c")], text=True) for name in PROGRAMS_OF
    }


def gcc(output: Path, *sources: Path | str) -> Path:
    compiler = tool("gcc")
    command = [compiler, "-O1", "-ffp-contract=off", *map(str, sources), "-o", str(output)]
    subprocess.run(command, check=True)
    return output


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Program]:
    """Every module for every target, as every kind of program."""
    folder = tmp_path_factory.mktemp("programs")
    main = folder / "main.o"
    gcc(main, "-c", MATRIX / "main.c")
    made = []
    for module, kinds in PROGRAMS_OF.items():
        for kind in kinds:
            triple = MUSL if kind == "static" else GLIBC
            source = aot.from_c(MATRIX / f"{module}.c", triple, ["-Dmain=run"] if kind == "library" else [])
            for number, (target, requests) in enumerate(TARGETS.items()):
                path = folder / f"{module}-{kind}-{number}"
                artifact = aot.compile(source, targets=[Target.parse(request, triple) for request in requests], opt=3)
                link(artifact, kind, path, main)
                made.append(Program(module, kind, target, path))
    return made


def link(artifact: aot.Artifact, kind: str, path: Path, main: Path) -> None:
    if kind != "library":
        artifact.link(path, arguments=["-static"] if kind == "static" else [])
        return
    library = path.with_suffix(".so")
    artifact.link(library, kind="shared")
    gcc(path, main, library, f"-Wl,-rpath,{path.parent}")


@pytest.fixture(scope="module")
def supported(qemu: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What libgcc finds on each CPU; models without 64-bit mode are left out."""
    program = gcc(tmp_path_factory.mktemp("supports") / "supports", MATRIX / "supports.c")
    cpus = [HERE, *models(qemu)]
    answers = side_by_side(lambda cpu: start(qemu, cpu, program), cpus)
    return {
        cpu: set(answer.stdout.split())
        for cpu, answer in zip(cpus, answers, strict=True)
        if NO_64_BIT not in answer.stderr
    }


def start(qemu: str, cpu: str, program: Path) -> subprocess.CompletedProcess[str]:
    if cpu == HERE:
        return subprocess.run([program], capture_output=True, text=True, check=False, timeout=120)
    return run(qemu, cpu, [str(program)])


def verdict(program: Program, run: subprocess.CompletedProcess[str], expected: str, supported: set[str]) -> str:
    """``right`` or ``refused``, else what is wrong."""
    if run.returncode == 0 and run.stdout == expected:
        return "right"
    by_guard, by_loader = BY_GUARD.search(run.stderr), BY_LOADER.search(run.stderr)
    if run.stdout:
        return f"printed something else: {run.stdout!r}"
    if run.returncode == 126 and by_guard:
        lies = [name for name in by_guard[1].split(", ") if in_gcc(name) in supported]
        return f"said to lack {lies}, which it has" if lies else "refused"
    if run.returncode in (1, 127) and by_loader:
        return "refused"
    return f"ended with {run.returncode}: {run.stderr!r}"


def in_gcc(name: str) -> str:
    """GCC's name for a feature in ``__builtin_cpu_supports``."""
    names = {"cx16": "cmpxchg16b", "sahf": "lahf_lm"}
    spelled = find("x86_64", name).spellings.get("gcc", (name,))[0]
    return names.get(name, spelled.replace("sse4_", "sse4."))


needs_clang = pytest.mark.skipif(llvm_tables.installed() < 22, reason="ziglang's clang writes IR of LLVM 22")


@needs_clang
def test_every_run_is_right_or_refused_in_words(
    qemu: str,
    programs: list[Program],
    expected: Mapping[str, str],
    supported: Mapping[str, set[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [(program, cpu) for program in programs for cpu in supported]
    ended = side_by_side(lambda pair: start(qemu, pair[1], pair[0].path), runs)
    count: Counter[str] = Counter()
    wrong = []
    for (program, cpu), process in zip(runs, ended, strict=True):
        fault = verdict(program, process, expected[program.module], supported[cpu])
        level = program.target
        if fault == "refused" and (level in supported[cpu] or level.endswith(", baseline")):
            fault = f"refused, though it has {level}"
        if fault in ("right", "refused"):
            count[fault] += 1
        else:
            wrong.append(f"{program.module}, {program.kind}, {level}, on {cpu}: {fault}")
    with capsys.disabled():
        total = f"{len(programs)} programs on {len(supported)} CPUs"
        print(f"\n{total}: {len(runs)} runs, {count['right']} right, {count['refused']} refused in words")  # noqa: T201
    assert wrong == []
    assert count["refused"]
    assert {program.target for program, cpu in runs if cpu == HERE} == TARGETS.keys()


@needs_clang
def test_the_readme_counts_what_is_run(qemu: str, programs: list[Program], supported: Mapping[str, set[str]]) -> None:
    """Its CPUs are those of one version of qemu-user: another may have more."""
    match = SAID.search(README.read_text(encoding="utf-8"))
    assert match
    cpus = int(match[2])
    assert (int(match[1]), match[4]) == (len(programs), f"{len(programs) * (cpus + 1):,}"), (
        "the other CPU is this machine"
    )
    if f"version {match[3]}." in subprocess.check_output([qemu, "--version"], text=True):
        assert cpus == len(supported) - 1
