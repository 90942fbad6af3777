"""Measure what an audit costs: ``cpufeat audit`` of large libraries from PyPI against ``objdump -d`` of the same file.

    python benchmarks/audit.py [ROUNDS [FILE ...]] [--wheels FOLDER]

Without files, pip downloads the wheels of :data:`LIBRARIES`, to a folder that is kept or to a temporary one; libLLVM is
that of the installed llvmlite. Each measurement is a whole process; the two programs run in turns. The table shows the
medians of CPU time and elapsed time, their ratios to objdump's, the memory that the audit takes, and the CPU time per
million instructions, which says how the cost grows with the size. The files are ordered by size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

LIBRARIES = {
    "duckdb==1.0.0": "duckdb/duckdb.*.so",
    "pyarrow==14.0.2": "pyarrow/libarrow.so.*",
    "numpy==1.26.4": "numpy.libs/libopenblas*.so",
    "opencv-python-headless==4.9.0.80": "cv2/cv2.*.so",
    "polars-runtime-32": "*/_polars_runtime.*.so",
    "cryptography": "cryptography/hazmat/bindings/_rust.*.so",
}
"""A requirement of pip, and the largest library in its wheel."""
_MIB = 1 << 20


class Cost(NamedTuple):
    """What one process cost."""

    cpu: float
    """In seconds."""
    elapsed: float
    """In seconds."""
    memory: float
    """The most at once, in MiB."""


def measure(command: list[str], output: Path) -> Cost:
    """Run a command, which writes to a file, and return what it cost. Raises CalledProcessError."""
    start = time.perf_counter()
    with output.open("wb") as stream, subprocess.Popen(command, stdout=stream) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    elapsed = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(usage.ru_utime + usage.ru_stime, elapsed, usage.ru_maxrss * 1024 / _MIB)


def medians(costs: list[Cost]) -> Cost:
    """Return the median of each part of some costs."""
    return Cost(*(statistics.median(part) for part in zip(*costs, strict=True)))


def libraries(folder: Path) -> list[Path]:
    """Download the wheels to a folder, unless they are there, and return the libraries."""
    from llvmlite import binding

    found = [next(Path(binding.__file__).parent.glob("libllvmlite*"))]
    for requirement, pattern in LIBRARIES.items():
        unpacked = folder / requirement
        if not unpacked.exists():
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*pip, "--dest", str(folder / "wheels" / requirement), requirement], check=True)
            (wheel,) = (folder / "wheels" / requirement).glob("*.whl")
            zipfile.ZipFile(wheel).extractall(unpacked)
        found.append(next(unpacked.glob(pattern)))
    return found


def compare(file: Path, rounds: int, scratch: Path) -> tuple[Cost, Cost, int]:
    """Return what objdump and an audit of a file cost, and the number of its instructions."""
    objdump = shutil.which("objdump") or sys.exit("no objdump: apt-get install binutils")
    commands = [objdump, "-d", str(file)], [sys.executable, "-m", "cpufeat", "audit", "--json", str(file)]
    outputs = Path(os.devnull), scratch / "audit.json"
    costs = [
        [measure(command, output) for command, output in zip(commands, outputs, strict=True)] for _ in range(rounds)
    ]
    disassembly, audit = (medians(list(column)) for column in zip(*costs, strict=True))
    return disassembly, audit, json.loads(outputs[1].read_text())["instructions"]


def main() -> None:
    """Measure each file and print a line of the table."""
    parser = argparse.ArgumentParser(description="Compare the cost of audits with that of objdump -d.")
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--wheels", type=Path, help="the folder in which wheels are looked for and kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = options.files or libraries(options.wheels or Path(scratch))
        print(f"{options.rounds} rounds in turns, medians; seconds, and ratios to objdump -d\n")
        print(f"{'':44}{'MB':>5}{'CPU':>8}{'ratio':>7}{'wall':>8}{'ratio':>7}{'MiB':>6}{'CPU/Minstr.':>13}")
        for file in sorted(files, key=lambda file: file.stat().st_size):
            base, audit, instructions = compare(file, options.rounds, Path(scratch))
            print(
                f"{file.name[:43]:44}{file.stat().st_size / 1e6:5.0f}{audit.cpu:8.2f}{audit.cpu / base.cpu:7.2f}"
                f"{audit.elapsed:8.2f}{audit.elapsed / base.elapsed:7.2f}{audit.memory:6.0f}"
                f"{audit.cpu / max(instructions, 1) * 1e6:13.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
