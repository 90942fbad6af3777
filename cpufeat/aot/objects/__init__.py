"""Object files as bytes: reading and rewriting ELF, COFF and Mach-O, and the note in them."""
