"""A just-in-time compiler in one page: IR made with llvmlite, compiled for this machine, called.

    python compile_for_host.py [REQUEST]

The code may use whatever this machine can run, or what REQUEST leaves of it (``x86-64-v2``, ``native-avx512f``).
"""

from __future__ import annotations

import ctypes
import sys

from llvmlite import ir

import cpufeat
from cpufeat import aot


def sum_of_squares() -> ir.Module:
    """Return a module with a C function of ``double *`` and how many (64 bits, 1 or more)."""
    module = ir.Module("example")
    double, index = ir.DoubleType(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(double, [double.as_pointer(), index]), "sum_of_squares")
    numbers, count = function.args
    entry, loop, done = (function.append_basic_block(name) for name in ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    at, total = builder.phi(index), builder.phi(double)
    number = builder.load(builder.gep(numbers, [at]))
    # "fast" lets LLVM add in another order, without which a sum of doubles cannot be vectorized.
    new_total = builder.fadd(total, builder.fmul(number, number, flags=["fast"]), flags=["fast"])
    following = builder.add(at, index(1))
    at.add_incoming(index(0), entry)
    at.add_incoming(following, loop)
    total.add_incoming(double(0), entry)
    total.add_incoming(new_total, loop)
    builder.cbranch(builder.icmp_unsigned("<", following, count), loop, done)
    ir.IRBuilder(done).ret(new_total)
    return module


def main() -> None:
    """Compile, call, and say for what that was."""
    target = cpufeat.target_for_host(sys.argv[1] if sys.argv[1:] else None)
    library = aot.compile(sum_of_squares(), target, opt=3).load()
    prototype = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.POINTER(ctypes.c_double), ctypes.c_int64)
    function = prototype(library["sum_of_squares"])
    numbers = (ctypes.c_double * 1000)(*range(1000))
    print(f"{function(numbers, len(numbers)):.0f}, by code for {target.cpu} at {target.level}")


if __name__ == "__main__":
    main()
