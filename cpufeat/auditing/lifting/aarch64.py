"""Lift AArch64 code to steps, and find what several instructions do together: addresses made in parts, PLT stubs."""

from __future__ import annotations

import re

from cpufeat.auditing.lifting.aarch64_abi import CONVENTION
from cpufeat.auditing.lifting.aarch64_constants import adds_number, tracked_steps, words_of
from cpufeat.auditing.lifting.aarch64_decoder import ADDRESSES, WORD, asks_cpu, lift_word
from cpufeat.auditing.lifting.aarch64_jump_tables import jumps_to_register
from cpufeat.auditing.lifting.semantics import NEXT, Step
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    MayHoldAddress = object
    """Immediate operands of this architecture are too small to hold an address."""

__all__ = ["CONVENTION", "PROBES", "constant_addresses", "probes", "steps", "stub_at", "stub_pointer"]

PROBES = rb".[\x00-\x07]\x38\xd5|\x1f\x25\x03\xd5"
"""Matches the bytes of MRS from an ID register, of CHKFEAT, and a few others."""
_ADRP = re.compile(rb"[\x90\xb0\xd0\xf0]")
"""The last bytes of ADRP."""
_HINT, _ANY_HINT = 0xD503201F, 0xFFFFF01F
_NEAR = 8
"""Words before and after an address in which its stub lies."""


def steps(code: bytes, address: int, _may_hold_address: MayHoldAddress) -> Iterator[Step]:
    """Yield the steps of the instructions at an address.

    An instruction that does several things one after another is several steps, at addresses between its own and that of
    the next.
    """
    for index, word in enumerate(words_of(code)):
        place = address + WORD * index
        parts = lift_word(word, place)
        last = len(parts) - 1
        for number, part in enumerate(parts):
            following = place + (WORD if number == last else number + 1)
            yield Step(place + number, following, *part[2:])


def probes(code: bytes, _address: int) -> bool:
    """Tell whether the code has an instruction that asks the CPU what it is."""
    return any(asks_cpu(word) for word in words_of(code))


def constant_addresses(code: bytes, address: int, _may_hold_address: MayHoldAddress) -> Iterator[tuple[int, int]]:
    """Yield the address of each instruction that completes an address begun by ADRP, in order, and that address."""
    if not _ADRP.search(code[3::WORD]):
        return
    for place, word, step, registers in tracked_steps(words_of(code), address):
        for memory in step.memory:
            for base in registers.get(memory.base, ()):
                yield place, base + memory.displacement & ADDRESSES
        if adds_number(word):
            for base in registers.get(step.reads[0], ()):
                yield place, base + step.offset & ADDRESSES


def stub_pointer(code: bytes, address: int) -> int | None:
    """Return the place of the pointer through which a stub (a PLT entry) jumps, None for code that is no stub."""
    pointers: dict[int, int] = {}
    """The place that each register was loaded from."""
    for _, word, step, registers in tracked_steps(words_of(code), address):
        if jumps_to_register(word):
            return pointers.get(step.reads[0])
        if step.flow != NEXT or not (step.writes or word & _ANY_HINT == _HINT):
            return None
        for memory in step.memory:
            places = registers.get(memory.base, ())
            pointers.update({register: place + memory.displacement for register in step.writes for place in places})
    return None


def stub_at(content: bytes, offset: int) -> tuple[int, int]:
    """Return the offset and size of the stub around an offset in a section of stubs (a PLT).

    A stub ends with a jump; hints before it that pad the previous one do not belong to it.
    """
    words, at = words_of(content), min(offset, len(content) - WORD) // WORD
    first = max(at - _NEAR, 0)
    jumps = [index for index, word in enumerate(words[first : at + _NEAR], first) if jumps_to_register(word)]
    start = max((index + 1 for index in jumps if index < at), default=first)
    while start < at and words[start] & _ANY_HINT == _HINT and words[start + 1] & _ANY_HINT == _HINT:
        start += 1
    end = min((index + 1 for index in jumps if index >= at), default=at + 1)
    return start * WORD, (end - start) * WORD
