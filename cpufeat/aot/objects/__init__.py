"""Edit object files as bytes: ELF, COFF and Mach-O.

LLVM's object and what is known about it come in, the object of an artifact goes out. ``finish`` does all of it: for ELF
``init_array`` and ``gnu_property``, for every format the ``note``, which chooses among ``elf``, ``coff`` and ``macho``.
``jit_object`` makes an object fit for linking into this process.
"""
