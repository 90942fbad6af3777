"""Read files into images: sections, symbols, functions and pointers, the same for ELF, PE, COFF and Mach-O.

In: the content of a file. Out: an :class:`~cpufeat.auditing.formats.image.Image` for each binary in it. ``loader``
picks the reader by the first bytes: ``elf`` (with ``elf_headers``), ``macho`` or ``pe_coff`` (both with
``lief_reader``), or ``containers``. A reader gives sections their addresses and applies relocations (``relocation``),
and finds functions by symbols and unwind tables (``eh_frame``, ``function_bounds``).
"""
