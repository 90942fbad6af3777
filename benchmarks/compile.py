"""Measure the overhead of compilation: ``aot.compile`` against the same LLVM passes called through llvmlite.

    python benchmarks/compile.py [ROUNDS [FUNCTIONS]]

The input is a generated module of over 1 MB of IR, as text and as bitcode, without attributes and with those that clang
writes; llvmlite always gets it without attributes, so that both do the same work. The programs run in turns. The table
shows medians of elapsed time, and the ratio of CPU time, which other programs disturb less. Needs Linux and llvmlite
0.44 or newer.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from typing import TYPE_CHECKING

from llvmlite import binding

from cpufeat import CpufeatWarning, Target, aot
from cpufeat.aot.worker import client

if TYPE_CHECKING:
    from collections.abc import Callable

KERNEL = """
define float @f{index}(ptr readonly %a, ptr readonly %b, i64 %n) #{group} {{
entry:
  %h0 = add i64 %n, {index}
{mixing}
  %empty = icmp eq i64 %h{last}, 0
  br i1 %empty, label %done, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %sum = phi float [ 0.0, %entry ], [ %more, %loop ]
  %p = getelementptr inbounds float, ptr %a, i64 %i
  %q = getelementptr inbounds float, ptr %b, i64 %i
  %x = load float, ptr %p, align 4
  %y = load float, ptr %q, align 4
  %product = fmul fast float %x, %y
  %more = fadd fast float %sum, %product
  %next = add nuw i64 %i, 1
  %end = icmp eq i64 %next, %n
  br i1 %end, label %done, label %loop
done:
  %result = phi float [ 0.0, %entry ], [ %more, %loop ]
  ret float %result
}}
"""
MIXING = 60
OPERATIONS = ("mul i64 %h{0}, 6364136223846793005", "lshr i64 %h{0}, 29", "xor i64 %h{0}, %h0", "add i64 %h{0}, %n")
CLANGS = '"target-cpu"="x86-64" "target-features"="+cmov,+cx8,+fxsr,+mmx,+sse,+sse2,+x87" "tune-cpu"="generic"'
TARGET = Target.parse("x86-64-v3")


def generated(kernels: int) -> str:
    """Return IR with so many functions: straight-line code, and a loop to vectorize."""
    steps = [OPERATIONS[step % len(OPERATIONS)].format(step) for step in range(MIXING)]
    mixing = "\n".join(f"  %h{step + 1} = {operation}" for step, operation in enumerate(steps))
    functions = [KERNEL.format(index=index, group=index % 2, mixing=mixing, last=MIXING) for index in range(kernels)]
    groups = [f"attributes #{index} = {{ {extra} {CLANGS} }}" for index, extra in enumerate(("nounwind", "uwtable"))]
    return "\n".join(['target triple = "x86_64-unknown-linux-gnu"', *functions, *groups])


def direct(source: str | bytes, opt: int) -> bytes:
    """Parse, verify, optimize and emit the module in this process, as the worker does."""
    parse = binding.parse_bitcode if isinstance(source, bytes) else binding.parse_assembly
    with binding.create_context() as context, parse(source, context) as module:
        module.verify()
        machine = binding.Target.from_triple(TARGET.triple).create_target_machine(
            cpu=TARGET.llvm_cpu(), features=TARGET.llvm_features(), opt=opt, reloc="pic", codemodel="default"
        )
        tuning = binding.create_pipeline_tuning_options(speed_level=opt)
        tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = opt >= 2
        builder = binding.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
        return bytes(machine.emit_object(module))


def used(call: Callable[[], object]) -> tuple[float, float]:
    """Return the elapsed time of a call, and the CPU time of this process and the worker, in seconds."""
    start, computed = time.perf_counter(), _computed()
    call()
    return time.perf_counter() - start, _computed() - computed


def _computed() -> float:
    """Return the CPU time so far, by the clock of a process that clock_getcpuclockid(3) returns on Linux."""
    worker = client._worker
    of_worker = time.clock_gettime(~worker.pid << 3 | 2) if worker else 0.0
    return time.process_time() + of_worker


def cold() -> None:
    """Start a new worker and compile an empty module."""
    if client._worker is not None:
        client._worker.finish()
    aot.compile("", TARGET)


def main(rounds: int = 5, functions: int = 400) -> None:
    """Measure and print the results."""
    os.environ["CPUFEAT_CACHE"] = "0"
    warnings.simplefilter("ignore", CpufeatWarning)
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    text = generated(functions)
    plain = text.replace(CLANGS, "noinline")
    bitcode, plain_bitcode = (binding.parse_assembly(source).as_bitcode() for source in (text, plain))
    cases: list[tuple[str, str | bytes, str | bytes, int]] = [
        ("text without attributes, opt 2", plain, plain, 2),
        ("text as clang writes it, opt 2", text, plain, 2),
        ("bitcode as clang writes it, opt 2", bitcode, plain_bitcode, 2),
        ("bitcode as clang writes it, opt 0", bitcode, plain_bitcode, 0),
        ("bitcode without attributes, opt 0", plain_bitcode, plain_bitcode, 0),
    ]
    print(f"{len(text) / 1e6:.2f} MB of IR, {len(bitcode) / 1e6:.2f} MB of bitcode; medians of {rounds} rounds")
    print(f"{'seconds':36}{'llvmlite':>10}{'cpufeat':>10}{'ratio':>8}{'ratio of CPU time':>20}")
    aot.compile("", TARGET)
    for name, source, without, opt in cases:
        ways = (lambda: direct(without, opt), lambda: aot.compile(source, TARGET, opt=opt))  # noqa: B023
        turns = [[part for way in ways for part in used(way)] for _ in range(rounds)]
        theirs, theirs_cpu, ours, ours_cpu = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"{name:36}{theirs:10.2f}{ours:10.2f}{ours / theirs:8.3f}{ours_cpu / theirs_cpu:20.3f}")
    warm = statistics.median(used(lambda: aot.compile("", TARGET))[0] for _ in range(20))
    started = statistics.median(used(cold)[0] for _ in range(5))
    print(f"an empty module: {warm * 1e3:.1f} ms with a warm worker, {started * 1e3:.0f} ms with one to start")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
