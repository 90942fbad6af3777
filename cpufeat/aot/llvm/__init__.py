"""Describe jobs for LLVM, write and parse textual IR, compare triples, and find llvmlite, for all of ``aot``.

``job`` is what LLVM is given and returns, ``builder`` writes textual IR, ``syntax`` and ``module_text`` parse it,
``triples`` compares triples, ``llvmlite_setup`` finds and initializes llvmlite. None of them loads llvmlite before it
is called.
"""
