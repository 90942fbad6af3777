"""Build the program that runs an instruction of each feature, and read what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.run_emitted_ir import compile_all, features_text, selectable_features  # noqa: E402

from cpufeat.features import table  # noqa: E402

HERE = Path(__file__).parent
TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
"""The architectures that have a table of instructions."""
_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
_TILES = """.macro tiles
movb $1, (%rdi)
.irp tile, 0, 1, 2, 3, 4, 5, 6, 7
movw $64, 16+2*\\tile(%rdi)
movb $16, 48+\\tile(%rdi)
.endr
ldtilecfg (%rdi)
.endm
"""
_STORED = ("d8, d9, [sp, #-64]!", "d10, d11, [sp, #16]", "d12, d13, [sp, #32]", "d14, d15, [sp, #48]")
_LOADED = (*_STORED[1:], "d8, d9, [sp], #64")
_FRAMES = {
    "x86_64": (_TILES, [f"pushq %{name}" for name in _SAVED], [f"popq %{name}" for name in reversed(_SAVED)]),
    "aarch64": ("", [f"stp {pair}" for pair in _STORED], [f"ldp {pair}" for pair in _LOADED]),
}
"""Of each architecture: macros, and what saves and restores the registers that a function must preserve."""


class Probe(NamedTuple):
    """A row of the table: the instructions of a feature."""

    feature: str
    code: str
    """Assembly, empty where nothing is run."""
    result: int | None
    """What a register holds afterwards; None: without the feature the instructions fault."""
    note: str


class Executed(NamedTuple):
    """What the program found in one place."""

    ran: dict[str, bool]
    """Whether the instructions of each feature did what they do where it is there."""
    how: dict[str, str]
    """The same in words."""
    guard: dict[str, bool]
    """Whether detection as cpufeat emits it into programs finds each feature that it can test."""


def probes(arch: str) -> list[Probe]:
    """Return the rows of an architecture's table."""
    lines = (HERE / f"{arch}.tsv").read_text(encoding="utf-8").splitlines()
    _, *rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return [
        Probe(feature, "" if code == "-" else code, None if result == "-" else int(result), note)
        for feature, code, result, note in rows
    ]


def build(arch: str, folder: Path) -> Path:
    """Build the program for Linux in a folder, with Zig's clang, which knows the newest mnemonics; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    run = [probe for probe in probes(arch) if probe.code]
    macros, saves, restores = _FRAMES[arch]
    lines = [macros, ".text"]
    for probe in run:
        name = f"run_{probe.feature}"
        lines += [f".globl {name}", f"{name}:", *saves, *probe.code.split("; "), *restores, "ret"]
    (folder / "probes.s").write_text("\n".join(lines) + "\n")
    triple = TRIPLES[arch]
    names = [f"GUARD({name})\n" for name in selectable_features(triple)]
    (folder / "names.h").write_text("".join(names + [f"PROBE({probe.feature})\n" for probe in run]))
    compile_all(sys.executable, {"detection.o": (features_text(triple), triple, 2)}, folder)
    sources = [str(HERE / "run.c"), "probes.o", "detection.o"]
    target = [sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-musl"]
    _compile([*target, *_everything(arch, target, folder), "-c", "probes.s"], folder)
    here = f"-I{folder.resolve()}"  # Zig keeps objects by their options: `.` would be that of another folder
    _compile([*target, "-O1", "-static", here, "-o", "run", *sources], folder)
    return folder / "run"


def _everything(arch: str, target: list[str], folder: Path) -> list[str]:
    """Return the option that lets the assembler take what it knows; the one for x86 takes everything unasked."""
    if arch == "x86_64":
        return []
    command = [*target, "-mcpu=generic+?", "-c", "probes.s"]
    asked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    known = set(re.findall(r"^ (\w+): ", asked.stderr, re.MULTILINE))
    features = [name for name, row in table(arch).items() if row.kind == "isa" and name in known]
    return ["-mcpu=" + "+".join(["generic", *features])]


def _compile(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr)


def executed(arch: str, output: str) -> Executed:
    """Read what the program printed. Raises ValueError where it did not end."""
    expected = {probe.feature: probe.result for probe in probes(arch) if probe.code}
    ran, how, guard = {}, {}, {}
    for kind, name, *values in (line.split() for line in output.splitlines()):
        if kind == "guard":
            guard[name] = values == ["1"]
        elif kind == "run":
            number, result = map(int, values)
            other = expected[name] not in (None, result)
            ran[name] = not number and not other
            how[name] = f"signal {number}" if number else f"left {result}" if other else "ran"
    if ran.keys() != expected.keys():
        raise ValueError(f"the program ended after {len(ran)} of {len(expected)} features")
    return Executed(ran, how, guard)
