"""Read the structures of ELF, COFF and Mach-O files, and pack them, as LLVM's BinaryFormat library does.

For ``auditing`` and ``aot``: bytes come in, rows of tables go out, and rows are packed into bytes. Nothing here says
what they are for.
"""
