"""Read the prefix of an x86 instruction that iced-x86 does not know: its length, and the least feature it needs.

After EVEX, VEX and XOP, whatever follows has one form: opcode, ModRM, SIB, displacement, and an immediate operand whose
size the opcode map decides. Sources: Intel SDM volume 2, 2.3 (VEX), 2.7 (EVEX); AMD64 Architecture Programmer's Manual
volume 3, 1.2.7 (XOP); Intel APX Architecture Specification (355828), 3.1 (REX2, EVEX map 4).
"""

from __future__ import annotations

from typing import NamedTuple

LEGACY = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
"""Prefixes that may stand before any other."""
_ADDRESS_SIZE = 0x67
_BYTE_AFTER_MAP_1 = frozenset(b"\x70\x71\x72\x73\xc2\xc4\xc5\xc6")
"""Opcodes of map 1 (after 0F) with an immediate byte."""
_MAP_1_WITHOUT_MODRM = frozenset(b"\x77")
_REGISTERS, _SIB, _NO_BASE = 0xC0, 4, 5
"""ModRM from which on both operands are registers; its ``rm`` before a SIB byte, and in place of a displacement."""


_WITHOUT_BYTE_IN_MAP_4 = frozenset(b"\x8a\x8b\xf8")
"""Opcodes of EVEX's legacy map that are known to have no immediate operand: MOVRS, URDMSR and UWRMSR."""
_EVEX, _VEX, _VEX2, _REX2 = 0x62, 0xC4, 0xC5, 0xD5
_SIZED = frozenset({"legacy", "EVEX", "VEX", "XOP"})
"""Prefixes after which instructions have one form; `legacy` is map 0F38: always ModRM, no immediate operand."""
_OLDER_IN_32_BITS = frozenset(b"\x62\xc4\xc5\xd5")
"""Bytes that begin BOUND, LES and LDS with a memory operand, and AAD, in 32-bit code."""


class Prefix(NamedTuple):
    """A prefix that says how an instruction is built."""

    name: str
    size: int
    """In bytes, up to the opcode."""
    opcode_map: int
    """1 is 0F, 2 is 0F38, 3 is 0F3A."""
    least: str
    """The feature that every instruction with this prefix needs."""
    pp: int = 0
    """The number of the mandatory prefix: none, 66, F3, F2."""
    w: int = 0
    length: int = 0
    """The number of the vector length."""
    broadcasts: bool = False
    """EVEX.b: with registers only, the bits of the vector length mean something else."""
    extends: bool = False
    """Whether it extends the registers of an address as only APX does."""
    high: bool = False
    """Whether it makes ModRM's ``reg`` a register from 16 on."""


class Form(NamedTuple):
    """The parts of an instruction that are the same for all instructions with its prefix."""

    length: int
    """In bytes, 0 if the prefix does not tell."""
    prefix: Prefix
    opcode: int
    """With that of :attr:`modrm`, 0 if it is cut off."""
    modrm: int


NO_PREFIX = Prefix("", 0, 0, "")


def form(code: bytes, bits: int) -> Form:
    """Return the form of the first instruction of code, which is not known; ``bits``: 64, or 32."""
    at = 0
    while at < len(code) and code[at] in LEGACY:
        at += 1
    prefix = _prefix(code[at:], bits) or _mandatory(code[:at], code[at:]) or NO_PREFIX
    rest = code[at + prefix.size :]
    sized = prefix.name in _SIZED and (bits == 64 or _ADDRESS_SIZE not in code[:at])
    size = _size_after(prefix, rest) if sized else 0
    opcode, modrm = (rest + bytes(2))[:2]
    return Form(at + prefix.size + size if size else 0, prefix, opcode, modrm)


def _prefix(code: bytes, bits: int) -> Prefix | None:
    first, second, third, fourth = (code + bytes(4))[:4]
    if bits == 32 and first in _OLDER_IN_32_BITS and (second < _REGISTERS or first == _REX2):
        return None
    in_evex, in_vex = second & 7, second & 31
    if first == _EVEX:
        least = "egpr" if in_evex in (4, 7) else "avx512f"
        extends = bits == 64 and bool(second & 8 or not third & 4)
        return Prefix(
            "EVEX", 4, in_evex, least, *_vector(third, fourth >> 5), bool(fourth & 16), extends, not second & 16
        )
    if first == _VEX:
        return Prefix("VEX", 3, in_vex, "avx" if in_vex != 7 else "", *_vector(third, third >> 2 & 1))
    others = {
        _VEX2: Prefix("VEX", 2, 1, "avx", second & 3, 0, second >> 2 & 1),
        _REX2: Prefix("REX2", 2, 0, "egpr"),
        0x8F: Prefix("XOP", 3, in_vex, "xop") if in_vex >= 8 else None,
        0x0F: Prefix("3DNow!", 2, 0, "3dnow") if second == 0x0F else None,
    }
    return others.get(first)


def _vector(fields: int, length: int) -> tuple[int, int, int]:
    """Return pp, W and the vector length, from the byte of EVEX or VEX that holds the first two."""
    return fields & 3, fields >> 7, length & 3


def _mandatory(prefixes: bytes, code: bytes) -> Prefix | None:
    """Return the mandatory prefix, REX and escape as a prefix, None if another opcode map follows than 0F38."""
    rex = code[0] if code and code[0] & 0xF0 == 0x40 else 0
    if code[bool(rex) :][:2] != b"\x0f\x38":
        return None
    pp = next((number for number, byte in ((3, 0xF2), (2, 0xF3), (1, 0x66)) if byte in prefixes), 0)
    return Prefix("legacy", bool(rex) + 2, 2, "", pp, rex >> 3 & 1)


def _size_after(prefix: Prefix, code: bytes) -> int:
    """Return the bytes from the opcode to the end of an instruction, 0 if they are cut off or not known."""
    immediate = _immediate(prefix, code[0]) if code else None
    if immediate is None:
        return 0
    has_operands = prefix.opcode_map != 1 or code[0] not in _MAP_1_WITHOUT_MODRM
    size = 1 + (_operand_size(code[1:]) if has_operands else 0) + immediate
    return size if size <= len(code) else 0


def _immediate(prefix: Prefix, opcode: int) -> int | None:
    """Return the bytes of the immediate operand, None for a map of which that is not known."""
    if prefix.name == "XOP":
        return {8: 1, 9: 0, 10: 4}.get(prefix.opcode_map)
    if prefix.opcode_map == 1:
        return 1 if opcode in _BYTE_AFTER_MAP_1 else 0
    if prefix.opcode_map == 4:
        return 0 if opcode in _WITHOUT_BYTE_IN_MAP_4 else None
    return {2: 0, 3: 1, 5: 0, 6: 0, 7: 4}.get(prefix.opcode_map)


def _operand_size(code: bytes) -> int:
    """Return the bytes of ModRM, SIB and displacement; beyond the code if they are cut off."""
    cut_off = len(code) + 1
    if not code:
        return cut_off
    mode, rm = code[0] >> 6, code[0] & 7
    if mode == 3:
        return 1
    size = 1
    if rm == _SIB:
        size, rm = 2, code[1] & 7 if len(code) > 1 else _NO_BASE
    return size + (4 if mode == 2 or (mode == 0 and rm == _NO_BASE) else mode)
