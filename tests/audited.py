"""Binaries for audits to look at, made by zig's C compiler and assembler for any system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ZIG = (sys.executable, "-m", "ziglang")
KERNELS = Path(__file__).parent / "kernels"
SOURCES = ("dot.c", "matrix.c", "population.c", "scan.c")
SYSTEMS = {"ELF": "linux-gnu", "Mach-O": "macos", "COFF": "windows-gnu"}
"""The systems whose objects are of those formats."""


def build(output: Path, *arguments: str | Path, triple: str, cpu: str = "baseline") -> Path:
    """Compile or link something."""
    command = [*ZIG, "cc", "-target", triple, f"-mcpu={cpu}", "-g0", "-o", str(output), *map(str, arguments)]
    subprocess.run(command, check=True)
    return output


def kernels(folder: Path, *, triple: str, cpu: str = "baseline", name: str = "dot.c") -> Path:
    """Compile one of the kernels to an object."""
    options = ["-O3", "-mprefer-vector-width=512"] if triple.startswith("x86_64") else ["-O3"]
    return build(folder / f"{name}-{triple}-{cpu}.o", *options, "-c", KERNELS / name, triple=triple, cpu=cpu)


def assembled(folder: Path, text: str, *, triple: str = "x86_64-linux-gnu", cpu: str = "baseline") -> Path:
    """Assemble a text."""
    source = folder / "text.s"
    source.write_text(text)
    return build(folder / "text.o", "-c", source, triple=triple, cpu=cpu)
