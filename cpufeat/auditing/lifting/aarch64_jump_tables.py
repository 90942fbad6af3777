"""Recognize jump tables in AArch64 code.

Compilers load a distance of 1, 2 or 4 bytes at an index that they have compared with a number, and add it to an
address: ``cmp w0, #9; b.hi ...; ldrb w1, [x2, w0, uxtw]; adr x3, ...; add x1, x3, w1, sxtb #2; br x1``.
"""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.auditing.lifting.aarch64_constants import tracked_steps, words_of
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.auditing.lifting.aarch64_constants import Registers
    from cpufeat.auditing.lifting.semantics import Step

_ADD_SHIFTED, _ADD_EXTENDED = 0x8B000000, 0x8B200000
"""ADD of registers, the second with LSL or an extension, under the mask 0xFFE00000."""
_POINTER = 8
"""Bytes."""


class JumpTable(NamedTuple):
    """A table through which an indirect jump leads."""

    address: int
    length: int
    """The number of entries."""
    width: int
    """Bytes of an entry."""
    base: int
    """The address that the entries count from."""
    shift: int
    """Bits by which entries are shifted to the left."""
    signed: bool

    def targets(self, content: bytes) -> list[int]:
        """Return the addresses that the table leads to, from the bytes of its entries."""
        entries = (content[at : at + self.width] for at in range(0, len(content), self.width))
        return [self.base + (int.from_bytes(entry, "little", signed=self.signed) << self.shift) for entry in entries]


class _Distance(NamedTuple):
    """A register that was loaded from a table."""

    table: int
    width: int
    signed: bool


def jump_tables(code: bytes, address: int) -> dict[int, JumpTable]:
    """Return the tables of the indirect jumps in code at an address, by the jump's address; only of known length."""
    tables: dict[int, JumpTable] = {}
    distances: dict[int, _Distance] = {}
    """The distance that each register holds."""
    targets: dict[int, JumpTable] = {}
    """The table from which each register holds an address."""
    length = 0
    for place, word, step, registers in tracked_steps(words_of(code), address):
        if jumps_to_register(word) and step.reads[0] in targets:
            tables[place] = targets[step.reads[0]]
        if word & 0x7F80001F == 0x7100001F:  # CMP with a number
            length = (word >> 10 & 0xFFF) + 1
        target, distance = _target(word, step, registers, distances, length), _distance(word, step, registers)
        for register in step.writes:
            targets.pop(register, None)
            distances.pop(register, None)
        if target:
            targets[step.writes[0]] = target
        if distance:
            distances[step.writes[0]] = distance
    return tables


def jumps_to_register(word: int) -> bool:
    """Tell whether a word is BR."""
    return word & 0xFFFFFC1F == 0xD61F0000


def _only(addresses: frozenset[int]) -> int | None:
    return next(iter(addresses)) if len(addresses) == 1 else None


def _distance(word: int, step: Step, registers: Registers) -> _Distance | None:
    """Return the value that a load at an index of a table loads."""
    for memory in step.memory:
        table = _only(registers.get(memory.base, frozenset()))
        if memory.read and memory.scaled and table is not None and memory.size < _POINTER and len(step.writes) == 1:
            return _Distance(table, memory.size, bool(word >> 23 & 1))
    return None


def _target(
    word: int, step: Step, registers: Registers, distances: Mapping[int, _Distance], length: int
) -> JumpTable | None:
    """Return the table of a target that a step computes: ADD of an address and a distance, shifted or extended."""
    operation = word & 0xFFE00000
    if operation not in (_ADD_SHIFTED, _ADD_EXTENDED) or len(step.reads) < 2:
        return None
    base, distance = _only(registers.get(step.reads[0], frozenset())), distances.get(step.reads[1])
    if distance is None or base is None or not length:
        return None
    extended = operation == _ADD_EXTENDED
    shift, signed = word >> 10 & (7 if extended else 63), distance.signed or bool(extended and word >> 15 & 1)
    return JumpTable(distance.table, length, distance.width, base, shift, signed)
