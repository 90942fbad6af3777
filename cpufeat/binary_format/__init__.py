"""Read and write the structures of ELF files, for ``auditing`` and ``aot``, as LLVM's BinaryFormat library does.

Bytes come in, rows of tables go out, and rows are packed into bytes. Nothing here says what they are for.
"""
