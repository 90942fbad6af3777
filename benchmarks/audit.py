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


def used(command: list[str]) -> tuple[float, float]:
    """Return the seconds that a command takes, and those that it computes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    passed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure in turns and print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    file = sys.argv[2] if len(sys.argv) > 2 else str(next(Path(binding.__file__).parent.glob("libllvmlite*")))
    objdump = shutil.which("objdump") or sys.exit("no objdump: apt-get install binutils")
    ways = {
        "objdump -d": [objdump, "-d", file],
        "cpufeat audit": [sys.executable, "-m", "cpufeat", "audit", file],
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            seconds[name].append(used(command))
    medians = {name: [statistics.median(one) for one in zip(*rows, strict=True)] for name, rows in seconds.items()}
    clock, computed = medians["objdump -d"]
    print(f"{file}: {Path(file).stat().st_size / 1e6:.0f} MB, {rounds} rounds in turns, medians\n")
    print(f"{'':16}{'seconds':>9}{'ratio':>8}{'CPU':>9}{'ratio':>8}")
    for name, (passed, worked) in medians.items():
        print(f"{name:16}{passed:9.2f}{passed / clock:8.2f}{worked:9.2f}{worked / computed:8.2f}")


if __name__ == "__main__":
    main()
