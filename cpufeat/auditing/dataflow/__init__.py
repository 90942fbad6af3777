"""Data flow from answers of the CPU to the branches that depend on them.

A program comes in (:mod:`cpufeat.auditing.program`), and its checks of the CPU go out. ``cpu_checks`` drives: it has
the ``interpreter`` go through one function after another (each in a ``frame``, with ``memory``, ``calls`` and the
values of ``lattice``; ``queries`` are the functions and data that answer), and adds the ``effects`` to the ``facts``
until nothing is new. ``reachability`` and ``def_use`` answer questions about one control-flow graph.
"""
