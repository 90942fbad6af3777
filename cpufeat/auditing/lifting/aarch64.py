"""Lift AArch64 code, and find the addresses that it makes by ADRP and additions."""

from __future__ import annotations

import re
import sys
from array import array
from typing import NamedTuple

from cpufeat.auditing.lifting.aarch64_decoder import ADDRESSES, STACK, WORD, asks, decoded
from cpufeat.auditing.lifting.semantics import BRANCH, CALL, FLAGS, JUMP, NEXT, Convention, Step
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    MayHoldAddress = object
    Known = Mapping[int, frozenset[int]]
    """Addresses that registers may hold."""

PROBES = rb".[\x00-\x07]\x38\xd5|\x1f\x25\x03\xd5"
"""What the bytes of MRS of an ID register, and of CHKFEAT, look like."""
_PAGES = re.compile(rb"[\x90\xb0\xd0\xf0]")
"""The last bytes of ADRP."""
_X = range(1, 32)
_VECTORS = range(STACK + 1, STACK + 33)
_CALLEE_SAVED = frozenset([*_X[19:30], *_VECTORS[8:16]])
CONVENTION = Convention(
    stack=STACK,
    arguments=tuple(_X[:8]),
    results=(_X[0], _X[1]),
    lost=frozenset([*_X, *_VECTORS, FLAGS]) - _CALLEE_SAVED,
    answers=frozenset(_X[:16]),  # Go returns in that many
    resolvers=(_X[0], _X[1]),
    asking="an ID register",
    word=0,
    pages=True,
    asks_system=True,
)
"""AAPCS64, section 6; resolvers have AT_HWCAP and a pointer to more of it (``<sys/ifunc.h>`` of glibc and Bionic)."""
_MOST = 16
"""Addresses that one register may hold, as far as they are followed."""
_HINT, _ANY_HINT = 0xD503201F, 0xFFFFF01F
_ADD_SHIFTED, _ADD_EXTENDED = 0x8B000000, 0x8B200000
"""Of registers, under 0xFFE00000: LSL and the extensions."""
_POINTER = 8


class Jump(NamedTuple):
    """A jump through a table."""

    table: int
    length: int
    """In entries."""
    width: int
    """Bytes of an entry."""
    base: int
    """What the entries count from."""
    shift: int
    signed: bool

    def targets(self, content: bytes) -> list[int]:
        """Return where the table leads, from the bytes of its entries."""
        entries = (content[at : at + self.width] for at in range(0, len(content), self.width))
        return [self.base + (int.from_bytes(one, "little", signed=self.signed) << self.shift) for one in entries]


def words_of(code: bytes) -> array[int]:
    """Return the words of some code."""
    words = array("I", code[: len(code) // WORD * WORD])
    if sys.byteorder == "big":
        words.byteswap()
    return words


def steps(code: bytes, address: int, _may_hold_address: MayHoldAddress) -> list[Step]:
    """Return the steps of the instructions at an address. What one does first and what it does then are two steps."""
    found = []
    for index, word in enumerate(words_of(code)):
        place = address + WORD * index
        parts = decoded(word, place)
        last = len(parts) - 1
        for number, part in enumerate(parts):
            following = place + (WORD if number == last else number + 1)
            found.append(Step(place + number, following, *part[2:]))
    return found


def probes(code: bytes, _address: int) -> bool:
    """Tell whether there is an instruction in the code that asks the CPU what it is."""
    return any(asks(word) for word in words_of(code))


def constant_addresses(code: bytes, address: int, _may_hold_address: MayHoldAddress) -> Iterator[tuple[int, int]]:
    """Yield the address of each instruction that completes an address begun by ADRP, in order, and that address."""
    if not _PAGES.search(code[3::WORD]):
        return
    for place, word, step, known in _tracked(words_of(code), address):
        for memory in step.memory:
            for base in known.get(memory.base, ()):
                yield place, base + memory.displacement & ADDRESSES
        if _adds(word):
            for base in known.get(step.reads[0], ()):
                yield place, base + step.offset & ADDRESSES


def stub_pointer(code: bytes, address: int) -> int | None:
    """Return the place of the pointer through which a stub (a PLT entry) jumps, None for code that is no stub."""
    slots: dict[int, int] = {}
    for _, word, step, known in _tracked(words_of(code), address):
        if _leaves(word):
            return slots.get(step.reads[0])
        if step.flow != NEXT or not (step.writes or word & _ANY_HINT == _HINT):
            return None
        for memory in step.memory:
            places = known.get(memory.base, ())
            slots.update({register: place + memory.displacement for register in step.writes for place in places})
    return None


def stub_at(content: bytes, offset: int) -> tuple[int, int]:
    """Return the offset and size of the stub around an offset in a section of stubs (a PLT)."""
    words, at = words_of(content), min(offset, len(content) - WORD) // WORD
    jumps = [index for index, word in enumerate(words[max(at - 8, 0) : at + 8], max(at - 8, 0)) if _leaves(word)]
    start = max((index + 1 for index in jumps if index < at), default=max(at - 8, 0))
    while start < at and words[start] & _ANY_HINT == _HINT and words[start + 1] & _ANY_HINT == _HINT:
        start += 1
    end = min((index + 1 for index in jumps if index >= at), default=at + 1)
    return start * WORD, (end - start) * WORD


def jumps(code: bytes, address: int) -> dict[int, Jump]:
    """Return the jumps through tables of distances, by their addresses, as far as their length is known.

    Compilers load a distance of 1, 2 or 4 bytes at an index that they have compared with a number, and add it to an
    address.
    """
    found: dict[int, Jump] = {}
    entries: dict[int, _Entry] = {}
    ways: dict[int, Jump] = {}
    count = 0
    for place, word, step, known in _tracked(words_of(code), address):
        if _leaves(word) and step.reads[0] in ways:
            found[place] = ways[step.reads[0]]
        if word & 0x7F80001F == 0x7100001F:  # CMP with a number
            count = (word >> 10 & 0xFFF) + 1
        way, entry = _way(word, step, known, entries, count), _entry(word, step, known)
        for register in step.writes:
            ways.pop(register, None)
            entries.pop(register, None)
        if way:
            ways[step.writes[0]] = way
        if entry:
            entries[step.writes[0]] = entry
    return found


def _only(addresses: frozenset[int]) -> int | None:
    return next(iter(addresses)) if len(addresses) == 1 else None


class _Entry(NamedTuple):
    """What is loaded from a table."""

    table: int
    width: int
    signed: bool


def _entry(word: int, step: Step, known: Known) -> _Entry | None:
    """Return what a load at an index loads."""
    for memory in step.memory:
        table = _only(known.get(memory.base, frozenset()))
        if memory.read and memory.scaled and table is not None and memory.size < _POINTER and len(step.writes) == 1:
            return _Entry(table, memory.size, bool(word >> 23 & 1))
    return None


def _way(word: int, step: Step, known: Known, entries: Mapping[int, _Entry], count: int) -> Jump | None:
    """Return the jump that an addition prepares: ADD of an address and an entry, shifted or extended."""
    operation = word & 0xFFE00000
    if operation not in (_ADD_SHIFTED, _ADD_EXTENDED) or len(step.reads) < 2:
        return None
    base, entry = _only(known.get(step.reads[0], frozenset())), entries.get(step.reads[1])
    if entry is None or base is None or not count:
        return None
    extended = operation == _ADD_EXTENDED
    shift, signed = word >> 10 & (7 if extended else 63), entry.signed or bool(extended and word >> 15 & 1)
    return Jump(entry.table, count, entry.width, base, shift, signed)


def _leaves(word: int) -> bool:
    """Tell whether a word is BR."""
    return word & 0xFFFFFC1F == 0xD61F0000


def _adds(word: int) -> bool:
    """Tell whether a word is ADD or SUB of a number."""
    return word & 0x3F800000 == 0x11000000


def _copies(word: int) -> bool:
    """Tell whether a word is MOV from one register to another."""
    return word & 0xFFE0FFE0 == 0xAA0003E0


def _tracked(words: array[int], address: int) -> Iterator[tuple[int, int, Step, Known]]:
    """Yield steps with their addresses (see :func:`steps`) and words, and the addresses that registers may hold before.

    Control is followed forwards, as compilers lay code out: what a branch back would add is not seen. Where nothing is
    seen to lead, a register that calls preserve holds what it was ever given, the others what they had at a jump that
    leads anywhere.
    """
    known: dict[int, frozenset[int]] = {}
    ahead: dict[int, dict[int, frozenset[int]]] = {}
    kept: dict[int, frozenset[int]] = {}
    falls = True
    for place, word in zip(range(address, address + WORD * len(words), WORD), words, strict=True):
        led = ahead.pop(place, None)
        if led is not None:
            known = _joined(known, led) if falls else led
        elif not falls:
            known = _joined(known, kept)
        falls = True
        for number, step in enumerate(decoded(word, place)):
            yield place + number, word, step, known
            if step.flow != NEXT:
                falls = step.flow in (BRANCH, CALL)
                if step.flow == CALL:
                    known = {register: held for register, held in known.items() if register not in CONVENTION.lost}
                elif step.target is None:
                    kept = _joined(kept, known) if step.flow == JUMP else kept
                elif step.target > place:
                    ahead[step.target] = _joined(ahead.get(step.target, {}), known)
                continue
            made = _made(word, step, known)
            if made or not known.keys().isdisjoint(step.writes):
                known = {register: held for register, held in known.items() if register not in step.writes}
                known.update(dict.fromkeys(step.writes, made) if made else {})
                lasting = _CALLEE_SAVED.intersection(step.writes) if made else ()
                kept = _joined(kept, dict.fromkeys(lasting, made)) if lasting else kept


def _made(word: int, step: Step, known: Known) -> frozenset[int]:
    """Return the addresses that a step may put into a register."""
    if step.constant is not None:
        return frozenset([step.constant])
    if not _adds(word) and not _copies(word):
        return frozenset()
    return frozenset(base + step.offset & ADDRESSES for read in step.reads for base in known.get(read, ()))


def _joined(one: Known, other: Known) -> dict[int, frozenset[int]]:
    both = dict(one)
    for register, held in other.items():
        both[register] = both.get(register, frozenset()) | held
    return {register: held for register, held in both.items() if len(held) <= _MOST}
