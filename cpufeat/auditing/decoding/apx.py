"""Decode Intel APX, which iced-x86 does not know: rewrite each instruction as the one that it extends.

APX adds registers and operands to existing instructions, by the prefix REX2 or by EVEX. With the older prefix, such an
instruction is one that iced-x86 decodes: only its registers and the length of its prefix differ. Source: Intel APX
Architecture Specification (355828), sections 3.1.2 and 3.1.4.
"""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.auditing.decoding.prefixes_x86 import LEGACY

_REX2, _EVEX, _VEX, _REX = 0xD5, 0x62, 0xC4, 0x40
_MANDATORY = (b"", b"\x66", b"\xf3", b"\xf2")
"""The prefix for each value of the field ``pp``."""
_JMPABS, _JMPABS_SIZE, _JUMP = 0xA1, 11, b"\xff\xe0"
_PUSH_POP = range(0x50, 0x60)
_CONDITIONAL = range(0x40, 0x50)
"""Opcodes of the legacy map: CMOVcc, CFCMOVcc, and SETcc with the prefix F2."""
_COMPARES: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((0x38, 0x39, 0x3A, 0x3B, 0x84, 0x85), ()),
    **dict.fromkeys((0x80, 0x81, 0x83), (7,)),
    **dict.fromkeys((0xF6, 0xF7), (0, 1)),
}
"""Opcodes of CMP and TEST in the legacy map, with EVEX CCMP and CTEST -> values of ModRM's ``reg``, none for all."""
_PAIRS = {0x8F: 0, 0xFF: 6}
"""Opcodes of POP2 and PUSH2, and their value of ModRM's ``reg``."""
_MULTIPLY_BY_CONSTANT = (0x69, 0x6B)
_VEX_ONLY = {1: range(0x90, 0x94), 2: (0x49, 0x4B, *range(0xE0, 0xF0), 0xF2, 0xF3, 0xF5, 0xF6, 0xF7), 3: (0xF0,)}
"""Map -> opcodes without an EVEX form before APX: KMOV; tiles, CMPccXADD, BMI; RORX."""
_ORIGINAL_OPCODES: dict[int, tuple[bytes | None, bytes, int]] = {
    **{code: (None, b"\x0f", code) for code in (*_CONDITIONAL, 0xA5, 0xAD, 0xAF)},  # CMOVcc, SHLD, SHRD, IMUL
    0x24: (None, b"\x0f", 0xA4),
    0x2C: (None, b"\x0f", 0xAC),  # SHLD, SHRD
    0x60: (None, b"\x0f\x38", 0xF0),
    0x61: (None, b"\x0f\x38", 0xF1),  # MOVBE
    **{code: (None, b"\x0f\x38", 0xF6 if code == 0x66 else code) for code in (0x65, 0x66, 0xF8, 0xF9, 0xFC)},
    0x88: (b"\xf3", b"\x0f", 0xB8),
    0xF4: (b"\xf3", b"\x0f", 0xBC),
    0xF5: (b"\xf3", b"\x0f", 0xBD),  # counts of bits
    0xF0: (b"\xf2", b"\x0f\x38", 0xF0),
    0xF1: (b"\xf2", b"\x0f\x38", 0xF1),  # CRC32
}
"""Opcode in EVEX's legacy map -> prefix (None: that of ``pp``), escape and opcode of the original instruction."""


class Plain(NamedTuple):
    """The instruction that an instruction of APX extends."""

    code: bytes
    longer: int
    """The number of bytes by which the instruction of APX is longer."""
    features: frozenset[str]
    """The features that APX adds; ``egpr`` for an encoding that adds nothing."""


def plain(code: bytes) -> Plain | None:
    """Return the instruction that the first instruction of 64-bit code extends, None if it is not of APX."""
    at = 0
    while at < len(code) and code[at] in LEGACY:
        at += 1
    prefixes, rest = code[:at], code[at:]
    if rest[:1] == bytes([_REX2]) and len(rest) > 2:
        return _from_rex2(prefixes, rest)
    if rest[:1] == bytes([_EVEX]) and len(rest) > 5:
        return (_from_legacy_map if rest[1] & 7 == 4 else _from_other_map)(prefixes, rest)
    return None


def _rewritten(prefixes: bytes, head: bytes, rest: bytes, replaced: int, features: set[str]) -> Plain:
    """Return the instruction in which ``head`` takes the place of the first ``replaced`` bytes after the prefixes."""
    return Plain(prefixes + head + rest[replaced:], replaced - len(head), frozenset(features or {"egpr"}))


def _from_rex2(prefixes: bytes, rest: bytes) -> Plain:
    payload, opcode = rest[1], rest[2]
    escape = b"\x0f" if payload & 0x80 else b""
    if opcode == _JMPABS and not escape:
        return _rewritten(prefixes, _JUMP, rest[:_JMPABS_SIZE], _JMPABS_SIZE, set())
    features = {"egpr"} if payload & 0x70 else set()
    if opcode in _PUSH_POP and not escape and payload & 8:
        features.add("ppx")
    return _rewritten(prefixes, bytes([_REX | payload & 0xF]) + escape, rest, 2, features)


def _from_legacy_map(prefixes: bytes, rest: bytes) -> Plain:
    p1, p2, opcode, modrm = rest[2:6]
    prefix, escape, original = _ORIGINAL_OPCODES.get(opcode, (None, b"", opcode))
    if opcode in _CONDITIONAL and p1 & 3 == 3:
        prefix, original = b"", opcode + 0x50  # SETcc
    mandatory = _MANDATORY[p1 & 3] if prefix is None else prefix
    head = mandatory + bytes([_REX | p1 >> 4 & 8]) + escape + bytes([original])
    features = _added(opcode, p1, p2, modrm >> 3 & 7)
    features |= _registers(rest, ("B4", "X4", "R4", "V4") if p2 & 0x10 else ("B4", "X4", "R4"))
    return _rewritten(prefixes, head, rest, 5, features)


def _added(opcode: int, p1: int, p2: int, reg: int) -> set[str]:
    """Return the features that the fields of EVEX add to an instruction of the legacy map."""
    new_operand, no_flags = bool(p2 & 0x10), bool(p2 & 4)
    if opcode in _COMPARES and reg in (_COMPARES[opcode] or (reg,)):
        return {"ccmp"}
    if _PAIRS.get(opcode) == reg and new_operand:
        return {"push2pop2", "ppx"} if p1 & 0x80 else {"push2pop2"}
    if opcode in _CONDITIONAL and p1 & 3 != 3 and (no_flags or not new_operand):
        return {"cf"}
    zeroing = opcode in _MULTIPLY_BY_CONSTANT or (opcode in _CONDITIONAL and p1 & 3 == 3)
    return ({"zu" if zeroing else "ndd"} if new_operand else set()) | ({"nf"} if no_flags else set())


def _from_other_map(prefixes: bytes, rest: bytes) -> Plain | None:
    p0, p1, p2, opcode = rest[1:5]
    if opcode in _VEX_ONLY.get(p0 & 7, ()):
        features = _registers(rest, ("B4", "X4", "R4", "V4")) | ({"nf"} if p2 & 4 else set())
        return _rewritten(prefixes, bytes([_VEX, p0 & 0xE7, p1 & 0xFB | p2 >> 3 & 4]), rest, 4, features)
    if not _registers(rest, ("B4", "X4", "R4")):
        return None
    return _rewritten(prefixes, bytes([_EVEX, p0 & 0xF7 | 0x10, p1 | 4]), rest, 3, set())


def _registers(rest: bytes, fields: tuple[str, ...]) -> set[str]:
    """Return ``egpr`` if one of those fields, each the highest bit of a general register's number, is set."""
    p0, p1, p2, modrm = rest[1], rest[2], rest[3], rest[5]
    high = {"B4": p0 & 8, "X4": not p1 & 4 and modrm < 0xC0, "R4": not p0 & 0x10, "V4": not p2 & 8}
    return {"egpr"} if any(high[field] for field in fields) else set()
