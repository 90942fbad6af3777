"""Read from an ELF file what it loads and where it searches for that (System V gABI, chapter 5, "Dynamic Section")."""

from __future__ import annotations

import re

from cpufeat.binary_format import elf, elf_dynamic
from cpufeat.binary_format.elf import MAGIC, Elf
from cpufeat.errors import AuditError
from cpufeat.support.value import Value

_NEEDED, _RPATH, _RUNPATH = 1, 15, 29
_AUXILIARY, _FILTER = 0x7FFFFFFD, 0x7FFFFFFF
_NODEFLIB = 0x800
_LONGEST_PATH = 4096
"""Bytes: PATH_MAX of Linux."""
_OPENS = frozenset({"dlopen", "dlmopen"})
_LOOKS_UP = frozenset({"dlsym", "dlvsym"})
_LIBRARY = re.compile(rb"(?<=\0)(?:[\w./+$~{}-]*/)?[\w.+-]+\.so(?:\.\d+)*(?=\0)")
_IDENTIFIER = re.compile(rb"(?<=\0)[A-Za-z_]\w*(?=\0)")


class ElfLinks(Value):
    """What an ELF file names to be loaded with it."""

    interpreter: str
    """The path of the loader that the file asks for; empty for a library and a static program."""
    needed: tuple[str, ...]
    """The names or paths of libraries, in the order in which they are loaded."""
    soname: str
    rpath: tuple[str, ...]
    """Folders to search for what this file needs, and what the files that it loads need; none beside a runpath."""
    runpath: tuple[str, ...] | None
    """Folders to search for what this file needs, after ``LD_LIBRARY_PATH``; None if it has no such list."""
    has_defaults: bool
    """Whether the folders of the system are searched for what it needs."""
    imports: frozenset[str] | None
    """The names of symbols that other files have to define; None for a file without section headers."""
    opens: tuple[str, ...]
    """Names of libraries in its constants, if it calls ``dlopen``."""
    looks_up: frozenset[str]
    """Constants that may be names of symbols, if it calls ``dlsym`` or is the loader."""


def kind_of(content: bytes) -> tuple[int, int, int]:
    """Return the class, byte order and machine of an ELF file's first bytes: libraries of another kind are skipped."""
    if not content.startswith(MAGIC) or len(content) < 20:
        return (0, 0, 0)
    return content[4], content[5], int.from_bytes(content[18:20], "little" if content[5] == 1 else "big")


def elf_links(content: bytes, name: str, *, is_loader: bool = False) -> ElfLinks:
    """Read the links of an ELF file. Raises AuditError for a damaged one.

    A loader looks symbols up itself, such as glibc's in libc.so.6.
    """
    file = Elf(content, lambda damage: AuditError(f"{name}: a damaged ELF file: {damage}"))
    rows = list(elf_dynamic.rows(file))
    dynamic = dict(rows)

    def texts(*tags: int) -> list[str]:
        return [elf_dynamic.text(file, dynamic, value) for tag, value in rows if tag in tags]

    runpath, rpath = texts(_RUNPATH), texts(_RPATH)
    imports = _imports(file)
    looks_up = is_loader or bool((imports or frozenset()) & _LOOKS_UP)
    return ElfLinks(
        interpreter=_interpreter(file),
        needed=tuple(texts(_NEEDED, _AUXILIARY, _FILTER)),
        soname=elf_dynamic.library_name(file, dynamic),
        rpath=() if runpath else tuple(folder for path in rpath for folder in path.split(":")),
        runpath=tuple(folder for path in runpath for folder in path.split(":")) if runpath else None,
        has_defaults=not dynamic.get(elf_dynamic.DT_FLAGS_1, 0) & _NODEFLIB,
        imports=imports,
        opens=tuple(dict.fromkeys(_constants(file, _LIBRARY))) if (imports or frozenset()) & _OPENS else (),
        looks_up=frozenset(_constants(file, _IDENTIFIER)) if looks_up else frozenset(),
    )


def _interpreter(file: Elf) -> str:
    segment = next((segment for segment in file.segments if segment.type == elf.PT_INTERP), None)
    if segment is None or file.header.type == elf.ET_REL:
        return ""
    path = file.content[segment.offset : segment.offset + min(segment.filesz, _LONGEST_PATH)]
    return path.partition(b"\0")[0].decode(errors="surrogateescape")


def _imports(file: Elf) -> frozenset[str] | None:
    tables = [index for index, section in enumerate(file.sections) if section.type == elf.SHT_DYNSYM]
    symbols = (symbol for index in tables for symbol in file.symbols(index))
    return frozenset(symbol.name for symbol in symbols if symbol.shndx == elf.SHN_UNDEF) if tables else None


def _constants(file: Elf, pattern: re.Pattern[bytes]) -> list[str]:
    """Return what matches in the constants of a file: data that is loaded, and not the names of its own symbols."""
    sections = (
        section
        for section in file.sections
        if section.flags & elf.SHF_ALLOC and not section.flags & elf.SHF_EXECINSTR and section.type == elf.SHT_PROGBITS
    )
    return [
        match[0].decode(errors="replace")
        for section in sections
        for match in pattern.finditer(b"\0" + bytes(file.content_of(section)) + b"\0")
    ]
