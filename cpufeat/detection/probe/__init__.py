"""Parse what a machine answers, one module per source: the MIDR, ``/proc/cpuinfo``, an ISA string, lscpu, and so on.

A :class:`~cpufeat.detection.machine.Machine` comes in; identities, bits and values by name go out, which the modules of
:mod:`cpufeat.detection.arch` put together. :mod:`.bits` then finds the features that the bits stand for.
"""
