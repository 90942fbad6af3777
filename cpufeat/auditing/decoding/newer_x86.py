"""Look up the x86 instructions that iced-x86 does not know, in ``encodings.tsv``."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cpufeat import tables
from cpufeat.auditing.decoding.prefixes_x86 import Form, form
from cpufeat.auditing.decoding.requirements import Requirement
from cpufeat.features import table

_PP = ("", "66", "f3", "f2")
_REGISTERS = 0xC0
_LEGACY_MAP, _MAP_0F38 = 4, 2
Opcode = tuple[str, int, int, int, int]
"""Prefix, map, number of the mandatory prefix, W, and opcode."""


class _Row(NamedTuple):
    lengths: str
    is_memory: bool
    digit: str
    """``*`` for any; ``general`` for any, which is the number of a general register."""
    needs: tuple[str, ...]
    mnemonic: str


class Newer(NamedTuple):
    """An instruction that is in the table."""

    mnemonic: str
    length: int
    """In bytes."""
    requirement: Requirement


def newer(code: bytes, bits: int) -> Newer | None:
    """Return the first instruction of code if it is in the table; ``bits``: 64, or 32."""
    known = form(code, bits)
    prefix = known.prefix
    row = _row(known, (prefix.name, prefix.opcode_map))
    extended = prefix.extends or (prefix.high and row is not None and row.digit == "general")
    if row is None and prefix.name == "EVEX":  # of APX, which gives older encodings more registers
        older = ("legacy", _MAP_0F38) if prefix.opcode_map == _LEGACY_MAP else ("VEX", prefix.opcode_map)
        row, extended = _row(known, older), True
    if row is None or not known.length:
        return None
    needs = {*row.needs, "egpr"} if extended else {*row.needs}
    features = frozenset(name for name in needs if table("x86_64")[name].kind == "isa")
    return Newer(row.mnemonic, known.length, Requirement(features, other=row.mnemonic if needs - features else ""))


def _row(known: Form, kind: tuple[str, int]) -> _Row | None:
    prefix, is_memory = known.prefix, known.modrm < _REGISTERS
    of_opcode = _rows().get((*kind, prefix.pp, prefix.w, known.opcode), ())
    length = "" if prefix.broadcasts and not is_memory else str(prefix.length)
    digit = str(known.modrm >> 3 & 7)
    matching = (row for row in of_opcode if row.is_memory == is_memory and length in row.lengths)
    return next((row for row in matching if row.digit in ("*", "general", digit)), None)


@cache
def _rows() -> dict[Opcode, list[_Row]]:
    rows: dict[Opcode, list[_Row]] = {}
    for prefix, opcode_map, pp, w, opcode, lengths, operand, reg, needs, mnemonic in tables.rows("x86/encodings.tsv"):
        key = (prefix, int(opcode_map), _PP.index(pp), int(w), int(opcode, 16))
        rows.setdefault(key, []).append(_Row(lengths, operand == "memory", reg, tuple(needs.split()), mnemonic))
    return rows
