"""Programs to link and run, and what tools show of them."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile

from cpufeat import Target, llvm_tables
from helpers.requirements import tool

if TYPE_CHECKING:
    from pathlib import Path

HERE, MUSL = "x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"
BASELINE = Target.parse("x86-64")
MAIN = "define i32 @main() { ret i32 42 }"
TWICE = "define i32 @twice(i32 %a) { %r = shl i32 %a, 1\nret i32 %r }\n"

needs_clang = pytest.mark.skipif(llvm_tables.installed() < 22, reason="ziglang's clang writes IR of LLVM 22")


def run(*command: str | Path, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command, and capture what it writes."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=timeout, **options)


def elf(path: Path) -> ELFFile:
    """What pyelftools reads of a file."""
    return ELFFile(io.BytesIO(path.read_bytes()))


def looked_at(path: Path, *arguments: str) -> list[str]:
    """What LLVM's own reader says of a file, without the file's name."""
    process = run(tool("llvm-objdump"), *arguments, path)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout.splitlines()[2:]
