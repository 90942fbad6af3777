"""A just-in-time compiler on one page: build IR with llvmlite, compile it for this machine, call it.

    python compile_for_host.py [REQUEST]

The code may use every feature of this machine, or those that REQUEST permits (``x86-64-v2``, ``native-avx512f``).
"""

from __future__ import annotations

import ctypes
import sys

from llvmlite import ir

import cpufeat
from cpufeat import aot


def sum_of_squares() -> ir.Module:
    """Build a module with a C function that takes a ``double *`` and an ``int64_t`` count, 1 or more."""
    module = ir.Module("example")
    double, index = ir.DoubleType(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(double, [double.as_pointer(), index]), "sum_of_squares")
    numbers, count = function.args
    entry, loop, done = (function.append_basic_block(name) for name in ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    position, total = builder.phi(index), builder.phi(double)
    number = builder.load(builder.gep(numbers, [position]))
    # "fast" permits another order of additions; without it, a sum of doubles cannot be vectorized.
    new_total = builder.fadd(total, builder.fmul(number, number, flags=["fast"]), flags=["fast"])
    next_position = builder.add(position, index(1))
    position.add_incoming(index(0), entry)
    position.add_incoming(next_position, loop)
    total.add_incoming(double(0), entry)
    total.add_incoming(new_total, loop)
    builder.cbranch(builder.icmp_unsigned("<", next_position, count), loop, done)
    ir.IRBuilder(done).ret(new_total)
    return module


def main() -> None:
    """Compile and call the function; print its result and the target."""
    target = cpufeat.target_for_host(sys.argv[1] if sys.argv[1:] else None)
    library = aot.compile(sum_of_squares(), target, opt=3).load()
    prototype = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.POINTER(ctypes.c_double), ctypes.c_int64)
    function = prototype(library["sum_of_squares"])
    numbers = (ctypes.c_double * 1000)(*range(1000))
    print(f"{function(numbers, len(numbers)):.0f}, by code for {target.cpu} at {target.level}")


if __name__ == "__main__":
    main()
