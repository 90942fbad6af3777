"""What an ELF object holds, by pyelftools and iced-x86: sections, symbols and the encodings of its instructions."""

from __future__ import annotations

import io

import iced_x86
from elftools.elf.elffile import ELFFile

LEGACY, VEX, EVEX = iced_x86.EncodingKind.LEGACY, iced_x86.EncodingKind.VEX, iced_x86.EncodingKind.EVEX


def section(elf: bytes, name: str = ".text") -> bytes:
    """The content of a section."""
    content: bytes = ELFFile(io.BytesIO(elf)).get_section_by_name(name).data()
    return content


def symbols(elf: bytes) -> set[str]:
    """The names in the symbol table."""
    return {symbol.name for symbol in ELFFile(io.BytesIO(elf)).get_section_by_name(".symtab").iter_symbols()}


def decoded(elf: bytes) -> list[iced_x86.Instruction]:
    """The instructions of ``.text``, as 64-bit code."""
    return list(iced_x86.Decoder(64, section(elf)))


def encodings(elf: bytes) -> set[int]:
    """The encodings of the instructions of ``.text``: LEGACY, VEX, EVEX."""
    return {instruction.encoding for instruction in decoded(elf)}
