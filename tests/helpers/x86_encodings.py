"""An encoding of nearly every x86 instruction, found by decoding what the opcode maps of the manuals span."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from iced_x86 import Decoder

if TYPE_CHECKING:
    from collections.abc import Iterator

TAIL = bytes.fromhex("00 11 22 33 44 55 66 77 88 99")
"""Displacement and immediates."""
_REGISTERS = (0xC1, 0xC9, 0xD1, 0xD9, 0xE1, 0xE9, 0xF1, 0xF9)
"""ModRM with two registers, and each value of the field that extends the opcode."""
_MEMORY = tuple(modrm - 0xC1 + 0x01 for modrm in _REGISTERS)
_VSIB = (0x04, 0x0C)
"""ModRM of gathers and the like; the SIB byte after it is the first of :data:`TAIL`."""


def examples(bits: int) -> dict[int, bytes]:
    """Return one encoding of each opcode (iced-x86's ``Code``) that could be found."""
    encodings: dict[int, bytes] = {}
    for candidate in itertools.chain(_legacy(), _vex(), _evex()):
        instruction = Decoder(bits, candidate).decode()
        if instruction.code and instruction.code not in encodings:
            encodings[instruction.code] = candidate[: instruction.len]
    return encodings


def _legacy() -> Iterator[bytes]:
    prefixes = itertools.product((b"", b"\x66", b"\xf3", b"\xf2"), (b"", b"\x48"))
    maps = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
    for prefix, opcode_map, opcode in itertools.product([a + b for a, b in prefixes], maps, range(256)):
        for modrm in (*_REGISTERS, *_MEMORY):
            yield prefix + opcode_map + bytes([opcode, modrm]) + TAIL
    for opcode, modrm in itertools.product((0x01, 0x18, 0x1E, 0xAE, 0xC7), range(256)):  # one instruction an operand
        for prefix in (b"", b"\x66", b"\xf3", b"\xf2", b"\xf3\x48"):
            yield prefix + bytes([0x0F, opcode, modrm]) + TAIL
    for opcode, modrm in itertools.product(range(0xD8, 0xE0), range(256)):  # x87
        yield bytes([opcode, modrm]) + TAIL
    for group in (b"\xc6", b"\xc7", b"\x66\xc7", b"\x48\xc7"):  # transactions
        yield group + b"\xf8" + TAIL
    for opcode in range(256):  # 3DNow!: the opcode stands last
        yield bytes([0x0F, 0x0F, 0xC1, opcode])


def _vex() -> Iterator[bytes]:
    for first, opcode_maps in ((0xC4, (1, 2, 3)), (0x8F, (8, 9, 10))):
        fields = itertools.product(opcode_maps, (0, 1), (0, 1), range(4), range(256))
        for opcode_map, w, length, prefix, opcode in fields:
            for register, modrm in ((0x6, 0xC1), (0xF, 0xC1), (0x6, 0x01), (0xF, 0x01), (0x6, 0x04)):
                yield (
                    bytes([first, 0xE0 | opcode_map, w << 7 | register << 3 | length << 2 | prefix, opcode, modrm])
                    + TAIL
                )
        for opcode_map, w, opcode in itertools.product(
            opcode_maps, (0, 1), (0x01, 0x02, 0x12, 0x49, 0x73, 0x72, 0x71, 0xAE, 0xF3)
        ):
            for modrm, length, prefix in itertools.product((*_REGISTERS, *_MEMORY, 0xC0), (0, 1), range(4)):
                yield bytes([first, 0xE0 | opcode_map, w << 7 | 0x78 | length << 2 | prefix, opcode, modrm]) + TAIL


def _evex() -> Iterator[bytes]:
    fields = itertools.product((1, 2, 3, 5, 6), (0, 1), (0, 1, 2), range(4), range(256))
    for opcode_map, w, length, prefix, opcode in fields:
        for register, mask, modrm in (
            (0x6, 0, 0xC1),
            (0xF, 1, 0xC1),
            (0xF, 0, 0xC1),
            (0x6, 0, 0x01),
            (0xF, 1, 0x01),
            (0xF, 1, 0x04),
        ):
            head = [0x62, 0xF0 | opcode_map, w << 7 | register << 3 | 4 | prefix, length << 5 | 8 | mask, opcode, modrm]
            yield bytes(head) + TAIL
        if opcode in (0x71, 0x72, 0x73, 0xC6, 0xC7):
            for modrm in (*_REGISTERS, *(memory | 4 for memory in _MEMORY)):
                yield (
                    bytes([0x62, 0xF0 | opcode_map, w << 7 | 0x7C | prefix, length << 5 | 8 | 1, opcode, modrm]) + TAIL
                )
