"""Decode one AArch64 instruction word to its steps, for data flow and not for features (DDI 0487, section C4.1).

Capstone gives the same result fifty times more slowly; a test compares the two. A word is decoded as far as facts and
addresses are followed: an instruction that computes in vector registers is taken to read nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cpufeat.auditing.lifting.semantics import BRANCH, CALL, FLAGS, JUMP, NEXT, STOP, Memory, Step
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Steps = tuple[Step, ...]
    Lift = Callable[[int, int], Steps]
    """Returns the steps of a word at an address."""

WORD = 4
PAGE = 4096
"""Bytes of a page of ADRP."""
ADDRESSES = (1 << 64) - 1
"""The bits of an address."""
STACK = 32
"""The stack pointer; ``x0`` to ``x30`` are 1 to 31, ``v0`` to ``v31`` follow. The zero register is none."""
_VECTORS = STACK + 1
_SUBROUTINE_LINK = 31
_SCRATCH = 17
"""``x16``, the register in which CHKFEAT answers."""
_ZERO = 31
_NOP, _CHKFEAT = 0xD503201F, 0xD503251F
_PLAIN = Step(
    address=0,
    following=WORD,
    flow=NEXT,
    target=None,
    reads=(),
    writes=(),
    partial=False,
    memory=(),
    constant=None,
    offset=0,
    counts=False,
    pushed=0,
    probes=False,
    sets=False,
    number=None,
    returns=False,
    padding=False,
    chooses=False,
)


def lift_word(word: int, address: int) -> Steps:
    """Return the steps of a word, one after another: both halves of a pair, the change of a base register."""
    return _lift(word, address) if _is_relative(word) else _lift_anywhere(word)


@lru_cache(1 << 16)
def _lift_anywhere(word: int) -> Steps:
    return _lift(word, 0)


def _lift(word: int, address: int) -> Steps:
    lift = next((row.lift for row in _ROWS[word >> 25 & 0xF] if word & row.mask == row.value), _no_effect)
    return lift(word, address)


def _is_relative(word: int) -> bool:
    """Tell whether the address of an instruction matters to it."""
    return word & 0x1F000000 == 0x10000000 or word & 0x1C000000 == 0x14000000 or word & 0x3B000000 == 0x18000000


# --- fields


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 & 1 else value


def _x(number: int) -> tuple[int, ...]:
    """Return the register of a field in which 31 is zero."""
    return (number + 1,) if number != _ZERO else ()


def _v(number: int) -> tuple[int, ...]:
    return (_VECTORS + number % 32,)


def _d(word: int) -> int:
    """Return the field Rd, or Rt."""
    return word & 31


def _n(word: int) -> int:
    return word >> 5 & 31


def _m(word: int) -> int:
    return word >> 16 & 31


def _a(word: int) -> int:
    """Return the field Ra, or Rt2."""
    return word >> 10 & 31


def _base(word: int) -> int:
    """Return the register of a field Rn in which 31 is the stack pointer."""
    return _n(word) + 1


# --- instructions without effects that matter; immediates


def _no_effect(_word: int, _address: int) -> Steps:
    return (_PLAIN,)


def _undefined(word: int, _address: int) -> Steps:
    return (_PLAIN._replace(flow=STOP, padding=word == 0),)


def _address_of(word: int, address: int) -> Steps:
    """ADR, ADRP."""
    distance = _signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)
    value = (address & -PAGE) + distance * PAGE if word >> 31 else address + distance
    return (_PLAIN._replace(writes=_x(_d(word)), constant=value & ADDRESSES),)


def _add_immediate(word: int, _address: int) -> Steps:
    """ADD, SUB, ADDS, SUBS; MOV to and from the stack pointer, CMP."""
    immediate = (word >> 10 & 0xFFF) << 12 * (word >> 22 & 1)
    offset = -immediate if word >> 30 & 1 else immediate
    if word >> 29 & 1:
        return (_sum(word, (_base(word),))._replace(offset=offset if _d(word) != _ZERO else 0),)
    target = _d(word) + 1
    pushed = offset if target == _base(word) == STACK else 0
    return (_PLAIN._replace(reads=(_base(word),), writes=(target,), offset=offset, counts=bool(offset), pushed=pushed),)


def _sum(word: int, reads: tuple[int, ...]) -> Step:
    """Return the step of an addition or subtraction; a comparison is one that writes the flags alone."""
    flags = (FLAGS,) * (word >> 29 & 1)
    return _PLAIN._replace(reads=reads, writes=_x(_d(word)) + flags, counts=_d(word) != _ZERO)


def _other_immediate(word: int, _address: int) -> Steps:
    """ADDG and SUBG, whose register 31 is the stack pointer; SMAX and others, whose register 31 is zero."""
    tags = not word >> 22 & 1
    target, source = (_d(word) + 1,) if tags else _x(_d(word)), (_base(word),) if tags else _x(_n(word))
    return (_PLAIN._replace(reads=source, writes=target),)


def _logical_immediate(word: int, _address: int) -> Steps:
    """AND, ORR, EOR, ANDS; MOV of a pattern of bits, TST."""
    operation = word >> 29 & 3
    target = (*_x(_d(word)), FLAGS) if operation == 3 else (_d(word) + 1,)
    return (_PLAIN._replace(reads=_x(_n(word)), writes=target, sets=operation == 1),)


def _move(word: int, _address: int) -> Steps:
    """MOVN, MOVZ, MOVK."""
    operation, value = word >> 29 & 3, (word >> 5 & 0xFFFF) << 16 * (word >> 21 & 3)
    width = (1 << (64 if word >> 31 else 32)) - 1
    number = {0: ~value & width, 2: value}.get(operation)
    return (_PLAIN._replace(writes=_x(_d(word)), partial=operation == 3, sets=True, number=number),)


def _bitfield(word: int, _address: int) -> Steps:
    """SBFM, BFM, UBFM, and shifts and extensions, which are such."""
    merged = _x(_d(word)) if word >> 29 & 3 == 1 else ()
    return (_PLAIN._replace(reads=_x(_n(word)) + merged, writes=_x(_d(word))),)


def _extract(word: int, _address: int) -> Steps:
    return (_PLAIN._replace(reads=_x(_n(word)) + _x(_m(word)), writes=_x(_d(word))),)


# --- branches and system instructions


def _branch(word: int, address: int) -> Steps:
    """B, BL."""
    target = address + WORD * _signed(word & 0x3FFFFFF, 26) & ADDRESSES
    return (_PLAIN._replace(flow=CALL if word >> 31 else JUMP, target=target),)


def _conditional(word: int, address: int) -> Steps:
    target = address + WORD * _signed(word >> 5 & 0x7FFFF, 19) & ADDRESSES
    reads = (FLAGS,) if word & 0x7E000000 == 0x54000000 else _x(_d(word))
    return (_PLAIN._replace(flow=BRANCH, target=target, reads=reads),)


def _test_bit(word: int, address: int) -> Steps:
    target = address + WORD * _signed(word >> 5 & 0x3FFF, 14) & ADDRESSES
    return (_PLAIN._replace(flow=BRANCH, target=target, reads=_x(_d(word))),)


def _compare(word: int, address: int) -> Steps:
    """CB: with a register or a number."""
    target = address + WORD * _signed(word >> 5 & 0x1FF, 9) & ADDRESSES
    second = () if word >> 24 & 1 else _x(_m(word))
    return (_PLAIN._replace(flow=BRANCH, target=target, reads=_x(_d(word)) + second),)


def _to_register(word: int, _address: int) -> Steps:
    """BR, BLR, RET, and those that authenticate; ERET."""
    operation, reads = word >> 21 & 7, _x(_n(word))
    if operation > 1:
        return (_PLAIN._replace(flow=STOP, returns=operation == 2),)
    return (_PLAIN._replace(flow=CALL if operation else JUMP, reads=reads),)


def _exception(word: int, _address: int) -> Steps:
    """SVC, whose result is in ``x0``; BRK, HLT."""
    if word >> 21 & 7 == 0:
        return (_PLAIN._replace(writes=_x(0)),)
    return (_PLAIN._replace(flow=STOP, padding=True),)


def _system(word: int, _address: int) -> Steps:
    """MRS, MSR, SYS, hints."""
    if word == _CHKFEAT:
        return (_PLAIN._replace(writes=(_SCRATCH,), probes=True),)
    if word >> 21 & 1:
        return (_PLAIN._replace(writes=_x(_d(word)), probes=asks_cpu(word)),)
    return (_PLAIN._replace(reads=_x(_d(word)), writes=(FLAGS,) * (word >> 20 & 1), padding=word == _NOP),)


def asks_cpu(word: int) -> bool:
    """Tell whether an instruction asks the CPU what it is: MRS of MIDR_EL1 and of ID registers (D24.2), CHKFEAT."""
    if word & 0xFFFFF800 != 0xD5380000:
        return word == _CHKFEAT
    return word & 0x7E0 == 0 or word & 0x700 != 0


# --- loads and stores


def _transfer(registers: tuple[int, ...], memory: Memory) -> Step:
    if memory.read:
        return _PLAIN._replace(writes=registers, memory=(memory,))
    zero = not registers
    return _PLAIN._replace(reads=registers, memory=(memory,), sets=zero, number=0 if zero else None)


def _moved(base: int, distance: int) -> Step:
    """Return the step that adds a distance to a base register."""
    return _PLAIN._replace(reads=(base,), writes=(base,), offset=distance, pushed=distance if base == STACK else 0)


def _indexed(accesses: Steps, base: int, distance: int, *, before: bool) -> Steps:
    return (_moved(base, distance), *accesses) if before else (*accesses, _moved(base, distance))


class _Access(NamedTuple):
    """A load or store of one register."""

    registers: tuple[int, ...]
    size: int
    load: bool
    prefetch: bool


def _access_of(word: int) -> _Access:
    size, operation = word >> 30, word >> 22 & 3
    if word >> 26 & 1:
        return _Access(_v(_d(word)), 1 << (size | (operation & 2) << 1), bool(operation & 1), False)
    return _Access(_x(_d(word)), 1 << size, operation != 0, size == 3 and operation == 2)


def _access_at(word: int, displacement: int, scaled: int = 0) -> Steps:
    access = _access_of(word)
    if access.prefetch:
        return (_PLAIN,)
    memory = Memory(_base(word), scaled, displacement, access.size, access.load, not access.load)
    return (_transfer(access.registers, memory),)


def _unsigned_offset(word: int, _address: int) -> Steps:
    return _access_at(word, (word >> 10 & 0xFFF) * _access_of(word).size)


def _register_offset(word: int, _address: int) -> Steps:
    return _access_at(word, 0, next(iter(_x(_m(word))), 0))


def _signed_offset(word: int, _address: int) -> Steps:
    """LDUR and others, unprivileged ones, and those that change the base register before or after the access."""
    distance, mode = _signed(word >> 12 & 0x1FF, 9), word >> 10 & 3
    if not mode & 1:
        return _access_at(word, distance)
    return _indexed(_access_at(word, 0), _base(word), distance, before=mode == 3)


def _authenticated(word: int, _address: int) -> Steps:
    """LDRAA, LDRAB."""
    distance = 8 * _signed((word >> 22 & 1) << 9 | word >> 12 & 0x1FF, 10)
    before = bool(word >> 11 & 1)
    access = (_transfer(_x(_d(word)), Memory(_base(word), 0, 0 if before else distance, 8, True, False)),)
    return _indexed(access, _base(word), distance, before=True) if before else access


def _literal(word: int, address: int) -> Steps:
    operation, vector = word >> 30, word >> 26 & 1
    if operation == 3:
        return (_PLAIN,)
    place = address + WORD * _signed(word >> 5 & 0x7FFFF, 19) & ADDRESSES
    registers = _v(_d(word)) if vector else _x(_d(word))
    size = 4 << operation if vector or operation < 2 else 4
    return (_transfer(registers, Memory(0, 0, place, size, True, False)),)


def _pair(word: int, _address: int) -> Steps:
    """LDP, STP; LDPSW, STGP."""
    operation, vector, load = word >> 30, word >> 26 & 1, bool(word >> 22 & 1)
    size = 4 << operation if vector else 8 if operation == 2 or (operation == 1 and not load) else 4
    scale = 16 if operation == 1 and not vector and not load else size
    distance, mode = scale * _signed(word >> 15 & 0x7F, 7), word >> 23 & 3
    bank, start = _v if vector else _x, 0 if mode & 1 else distance
    accesses = tuple(
        _transfer(bank(number), Memory(_base(word), 0, start + at, size, load, not load))
        for number, at in ((_d(word), 0), (_a(word), size))
    )
    return _indexed(accesses, _base(word), distance, before=mode == 3) if mode & 1 else accesses


def _exclusive(word: int, _address: int) -> Steps:
    """LDXR, STXR, LDAR, STLR, CAS, and those of pairs."""
    size, load = 1 << (word >> 30), bool(word >> 22 & 1)
    ordered, paired = word >> 23 & 1, word >> 21 & 1
    first, status = _x(_d(word)), _x(_m(word))
    second = _x(_a(word)) if paired else ()
    if paired and (ordered or not word >> 31):
        return _compare_and_swap(word, size if ordered else 4 << (word >> 30 & 1) + 1, 1 if ordered else 2)
    memory = Memory(_base(word), 0, 0, size << paired, load, not load)
    access = _transfer(first + second, memory)
    return (access,) if load or ordered else (access, _PLAIN._replace(writes=status))


def _compare_and_swap(word: int, size: int, count: int) -> Steps:
    old = tuple(register for number in range(count) for register in _x(_m(word) + number))
    new = tuple(register for number in range(count) for register in _x(_d(word) + number))
    return (_PLAIN._replace(reads=old + new, writes=old, memory=(Memory(_base(word), 0, 0, size, True, True),)),)


def _atomic(word: int, _address: int) -> Steps:
    """LDADD, LDSET, SWP and others; LDAPR."""
    size = 1 << (word >> 30)
    if word & 0x3FFFFC00 == 0x38BFC000:
        return (_transfer(_x(_d(word)), Memory(_base(word), 0, 0, size, True, False)),)
    memory = Memory(_base(word), 0, 0, size, True, True)
    adds = word & 0xF000 == 0
    return (_PLAIN._replace(reads=_x(_m(word)), writes=_x(_d(word)), memory=(memory,), counts=adds),)


def _structures(word: int, _address: int) -> Steps:
    """LD1 to LD4, ST1 to ST4, of whole registers or single elements."""
    single, load, wide = word >> 24 & 1, bool(word >> 22 & 1), word >> 30 & 1
    if single:
        count = (word >> 21 & 1) + (word >> 13 & 1) * 2 + 1
        scale = word >> 14 & 3
        size = count << (word >> 10 & 3 if scale == 3 else 3 if scale == 2 and word >> 10 & 1 else scale)
    else:
        count = {0: 4, 2: 4, 4: 3, 6: 3, 7: 1, 8: 2, 10: 2}.get(word >> 12 & 0xF, 4)
        size = count * (16 if wide else 8)
    registers = tuple(_VECTORS + (_d(word) + number) % 32 for number in range(count))
    access = _transfer(registers, Memory(_base(word), 0, 0, size, load, not load))._replace(
        partial=bool(load and single)
    )
    if not word >> 23 & 1:
        return (access,)
    if _m(word) == _ZERO:
        return access, _moved(_base(word), size)
    return access, _PLAIN._replace(reads=(_base(word), *_x(_m(word))), writes=(_base(word),), counts=True)


def _copied(word: int, _address: int) -> Steps:
    """CPY and SET, which decrement their registers (FEAT_MOPS)."""
    registers = _x(_d(word)) + _x(_n(word)) + _x(_m(word))
    return (_PLAIN._replace(reads=registers, writes=(*registers, FLAGS)),)


def _tag(word: int, _address: int) -> Steps:
    """LDG, STG and others."""
    distance, mode = 16 * _signed(word >> 12 & 0x1FF, 9), word >> 10 & 3
    load = mode == 0
    access = (_PLAIN._replace(writes=_x(_d(word)) if load else (), reads=() if load else (_d(word) + 1,)),)
    return _indexed(access, _base(word), distance, before=mode == 3) if mode & 1 else access


def _other_transfer(word: int, _address: int) -> Steps:
    memory = Memory(_base(word), 0, 0, 0, True, False)
    return (_PLAIN._replace(reads=_x(_d(word)), writes=_x(_d(word)) + _x(_m(word)), memory=(memory,)),)


# --- registers


def _logical(word: int, _address: int) -> Steps:
    """AND, ORR, EOR and others; MOV, MVN, TST."""
    reads = _x(_n(word)) + _x(_m(word))
    flags = (FLAGS,) if word >> 29 & 3 == 3 else ()
    zero = not reads and not word >> 21 & 1
    return (_PLAIN._replace(reads=reads, writes=_x(_d(word)) + flags, sets=not reads, number=0 if zero else None),)


def _add(word: int, _address: int) -> Steps:
    return (_sum(word, _x(_n(word)) + _x(_m(word))),)


def _add_extended(word: int, _address: int) -> Steps:
    reads = (_base(word), *_x(_m(word)))
    if word >> 29 & 1:
        return (_sum(word, reads),)
    return (_PLAIN._replace(reads=reads, writes=(_d(word) + 1,), counts=True),)


def _carry(word: int, _address: int) -> Steps:
    """ADC, SBC; RMIF and SETF, which write the flags alone."""
    if word >> 10 & 0x3F:
        return (_PLAIN._replace(reads=_x(_n(word)), writes=(FLAGS,), partial=True),)
    flags = (FLAGS,) * (word >> 29 & 1)
    return (_PLAIN._replace(reads=(*_x(_n(word)), *_x(_m(word)), FLAGS), writes=_x(_d(word)) + flags, counts=True),)


def _conditional_compare(word: int, _address: int) -> Steps:
    second = () if word >> 11 & 1 else _x(_m(word))
    return (_PLAIN._replace(reads=(*_x(_n(word)), *second, FLAGS), writes=(FLAGS,)),)


def _select(word: int, _address: int) -> Steps:
    """CSEL, CSINC, CSINV, CSNEG; CSET."""
    return (_PLAIN._replace(reads=(*_x(_n(word)), *_x(_m(word)), FLAGS), writes=_x(_d(word)), chooses=True),)


def _two_sources(word: int, _address: int) -> Steps:
    flags = (FLAGS,) * (word >> 29 & 1)
    return (_PLAIN._replace(reads=_x(_n(word)) + _x(_m(word)), writes=_x(_d(word)) + flags),)


def _one_source(word: int, _address: int) -> Steps:
    """RBIT, REV, CLZ; PACIA and others, which change what they sign."""
    signed = _x(_d(word)) if word >> 16 & 1 else ()
    return (_PLAIN._replace(reads=_x(_n(word)) + signed, writes=_x(_d(word))),)


def _three_sources(word: int, _address: int) -> Steps:
    return (_PLAIN._replace(reads=_x(_n(word)) + _x(_m(word)) + _x(_a(word)), writes=_x(_d(word))),)


# --- vectors


def _vector(word: int, _address: int) -> Steps:
    return (_PLAIN._replace(writes=_v(_d(word))),)


def _to_vector(word: int, _address: int) -> Steps:
    """FMOV, DUP, INS, SCVTF from a general register."""
    return (_PLAIN._replace(reads=_x(_n(word)), writes=_v(_d(word))),)


def _from_vector(word: int, _address: int) -> Steps:
    """FMOV, UMOV, SMOV, FCVTZS to a general register."""
    return (_PLAIN._replace(reads=_v(_n(word)), writes=_x(_d(word))),)


def _conversion(word: int, address: int) -> Steps:
    return (_to_vector if word >> 16 & 7 in (2, 3, 7) else _from_vector)(word, address)


def _flags(_word: int, _address: int) -> Steps:
    return (_PLAIN._replace(writes=(FLAGS,)),)


def _scalable_count(word: int, _address: int) -> Steps:
    """SVE: counts of elements and predicates in a general register; ADDVL, which may change the stack pointer."""
    target = (_d(word) + 1,) if word & 0xFF20F000 == 0x04205000 and not word >> 23 & 1 else _x(_d(word))
    return (_PLAIN._replace(writes=(*target, FLAGS)),)


def _scalable(word: int, _address: int) -> Steps:
    """Other SVE: it may write the flags, and loads and stores have a base."""
    memory = (Memory(_base(word), 0, 0, 0, True, False),) if word >> 31 else ()
    return (_PLAIN._replace(writes=(FLAGS,), memory=memory),)


class _Row(NamedTuple):
    """The words that equal a value under a mask, and what lifts them."""

    mask: int
    value: int
    lift: Lift


_IMMEDIATE = (
    _Row(0x1F000000, 0x10000000, _address_of),
    _Row(0x1F800000, 0x11000000, _add_immediate),
    _Row(0x1F800000, 0x11800000, _other_immediate),
    _Row(0x1F800000, 0x12000000, _logical_immediate),
    _Row(0x1F800000, 0x12800000, _move),
    _Row(0x1F800000, 0x13000000, _bitfield),
    _Row(0x1F800000, 0x13800000, _extract),
)
_CONTROL = (
    _Row(0x7C000000, 0x14000000, _branch),
    _Row(0xFE000000, 0x54000000, _conditional),
    _Row(0x7E000000, 0x34000000, _conditional),
    _Row(0x7E000000, 0x36000000, _test_bit),
    _Row(0x7E000000, 0x74000000, _compare),
    _Row(0xFE000000, 0xD6000000, _to_register),
    _Row(0xFF000000, 0xD4000000, _exception),
    _Row(0xFFC00000, 0xD5000000, _system),
)
_TRANSFER = (
    _Row(0x3B000000, 0x39000000, _unsigned_offset),
    _Row(0x3A000000, 0x28000000, _pair),
    _Row(0x3F000000, 0x08000000, _exclusive),
    _Row(0x3B000000, 0x18000000, _literal),
    _Row(0x3B200000, 0x38000000, _signed_offset),
    _Row(0x3F200C00, 0x38200000, _atomic),
    _Row(0x3B200C00, 0x38200800, _register_offset),
    _Row(0xFF200400, 0xF8200400, _authenticated),
    _Row(0xBE000000, 0x0C000000, _structures),
    _Row(0xFF200000, 0xD9200000, _tag),
    _Row(0x3F200C00, 0x19000000, _signed_offset),  # LDAPUR, STLUR
    _Row(0x3B200C00, 0x19000400, _copied),
    _Row(0x00000000, 0x00000000, _other_transfer),
)
_REGISTER = (
    _Row(0x1F000000, 0x0A000000, _logical),
    _Row(0x1F200000, 0x0B000000, _add),
    _Row(0x1F200000, 0x0B200000, _add_extended),
    _Row(0x1FE00000, 0x1A000000, _carry),
    _Row(0x1FE00000, 0x1A400000, _conditional_compare),
    _Row(0x1FE00000, 0x1A800000, _select),
    _Row(0x5FE00000, 0x1AC00000, _two_sources),
    _Row(0x5FE00000, 0x5AC00000, _one_source),
    _Row(0x1F000000, 0x1B000000, _three_sources),
)
_VECTOR = (
    _Row(0x5F20FC00, 0x1E200000, _conversion),
    _Row(0x5F200000, 0x1E000000, _conversion),
    _Row(0xFF203C00, 0x1E202000, _flags),  # FCMP
    _Row(0xFF200C00, 0x1E200400, _flags),  # FCCMP
    _Row(0xBFE0EC00, 0x0E002C00, _from_vector),  # SMOV, UMOV
    _Row(0xBFE0FC00, 0x0E000C00, _to_vector),  # DUP
    _Row(0xFFE0FC00, 0x4E001C00, _to_vector),  # INS
    _Row(0x00000000, 0x00000000, _vector),
)
_SCALABLE = (
    _Row(0xFF20F000, 0x04205000, _scalable_count),  # ADDVL, ADDPL, RDVL, and those of streaming mode
    _Row(0xFF20E000, 0x0420E000, _scalable_count),  # CNTB, INCB, SQINCB and others
    _Row(0xFF38C000, 0x25208000, _scalable_count),  # CNTP
    _Row(0xFF38F800, 0x25288800, _scalable_count),  # INCP, SQINCP and others
    _Row(0xFF3EE000, 0x0520A000, _scalable_count),  # LASTA, LASTB
    _Row(0xFF3EE000, 0x0530A000, _scalable_count),  # CLASTA, CLASTB
    _Row(0x00000000, 0x00000000, _scalable),
)
_ROWS: tuple[tuple[_Row, ...], ...] = (
    (_Row(0xFFFF0000, 0x00000000, _undefined),),
    (),
    _SCALABLE,
    (),
    *(_TRANSFER, _REGISTER, _TRANSFER, _VECTOR),
    *(_IMMEDIATE, _IMMEDIATE, _CONTROL, _CONTROL),
    *(_TRANSFER, _REGISTER, _TRANSFER, _VECTOR),
)
"""The rows, by bits 28 to 25; the first that matches applies."""
