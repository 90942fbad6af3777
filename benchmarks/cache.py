"""Measure the time of a cache hit: ``aot.compile`` of a module that was compiled before, against compiling it.

    python benchmarks/cache.py [ROUNDS [FUNCTIONS]]

The cache is a temporary folder. "compiled" uses a worker process that already runs. "in a new process" is CPU time,
which other programs disturb less: that of the imports and the target, and that of the first call, which is a hit.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from compile import TARGET, generated

from cpufeat import CpufeatWarning, aot
from cpufeat.aot.cache import store

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_PROCESS = """
import sys, time, warnings
warnings.simplefilter("ignore")
start = time.process_time()
from cpufeat import Target
from cpufeat.aot import compile
target = Target.parse("x86-64-v3")
imported = time.process_time()
compile(sys.argv[1], target)
print(imported - start, time.process_time() - imported)
"""


def median(call: Callable[[], object], rounds: int) -> float:
    """Return the elapsed time of a call, in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def compiled(module: Path) -> None:
    """Compile, with the cache disabled."""
    os.environ[store.VARIABLE] = "0"
    aot.compile(module, TARGET)


def hit(module: Path, folder: str) -> None:
    """Compile, with the artifact in the cache."""
    os.environ[store.VARIABLE] = folder
    aot.compile(module, TARGET)


def in_a_new_process(module: Path) -> list[float]:
    """Return the CPU time of the imports and the target, and of a cache hit, in milliseconds, in a new process."""
    command = [sys.executable, "-c", NEW_PROCESS, str(module)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(seconds) * 1e3 for seconds in answer.split()]


def main(rounds: int = 100, functions: int = 400) -> None:
    """Measure and print the results."""
    warnings.simplefilter("ignore", CpufeatWarning)
    print(
        f"{'milliseconds, medians':24}{'compiled':>10}{'hit':>8}{'ratio':>8}{'in a new process: imports':>28}{'hit':>8}"
    )
    with tempfile.TemporaryDirectory() as private:
        folder = str(Path(private, "cache"))
        for kernels in (1, 20, functions):
            module = Path(private, f"{kernels}.ll")
            module.write_text(generated(kernels))
            compiled(module)
            slow = median(lambda: compiled(module), max(3, rounds // 10))  # noqa: B023
            hit(module, folder)
            fast = median(lambda: hit(module, folder), rounds)  # noqa: B023
            processes = [in_a_new_process(module) for _ in range(9)]
            imports, first = (statistics.median(column) for column in zip(*processes, strict=True))
            name = f"{module.stat().st_size / 1e3:,.0f} kB of IR"
            print(f"{name:24}{slow:10.1f}{fast:8.2f}{slow / fast:8.0f}{imports:28.1f}{first:8.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
