"""Read the prefix of an x86 instruction that no decoder knows: its length, and the least feature that it needs.

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


_OLDER_IN_32_BITS = frozenset(b"\x62\xc4\xc5\xd5")
"""Bytes that begin BOUND, LES and LDS with a memory operand, and AAD, in 32-bit code."""


class Prefix(NamedTuple):
    """A prefix that says how an instruction is built."""

    name: str
    size: int
    """In bytes, up to the opcode."""
    opcode_map: int
    least: str
    """The feature that every instruction with this prefix needs."""


class Form(NamedTuple):
    """What the bytes of an instruction that is not known tell."""

    length: int
    """In bytes, 0 if they do not tell."""
    least: str
    """The least feature that it needs, empty if they do not tell."""
    prefix: str
    """``EVEX``, ``VEX``, ..., empty for none of them."""


def form(code: bytes, bits: int) -> Form:
    """Return the form of the first instruction of code, which is not known; ``bits``: 64, or 32."""
    at = 0
    while at < len(code) and code[at] in LEGACY:
        at += 1
    prefix = _prefix(code[at:], bits)
    if prefix is None:
        return Form(0, "", "")
    sized = prefix.name in ("EVEX", "VEX", "XOP") and (bits == 64 or _ADDRESS_SIZE not in code[:at])
    rest = _size_after(prefix, code[at + prefix.size :]) if sized else 0
    return Form(at + prefix.size + rest if rest else 0, prefix.least, prefix.name)


def _prefix(code: bytes, bits: int) -> Prefix | None:
    first, second = code[0] if code else 0, code[1] if len(code) > 1 else 0
    in_evex, in_vex = second & 7, second & 31
    candidates = {
        0x62: Prefix("EVEX", 4, in_evex, "egpr" if in_evex in (4, 7) else "avx512f"),
        0xC4: Prefix("VEX", 3, in_vex, "avx" if in_vex != 7 else ""),
        0xC5: Prefix("VEX", 2, 1, "avx"),
        0xD5: Prefix("REX2", 2, 0, "egpr"),
        0x8F: Prefix("XOP", 3, in_vex, "xop") if in_vex >= 8 else None,
        0x0F: Prefix("3DNow!", 2, 0, "3dnow") if second == 0x0F else None,
    }
    is_older = bits == 32 and first in _OLDER_IN_32_BITS and (second < _REGISTERS or first == 0xD5)
    return None if is_older else candidates.get(first)


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
