"""Measure the time of an audit: ``cpufeat audit`` of libLLVM from the llvmlite wheel against ``objdump -d``.

    python benchmarks/audit.py [ROUNDS [FILE]]

Each measurement is a whole process, with its output discarded; the programs run in turns. The table shows the medians
of elapsed time and CPU time, and their ratios.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from llvmlite import binding


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return its elapsed time and its CPU time in seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure in turns and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    file = sys.argv[2] if len(sys.argv) > 2 else str(next(Path(binding.__file__).parent.glob("libllvmlite*")))
    objdump = shutil.which("objdump") or sys.exit("no objdump: apt-get install binutils")
    commands = {
        "objdump -d": [objdump, "-d", file],
        "cpufeat audit": [sys.executable, "-m", "cpufeat", "audit", file],
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(measure(command))
    medians = {name: [statistics.median(times) for times in zip(*rows, strict=True)] for name, rows in seconds.items()}
    base_elapsed, base_cpu = medians["objdump -d"]
    print(f"{file}: {Path(file).stat().st_size / 1e6:.0f} MB, {rounds} rounds in turns, medians\n")
    print(f"{'':16}{'seconds':>9}{'ratio':>8}{'CPU':>9}{'ratio':>8}")
    for name, (elapsed, cpu) in medians.items():
        print(f"{name:16}{elapsed:9.2f}{elapsed / base_elapsed:8.2f}{cpu:9.2f}{cpu / base_cpu:8.2f}")


if __name__ == "__main__":
    main()
