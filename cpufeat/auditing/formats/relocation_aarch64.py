"""Fill the fields of AArch64 instructions by relocations ("ELF for the Arm 64-bit Architecture")."""

from __future__ import annotations

from typing import NamedTuple

_PAGE = 4096
TABLE = 1 << 15
"""Bytes of the largest GOT of small position-independent code (GCC's ``-fpic``)."""
_VECTOR, _OPCODE_HIGH = 1 << 26, 1 << 23


class InstructionField(NamedTuple):
    """Bits of an instruction that hold an address or distance."""

    name: str
    bits: int
    start: int
    unit: int
    """The bytes that a value of 1 stands for."""


BRANCH26 = InstructionField("B, BL", 26, 0, 4)
BRANCH19 = InstructionField("B.cond, CBZ, LDR of a literal", 19, 5, 4)
BRANCH14 = InstructionField("TBZ", 14, 5, 4)
ADDRESS21 = InstructionField("ADR", 21, 5, 1)
PAGE21 = InstructionField("ADRP", 21, 5, _PAGE)
OFFSET12 = InstructionField("ADD, LDR, STR", 12, 10, 1)
"""The offset in a page, in units of the size of the load or store."""
TABLE15 = InstructionField("LDR", 12, 10, 8)
"""The offset of a pointer in a GOT of at most 32 KiB."""
_SPLIT = (ADDRESS21, PAGE21)
"""Fields whose two lowest bits are stored apart from the others."""


def stored(word: int, field: InstructionField, target: int, place: int) -> int:
    """Return the instruction word at an address with its field filled for a target."""
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


def addend(word: int, field: InstructionField) -> int:
    """Return the addend in bytes that is stored in an instruction, for formats with implicit addends."""
    if field in _SPLIT:
        value = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
        return value - (value << 1 & 0x200000)
    value = word >> field.start & (1 << field.bits) - 1
    if field is OFFSET12:
        return value * _size(word)
    return (value - (value << 1 & 1 << field.bits)) * field.unit


def _size(word: int) -> int:
    """Return the unit in bytes of the offset in a load or store; 1 for ADD."""
    if word & 0x3B000000 != 0x39000000:
        return 1
    return 1 << (4 if word & _VECTOR and word & _OPCODE_HIGH and not word >> 30 else word >> 30)
