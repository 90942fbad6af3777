"""Propagate constants in AArch64 code: the addresses that registers may hold, made by ADRP and additions."""

from __future__ import annotations

import sys
from array import array

from cpufeat.auditing.lifting.aarch64_abi import CALLEE_SAVED, CONVENTION
from cpufeat.auditing.lifting.aarch64_decoder import ADDRESSES, WORD, lift_word
from cpufeat.auditing.lifting.semantics import BRANCH, CALL, JUMP, NEXT
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cpufeat.auditing.lifting.semantics import Step

    Registers = Mapping[int, frozenset[int]]
    """The addresses that registers may hold; nothing is known of a register that is not in it."""

_MAX_ADDRESSES = 16
"""The most addresses that one register may hold; with more, its value counts as unknown."""


def words_of(code: bytes) -> array[int]:
    """Return the instruction words of some code, without the bytes of one that is cut off."""
    words = array("I", code[: len(code) // WORD * WORD])
    if sys.byteorder == "big":
        words.byteswap()
    return words


def tracked_steps(words: array[int], address: int) -> Iterator[tuple[int, int, Step, Registers]]:
    """Yield the steps of code: address (as in :func:`.aarch64.steps`), word, step, and what registers may hold before.

    Control flow is followed forwards, as compilers lay code out; what a branch backwards would add is not seen. Where
    no branch seen so far leads, a register that calls preserve may hold whatever it was given before, and any other
    what it held at an indirect jump.
    """
    known: dict[int, frozenset[int]] = {}
    ahead: dict[int, dict[int, frozenset[int]]] = {}
    anywhere: dict[int, frozenset[int]] = {}
    falls_through = True
    for place, word in zip(range(address, address + WORD * len(words), WORD), words, strict=True):
        branched = ahead.pop(place, None)
        if branched is not None:
            known = _join(known, branched) if falls_through else branched
        elif not falls_through:
            known = _join(known, anywhere)
        falls_through = True
        for number, step in enumerate(lift_word(word, place)):
            yield place + number, word, step, known
            if step.flow != NEXT:
                falls_through = step.flow in (BRANCH, CALL)
                if step.flow == CALL:
                    known = {register: values for register, values in known.items() if register not in CONVENTION.lost}
                elif step.target is None:
                    anywhere = _join(anywhere, known) if step.flow == JUMP else anywhere
                elif step.target > place:
                    ahead[step.target] = _join(ahead.get(step.target, {}), known)
                continue
            computed = _computed(word, step, known)
            if computed or not known.keys().isdisjoint(step.writes):
                known = {register: values for register, values in known.items() if register not in step.writes}
                known.update(dict.fromkeys(step.writes, computed) if computed else {})
                saved = CALLEE_SAVED.intersection(step.writes) if computed else ()
                anywhere = _join(anywhere, dict.fromkeys(saved, computed)) if saved else anywhere


def adds_number(word: int) -> bool:
    """Tell whether a word is ADD or SUB of a number."""
    return word & 0x3F800000 == 0x11000000


def _copies_register(word: int) -> bool:
    """Tell whether a word is MOV from one register to another."""
    return word & 0xFFE0FFE0 == 0xAA0003E0


def _computed(word: int, step: Step, known: Registers) -> frozenset[int]:
    """Return the addresses that a step may put into a register, as far as known."""
    if step.constant is not None:
        return frozenset([step.constant])
    if not adds_number(word) and not _copies_register(word):
        return frozenset()
    return frozenset(base + step.offset & ADDRESSES for register in step.reads for base in known.get(register, ()))


def _join(registers: Registers, incoming: Registers) -> dict[int, frozenset[int]]:
    """Return the values that registers may hold where two paths meet."""
    joined = dict(registers)
    for register, values in incoming.items():
        joined[register] = joined.get(register, frozenset()) | values
    return {register: values for register, values in joined.items() if len(values) <= _MAX_ADDRESSES}
