"""Link objects into programs and shared libraries.

Objects, their triples and a name come in, a file is written: ``linker`` runs the driver of the system or of ``zig``,
and ``link_checks`` reads the result before it is kept.
"""
