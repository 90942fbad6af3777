"""Transform the user's module before code generation.

Each takes a :class:`~cpufeat.aot.llvm.module_text.Module` and returns one. :mod:`cpufeat.aot.worker.codegen` runs them
in this order: ``target_attributes``, ``pre_guard`` (one target) or ``cloning`` (several), which decides by
``clone_plan``, refuses by ``clone_checks`` and clones debug information by ``clone_metadata``.
"""
