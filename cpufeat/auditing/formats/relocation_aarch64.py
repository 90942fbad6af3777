"""The fields of AArch64 instructions in which relocations store addresses ("ELF for the Arm 64-bit Architecture")."""

from __future__ import annotations

from typing import NamedTuple

_PAGE = 4096
TABLE = 1 << 15
"""Bytes of the table of pointers that small position-independent code has (GCC's ``-fpic``)."""
_VECTOR, _OPCODE_HIGH = 1 << 26, 1 << 23


class Field(NamedTuple):
    """Bits of an instruction, and what they count."""

    name: str
    bits: int
    start: int
    unit: int
    """In bytes."""


BRANCH26 = Field("B, BL", 26, 0, 4)
BRANCH19 = Field("B.cond, CBZ, LDR of a literal", 19, 5, 4)
BRANCH14 = Field("TBZ", 14, 5, 4)
ADDRESS21 = Field("ADR", 21, 5, 1)
PAGE21 = Field("ADRP", 21, 5, _PAGE)
OFFSET12 = Field("ADD, LDR, STR", 12, 10, 1)
"""The distance from the start of a page, in units of what is loaded."""
TABLE15 = Field("LDR", 12, 10, 8)
"""The distance of a pointer from the start of the table of them, of at most 32 KiB."""
_SPLIT = (ADDRESS21, PAGE21)
"""Those whose last two bits stand apart."""


def stored(word: int, field: Field, target: int, place: int) -> int:
    """Return an instruction at an address with another target."""
    if field is OFFSET12:
        value = target % _PAGE // _size(word)
    elif field is TABLE15:
        value = target % TABLE // field.unit
    elif field is PAGE21:
        value = target // _PAGE - place // _PAGE
    else:
        value = (target - place) // field.unit
    value &= (1 << field.bits) - 1
    mask = (1 << field.bits) - 1 << field.start
    if field in _SPLIT:
        mask = 0x60FFFFE0
        return word & ~mask | (value & 3) << 29 | value >> 2 << 5
    return word & ~mask | value << field.start


def addend(word: int, field: Field) -> int:
    """Return the bytes that an instruction adds to a target, in formats that have that in the place itself."""
    if field in _SPLIT:
        value = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
        return value - (value << 1 & 0x200000)
    value = word >> field.start & (1 << field.bits) - 1
    if field is OFFSET12:
        return value * _size(word)
    return (value - (value << 1 & 1 << field.bits)) * field.unit


def _size(word: int) -> int:
    """Return the bytes that a load or store with an offset counts in; 1 for ADD."""
    if word & 0x3B000000 != 0x39000000:
        return 1
    return 1 << (4 if word & _VECTOR and word & _OPCODE_HIGH and not word >> 30 else word >> 30)
