"""What is tried: files to judge, and the command that runs them. Own cases are made here; see also ``foreign``."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = Path(__file__).resolve().parent / "cases"

ASKS_WRONGLY = "C that asks wrongly"
"""In place of a language: programs that ask for another feature, or take the answer the wrong way round."""
WRONG_QUESTIONS = ("inverted.c", "wrong_question.c")


class Subject(NamedTuple):
    """Files that a command runs."""

    name: str
    language: str
    """As the page's table has it: ``C``, ``Go``, ``Python wheels``."""
    command: tuple[str, ...]
    """An x86-64 program and its arguments."""
    files: tuple[Path, ...]
    """The files to judge: the program, or what it loads later. The worst verdict is that of the subject."""


class Feature(NamedTuple):
    """A feature that cases use: how GCC spells it, an instruction of it, and where CPUID reports it."""

    target: str
    code: str
    leaf: int
    register: int
    """0 to 3: EAX, EBX, ECX, EDX."""
    bit: int
    needs_ymm: bool


FEATURES = {
    "sse4_1": Feature("sse4.1", "pmulld %%xmm1, %%xmm1", 1, 2, 19, False),
    "popcnt": Feature("popcnt", "popcnt %%rcx, %%rcx", 1, 2, 23, False),
    "aes": Feature("aes", "aesenc %%xmm1, %%xmm1", 1, 2, 25, False),
    "avx": Feature("avx", "vaddps %%ymm1, %%ymm1, %%ymm1", 1, 2, 28, True),
    "fma": Feature("fma", "vfmadd231ps %%ymm1, %%ymm1, %%ymm1", 1, 2, 12, True),
    "avx2": Feature("avx2", "vpaddd %%ymm1, %%ymm1, %%ymm1", 7, 1, 5, True),
    "bmi2": Feature("bmi2", "pdepq %%rcx, %%rcx, %%rcx", 7, 1, 8, False),
    "avx512f": Feature("avx512f", "vpaddd %%zmm1, %%zmm1, %%zmm1", 7, 1, 16, True),
}
"""Of each level of x86-64, and between them. Source: Intel SDM volume 2, CPUID; GCC manual, x86 Built-in Functions."""
EVERYWHERE = ("sse4_1", "avx2", "avx512f")
"""The features that every case is built for as a program."""
SWEPT = ("unguarded.c", "by_libgcc.c", "by_cpuid.c")
"""The cases that are built for every feature."""
MARCHES = ("x86-64", "core2", "x86-64-v2", "sandybridge", "bdver2", "haswell", "x86-64-v3", "znver3", "x86-64-v4")
"""The values of ``-march`` that loops are compiled for."""
BUILDS = {
    "program": ("-O1", "-pie", "-fPIE"),
    "library": ("-O1", "-shared", "-fPIC", "-Dmain=run"),
    "stripped": ("-O2", "-s", "-no-pie", "-fno-pie"),
    "static": ("-O1", "-static"),
}
"""Options of the ways in which a case is built."""
STATIC = ("unguarded.c", "by_cpuid.c", "constructor.c", "ifunc.c", "vtable.cpp", "table_asked.c")
"""The cases that are linked statically: an audit of what GNU libc brings with it takes seconds."""
SAMPLE = (
    ("unguarded.c", "avx2", "program"),
    ("unguarded.c", "sse4_1", "stripped"),
    ("by_libgcc.c", "avx2", "program"),
    ("by_cpuid.c", "avx2", "library"),
    ("wrong_question.c", "sse4_1", "program"),
    ("inverted.c", "avx2", "program"),
    ("constructor.c", "sse4_1", "library"),
    ("ifunc.c", "avx2", "program"),
    ("resolver_itself.c", "avx2", "library"),
    ("thread_local.c", "avx2", "stripped"),
    ("table.c", "sse4_1", "program"),
    ("callback.c", "avx2", "library"),
)
"""Case, feature and build of those that the project's tests try."""


def own_cases(folder: Path) -> Iterator[Subject]:
    """Yield a subject for each case, feature and way to build it, compiled by GCC into a folder."""
    sources = sorted(path.name for path in CASES.glob("*.c*") if path.name not in ("march.c", "load.c"))
    for name in sources:
        for feature in FEATURES if name in SWEPT else EVERYWHERE:
            yield own_case(folder, name, feature, "program")
        for build in ("library", "stripped", *(["static"] if name in STATIC else [])):
            yield own_case(folder, name, "avx2", build)
    for march in MARCHES:
        for level in ("-O2", "-O3"):
            options = (level, f"-march={march}", "-ffp-contract=off")
            program = _compiled(folder / f"march{level}-{march}", CASES / "march.c", options)
            yield Subject(f"march.c, {march} {level}", "C", (str(program),), (program,))


def sample(folder: Path) -> Iterator[Subject]:
    """Yield a dozen of the own cases."""
    for source, feature, build in SAMPLE:
        yield own_case(folder, source, feature, build)


def own_case(folder: Path, source: str, feature: str, build: str) -> Subject:
    """Return the subject of one case (``vtable.cpp``), compiled by GCC into a folder."""
    path = CASES / source
    output = folder / f"{path.stem}-{feature}-{build}"
    _compiled(output, path, (*BUILDS[build], *_definitions(FEATURES[feature])))
    loader = [str(_compiled(folder / "load", CASES / "load.c", ("-O1",)))] if build == "library" else []
    language = ASKS_WRONGLY if source in WRONG_QUESTIONS else "C++" if path.suffix == ".cpp" else "C"
    return Subject(f"{source}, {feature}, {build}", language, (*loader, str(output)), (output,))


def _definitions(feature: Feature) -> tuple[str, ...]:
    values = {
        "TARGET": f'"{feature.target}"',
        "CODE": f'"{feature.code}"',
        "SUPPORTS": f'"{feature.target}"',
        "LEAF": feature.leaf,
        "REGISTER": feature.register,
        "BIT": feature.bit,
        "NEEDS_YMM": int(feature.needs_ymm),
    }
    return tuple(f"-D{name}={value}" for name, value in values.items())


def _compiled(output: Path, source: Path, options: tuple[str, ...]) -> Path:
    """Compile a source unless that was done before."""
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        compiler = "g++" if source.suffix == ".cpp" else "gcc"
        subprocess.run([compiler, "-w", *options, source, "-o", output], check=True)
    return output
