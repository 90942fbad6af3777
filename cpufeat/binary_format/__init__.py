"""The structures of object files, as LLVM's BinaryFormat library has them: ground that ``auditing`` and ``aot`` share.

Bytes come in, rows of tables go out, and rows are packed into bytes. Nothing here says what they are for.
"""
