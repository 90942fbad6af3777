"""Build binaries to audit, for any system, with zig's C compiler and assembler."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from helpers.paths import KERNELS

if TYPE_CHECKING:
    from pathlib import Path

ZIG = (sys.executable, "-m", "ziglang")
SOURCES = ("dot.c", "matrix.c", "population.c", "scan.c")
SYSTEMS = {"ELF": "linux-gnu", "Mach-O": "macos", "COFF": "windows-gnu"}
"""Format of objects -> a system that has it, in zig's triples."""


def build(output: Path, *arguments: str | Path, triple: str, cpu: str = "baseline") -> Path:
    """Run the compiler with those arguments, and return the output file."""
    command = [*ZIG, "cc", "-target", triple, f"-mcpu={cpu}", "-g0", "-o", str(output), *map(str, arguments)]
    subprocess.run(command, check=True)
    return output


def build_kernel(folder: Path, *, triple: str, cpu: str = "baseline", name: str = "dot.c") -> Path:
    """Compile one of the kernels of the benchmarks to an object."""
    options = ["-O3", "-mprefer-vector-width=512"] if triple.startswith("x86_64") else ["-O3"]
    return build(folder / f"{name}-{triple}-{cpu}.o", *options, "-c", KERNELS / name, triple=triple, cpu=cpu)


def assemble(folder: Path, text: str, *, triple: str = "x86_64-linux-gnu", cpu: str = "baseline") -> Path:
    """Assemble a text to an object."""
    source = folder / "text.s"
    source.write_text(text)
    return build(folder / "text.o", "-c", source, triple=triple, cpu=cpu)
