"""Follow the answers of the CPU to the branches that depend on them.

A program comes in (:mod:`cpufeat.auditing.program`), and its checks of the CPU go out. ``cpu_checks`` drives:
the ``interpreter`` goes through one function after another by the ``transfer`` function, which has models of ``memory``
and ``calls`` and works on the values of ``lattice``; ``queries`` are the functions and data that answer. What a
``frame`` collects, its ``effects``, is added to the ``facts`` until nothing is new. ``unavoidable_blocks`` and
``def_use`` answer questions about one control-flow graph, and ``def_use`` tells which callers read a result.

Where a check is not found, the answer is missing from ``queries``, or ``transfer``, ``memory`` or ``calls`` lost it.
"""
