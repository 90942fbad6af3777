"""Measure the speed of compiled code: ``cpufeat.aot`` against ``zig cc -O3 -march=native`` on the same C kernels.

    python benchmarks/kernels.py [ROUNDS]

Every kernel of tests/programs/kernels is compiled into shared libraries: by Zig for this CPU, and by cpufeat for this
CPU, for each level that runs here, and as a library of three variants. In each round every library runs every kernel,
in changing order. The table shows medians and their ratio to Zig's; below it, the library of variants is compared with
the best of its targets. Needs Linux on x86-64, ziglang, and llvmlite 0.48 or newer.
"""

from __future__ import annotations

import ctypes
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cpufeat
from cpufeat import Target, aot

if TYPE_CHECKING:
    from collections.abc import Callable

KERNELS = Path(__file__).parent.parent / "tests" / "programs" / "kernels"
NAMES = ("dot", "scan", "matrix", "base64", "population")
LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64")
VARIANTS = ("x86-64-v4", "x86-64-v3", "x86-64")
ZIG, NATIVE, TOGETHER = "zig cc -O3 -march=native", "cpufeat, native", "cpufeat, three variants"
COUNT, SIZE, ALIGNMENT = 1 << 16, 128, 64
SECONDS = 1e-3
"""How long a kernel is called repeatedly, in seconds."""


def zig(*arguments: str | Path) -> None:
    """Run Zig's C compiler, for position-independent code without sanitizers."""
    command = [sys.executable, "-m", "ziglang", "cc", "-fPIC", "-g0", "-fno-sanitize=undefined", *map(str, arguments)]
    subprocess.run(command, check=True)


def libraries(folder: Path) -> dict[str, Path]:
    """Compile the libraries; return their paths by name."""
    sources = [KERNELS / f"{name}.c" for name in NAMES]
    together = folder / "kernels.c"
    together.write_text("".join(f'#include "{source}"\n' for source in sources))
    paths = {ZIG: folder / "zig.so"}
    zig("-O3", "-march=native", "-shared", together, "-o", paths[ZIG])
    module = folder / "kernels.ll"
    plain = ("-target", "x86_64-linux-gnu", "-mcpu=x86_64", "-O3", "-Xclang", "-disable-llvm-passes")
    zig(*plain, "-S", "-emit-llvm", together, "-o", module)
    host = cpufeat.detect()
    targets = {f"cpufeat, {name}": Target.parse(name) for name in LEVELS}
    single = {NATIVE: cpufeat.target_for_host("native"), **targets}
    artifacts = {name: aot.compile(module, target, opt=3) for name, target in single.items() if target.runs_on(host)}
    artifacts[TOGETHER] = aot.compile(module, targets=VARIANTS, opt=3)
    for number, (name, artifact) in enumerate(artifacts.items()):
        paths[name] = folder / f"{number}.so"
        artifact.link(paths[name], kind="shared")
    return paths


class Data:
    """The data of the kernels, aligned, so that every library has the same conditions."""

    def __init__(self) -> None:
        self._keep: list[ctypes.Array[ctypes.c_char]] = []
        text = random.Random(1).randbytes(COUNT).replace(b"\xff", b"a")
        self.floats, self.more_floats = self.aligned(bytes(4 * COUNT)), self.aligned(bytes(4 * COUNT))
        self.doubles, self.more_doubles = self.aligned(bytes(8 * COUNT)), self.aligned(bytes(8 * COUNT))
        self.left, self.right, self.product = (self.aligned(bytes(8 * SIZE * SIZE)) for _ in range(3))
        self.bytes, self.text = self.aligned(text), self.aligned(bytes(4 * COUNT))
        self.words = self.aligned(random.Random(2).randbytes(8 * COUNT))

    def aligned(self, content: bytes) -> int:
        """Copy to memory that lives as long as this object, and return its address."""
        buffer = ctypes.create_string_buffer(len(content) + ALIGNMENT)
        self._keep.append(buffer)
        address = -(-ctypes.addressof(buffer) // ALIGNMENT) * ALIGNMENT
        ctypes.memmove(address, content, len(content))
        return address

    def calls(self, library: ctypes.CDLL) -> dict[str, Callable[[], object]]:
        """Return a call of each kernel, by name."""
        pointer, size = ctypes.c_void_p, ctypes.c_size_t

        def call(name: str, *arguments: object) -> Callable[[], object]:
            function = getattr(library, name)
            return lambda: function(*arguments)

        return {
            "dot_float": call("dot_float", pointer(self.floats), pointer(self.more_floats), size(COUNT)),
            "dot_double": call("dot_double", pointer(self.doubles), pointer(self.more_doubles), size(COUNT)),
            "scan": call("scan", pointer(self.bytes), pointer(self.bytes + COUNT), ctypes.c_uint8(0xFF)),
            "multiply": call("multiply", pointer(self.product), pointer(self.left), pointer(self.right), size(SIZE)),
            "base64": call("base64", pointer(self.text), pointer(self.bytes), size(COUNT)),
            "population": call("population", pointer(self.words), size(COUNT)),
        }


def seconds(call: Callable[[], object], repeat: int) -> float:
    """Return the average time of a call, over so many calls."""
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def measured(ways: dict[str, dict[str, Callable[[], object]]], rounds: int) -> dict[tuple[str, str], float]:
    """Return the median seconds of a call, by kernel and library."""
    medians: dict[tuple[str, str], float] = {}
    for kernel, call in ways[ZIG].items():
        call()
        repeat = max(1, round(SECONDS / seconds(call, 3)))
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name in random.sample(list(ways), len(ways)):
                runs[name].append(seconds(ways[name][kernel], repeat))
        medians.update({(kernel, name): statistics.median(times) for name, times in runs.items()})
    return medians


def main(rounds: int) -> None:
    """Measure and print the results."""
    data = Data()
    with tempfile.TemporaryDirectory() as folder:
        ways = {name: data.calls(ctypes.CDLL(str(path))) for name, path in libraries(Path(folder)).items()}
        medians = measured(ways, rounds)
    kernels = list(ways[ZIG])
    print(f"medians of {rounds} rounds, on {cpufeat.detect().cpu}; microseconds, then ratios")
    print(f"{'':26}" + "".join(f"{kernel:>12}" for kernel in kernels) + f"{'all':>8}")
    print(f"{ZIG:26}" + "".join(f"{medians[kernel, ZIG] * 1e6:12.2f}" for kernel in kernels))
    for name in list(ways)[1:]:
        _line(name, [medians[kernel, name] / medians[kernel, ZIG] for kernel in kernels])
    single = [name for name in ways if name.removeprefix("cpufeat, ") in VARIANTS]
    best = {kernel: min(medians[kernel, name] for name in single) for kernel in kernels}
    _line("variants : best of them", [medians[kernel, TOGETHER] / best[kernel] for kernel in kernels])


def _line(name: str, ratios: list[float]) -> None:
    print(f"{name:26}" + "".join(f"{ratio:12.3f}" for ratio in ratios) + f"{statistics.geometric_mean(ratios):8.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
