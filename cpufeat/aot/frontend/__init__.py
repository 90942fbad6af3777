"""Input modules: IR or C in, bytes for LLVM out.

``module`` reads IR text, bitcode and llvmlite modules; ``clang`` makes IR of C.
"""
