"""Input of a compilation: IR, bitcode, an llvmlite module or C comes in, a :class:`~.module.Source` goes out.

``module`` reads everything but C; ``clang`` compiles C to IR first.
"""
