"""Lift instructions to steps, which say what they do to registers, flags, memory and control flow.

The bytes of a function come in, and its steps go out, in the terms of ``semantics``. ``x86`` lifts by iced-x86.
``aarch64`` lifts each word by ``aarch64_decoder``; the addresses that take two instructions are found by
``aarch64_constants``, jump tables by ``aarch64_jump_tables``.
"""
