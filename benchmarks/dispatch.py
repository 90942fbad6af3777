"""Measure the overhead of variants: selecting one when a library is loaded, and calling a function through dispatch.

    python benchmarks/dispatch.py [ROUNDS]

A function is compiled for a single target, and as three variants: by cpufeat, dispatched by ``ifunc`` and by pointer,
and by GCC's ``target_clones`` if GCC is installed. In each round, one process per library, in changing order, loads it
and calls the function. The table shows medians, and the time added to that of the single target. Loading is dlopen(3)
and dlsym(3). Needs Linux on x86-64 with glibc, and a C compiler.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cpufeat import Target, aot

VARIANTS = ("x86-64-v4", "x86-64-v3", "x86-64")
SINGLE = "single target"
FUNCTION = "define i32 @step(i32 %a) { %b = mul i32 %a, 5\n %c = xor i32 %b, 77\n ret i32 %c }"
CLONES = """__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
int step(int a) { return a * 5 ^ 77; }"""
MAIN = """
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
#define CALLS 50000000
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * t.tv_sec + t.tv_nsec;
}
int main(int count, char **arguments) {
    now();
    double start = now();
    int (*step)(int) = (int (*)(int))dlsym(dlopen(arguments[1], RTLD_NOW), "step");
    double loaded = now();
    int value = count;
    for (int i = 0; i < CALLS; i++) value = step(value);
    printf("%f %f %d\\n", (loaded - start) / 1e3, (now() - loaded) / CALLS, value);
}
"""


def libraries(folder: Path) -> dict[str, Path]:
    """Compile and link the libraries."""
    artifacts = {
        SINGLE: aot.compile(FUNCTION, Target.parse("x86-64")),
        "cpufeat, ifunc": aot.compile(FUNCTION, targets=VARIANTS, dispatch="ifunc"),
        "cpufeat, pointer": aot.compile(FUNCTION, targets=VARIANTS, dispatch="pointer"),
    }
    paths = {name: folder / f"{number}.so" for number, name in enumerate(artifacts)}
    for name, artifact in artifacts.items():
        artifact.link(paths[name], kind="shared")
    gcc = shutil.which("gcc")
    if gcc:
        paths["gcc target_clones"] = folder / "gcc.so"
        compiled(gcc, folder, CLONES, "-shared", "-fPIC", "-o", paths["gcc target_clones"])
    return paths


def compiled(compiler: str, folder: Path, source: str, *arguments: str | Path) -> None:
    """Compile C with the system's compiler."""
    (folder / "source.c").write_text(source)
    subprocess.run([compiler, "-O2", folder / "source.c", *arguments], check=True)


def main() -> None:
    """Measure and print a table."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 30
    with tempfile.TemporaryDirectory() as private:
        folder = Path(private)
        compiled(shutil.which("cc") or sys.exit("no cc: apt-get install gcc"), folder, MAIN, "-o", folder / "measure")
        paths = libraries(folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
        for _ in range(rounds):
            for name in random.sample(sorted(paths), len(paths)):
                process = subprocess.run([folder / "measure", paths[name]], capture_output=True, text=True, check=True)
                loading, call, _ = process.stdout.split()
                times[name].append((float(loading), float(call)))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    print(f"{rounds} rounds, three variants against a single target; medians")
    print(f"{'':<20}{'loading, us':>13}{'added':>8}{'a call, ns':>13}{'added':>8}")
    for name, (loading, call) in medians.items():
        added = [loading - medians[SINGLE][0], call - medians[SINGLE][1]]
        print(f"{name:<20}{loading:>13.1f}{added[0]:>8.1f}{call:>13.2f}{added[1]:>8.2f}")


if __name__ == "__main__":
    main()
