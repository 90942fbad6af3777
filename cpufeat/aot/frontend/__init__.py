"""Read the input of a compilation, IR, bitcode, an llvmlite module or C, into a :class:`~.module.Source`.

``module`` reads everything but C; ``clang`` compiles C to IR first.
"""
