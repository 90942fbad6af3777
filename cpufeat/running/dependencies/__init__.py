"""Find what a program loads: its libraries and its loader, or the interpreter of a script.

In: a file, the root of the machine that has its libraries, and the features of the CPU, which choose among variants of
a library. Out: :class:`~cpufeat.running.dependencies.dependency.Dependencies`. ``follow`` picks the way by the format:
for ELF, ``elf_links`` reads what a file names, ``elf_search`` finds it as glibc's or musl's loader does
(``glibc_cache``), and ``elf_closure`` goes on from there. ``windows`` and ``darwin`` find what PE and Mach-O files
name (``closure``), ``script`` the interpreter of a script. ``root`` looks files up.
"""
