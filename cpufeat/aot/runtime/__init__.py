"""Emit the IR that ships inside binaries: CPU detection, the choice among variants, and the start-up guard.

Targets come in, text of LLVM IR goes out. ``detection`` gives the ``feature_tests`` of a system (``detection_x86``,
``detection_aarch64``). Three modules use it: ``selector`` picks a variant and honours ``CPUFEAT_DISABLE``
(``disable``); ``dispatcher`` emits the symbol that leads to the picked variant (``forwarding`` its arguments);
``guard`` ends a program that the CPU cannot run, by the ``guard_table``.
"""
