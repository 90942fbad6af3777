"""Each benchmark runs to its end, once and at its smallest size; its figures are not checked."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.environment import ENVIRONMENT
from helpers.paths import KERNELS, PROJECT
from helpers.requirements import tool

if TYPE_CHECKING:
    from pathlib import Path

BENCHMARKS = sorted((PROJECT / "benchmarks").glob("*.py"))
TOOLS = {"audit": ("cc", "objdump"), "dispatch": ("cc",)}
SIZES = {"cache": ["2"], "compile": ["2"]}
"""Functions to compile, after the number of rounds."""


def test_there_are_benchmarks() -> None:
    assert {path.stem for path in BENCHMARKS} >= {"audit", "detect", "dispatch", "kernels", *SIZES}


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_runs(path: Path, tmp_path: Path) -> None:
    arguments = ["1", *SIZES.get(path.stem, ())]
    tools = [tool(name) for name in TOOLS.get(path.stem, ())]
    if path.stem == "audit":  # a small library in place of libLLVM
        library = tmp_path / "dot.so"
        subprocess.run([tools[0], "-shared", "-fPIC", KERNELS / "dot.c", "-o", library], check=True)
        arguments.append(str(library))
    command = [sys.executable, "-W", "error", str(path), *arguments]
    process = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.splitlines()) > 1, "a table"
