"""From files to images: ELF, PE, COFF, Mach-O and archives, as sections, symbols and functions."""
