"""Measure the time to detect the host CPU: cpufeat against archspec, llvmlite and py-cpuinfo.

    python benchmarks/detect.py [ROUNDS]

Each measurement is a whole process. The programs run in turns, so that a slow moment of the machine affects all of
them. "added" is the difference from a bare interpreter, of the medians and of the minima; load on the machine changes
the minima less. "CPU" is user and system time. Byte code is cached in a temporary folder, which an extra first round
fills.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BARE = "bare interpreter"
PROGRAMS = {
    BARE: "pass",
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
LINE = "{:<17}{:>9}{:>9}{:>12}{:>9}{:>9}{:>9}"


def environment(byte_code: str) -> dict[str, str]:
    """Return the environment of every process: this checkout of cpufeat, and byte code cached in a folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CPUFEAT_", "PYTHON"))}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**inherited, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": byte_code}


def run(code: str, variables: dict[str, str]) -> tuple[float, float]:
    """Run code in a process and return its elapsed time and its CPU time, both in milliseconds."""
    command = [sys.executable, "-c", code]
    start = time.perf_counter()
    _, status, used = os.wait4(os.posix_spawn(sys.executable, command, variables), 0)
    elapsed = time.perf_counter() - start
    if status:
        sys.exit(f"failed: {code}")
    return elapsed * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def main() -> None:
    """Measure and print a table."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 20
    with tempfile.TemporaryDirectory() as byte_code:
        variables = environment(byte_code)
        for code in PROGRAMS.values():
            run(code, variables)
        times = [{name: run(code, variables) for name, code in PROGRAMS.items()} for _ in range(rounds)]
        print(f"Python {sys.version.split()[0]}, {rounds} rounds, milliseconds")
        print(LINE.format("", "median", "added", "x cpufeat's", "minimum", "added", "CPU"))
        medians = {name: statistics.median(round_[name][0] for round_ in times) for name in PROGRAMS}
        minima = {name: min(round_[name][0] for round_ in times) for name in PROGRAMS}
        for name in PROGRAMS:
            added, added_minimum = medians[name] - medians[BARE], minima[name] - minima[BARE]
            ratio = added / (medians["cpufeat"] - medians[BARE])
            cpu = statistics.median(round_[name][1] for round_ in times)
            figures = (medians[name], added, ratio, minima[name], added_minimum, cpu)
            print(LINE.format(name, *(f"{figure:.1f}" for figure in figures)))
        print("a repeated call of target_for_host: ", end="", flush=True)
        run(REPEATED, variables)


if __name__ == "__main__":
    main()
