"""What it costs a program to learn what to compile for: whole processes, from start to exit.

    python benchmarks/detect.py [ROUNDS]

The ways take turns, so that a slow moment of the machine falls on all. Added is to the bare interpreter: the difference
of the medians. CPU is user and system time. Byte code is kept in a folder of its own, which a first round fills.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
WAYS = {
    "bare interpreter": "pass",
    "cpufeat": "import cpufeat; cpufeat.target_for_host()",
    "archspec": "import archspec.cpu; archspec.cpu.host()",
    "llvmlite": "from llvmlite import binding; binding.get_host_cpu_name(); binding.get_host_cpu_features()",
    "py-cpuinfo": "import cpuinfo; cpuinfo.get_cpu_info()",
}
REPEATED = """
import timeit, cpufeat
cpufeat.target_for_host()
number = 100_000
print(f"{min(timeit.repeat(cpufeat.target_for_host, number=number)) / number * 1e6:.2f} us")
"""
LINE = "{:<17}{:>9}{:>9}{:>9}{:>9}{:>12}"


def environment(byte_code: str) -> dict[str, str]:
    """Return the variables for every process: this checkout's cpufeat, and byte code in that folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CPUFEAT_", "PYTHON"))}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": byte_code}


def run(code: str, variables: dict[str, str]) -> tuple[float, float]:
    """Run a process and return how long it took and what it took of the CPUs, in milliseconds."""
    command = [sys.executable, "-c", code]
    start = time.perf_counter()
    _, status, used = os.wait4(os.posix_spawn(sys.executable, command, variables), 0)
    elapsed = time.perf_counter() - start
    if status:
        sys.exit(f"failed: {code}")
    return elapsed * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def main() -> None:
    """Measure and print the table."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 20
    with tempfile.TemporaryDirectory() as byte_code:
        variables = environment(byte_code)
        for code in WAYS.values():
            run(code, variables)
        times = [{name: run(code, variables) for name, code in WAYS.items()} for _ in range(rounds)]
        print(f"Python {sys.version.split()[0]}, {rounds} rounds, milliseconds")
        print(LINE.format("", "median", "least", "CPU", "added", "x cpufeat's"))
        medians = {name: statistics.median(taken[name][0] for taken in times) for name in WAYS}
        bare = medians["bare interpreter"]
        for name, median in medians.items():
            least = min(taken[name][0] for taken in times)
            cpu = statistics.median(taken[name][1] for taken in times)
            added, ratio = median - bare, (median - bare) / (medians["cpufeat"] - bare)
            print(LINE.format(name, *(f"{value:.1f}" for value in (median, least, cpu, added, ratio))))
        print("a repeated call of target_for_host: ", end="", flush=True)
        run(REPEATED, variables)


if __name__ == "__main__":
    main()
