"""Lift x86-64 instructions to steps, with iced-x86: their effect on registers, memory and control flow."""

from __future__ import annotations

from array import array
from functools import cache
from operator import attrgetter

from cpufeat.auditing.lifting.semantics import BRANCH, CALL, FLAGS, JUMP, NEXT, STOP, Convention, Memory, Step
from cpufeat.support.conditions import Condition
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import rows

with extra("audit"):
    from iced_x86 import (
        Decoder,
        FlowControl,
        InstructionInfoFactory,
        MemorySizeInfo,
        Mnemonic,
        OpAccess,
        OpKind,
        Register,
        RegisterInfo,
    )

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iced_x86 import Instruction, InstructionInfo, MemorySize_, Register_, UsedMemory

    from cpufeat.auditing.lifting.semantics import MayHoldAddress

FLOWS = {
    FlowControl.UNCONDITIONAL_BRANCH: JUMP,
    FlowControl.INDIRECT_BRANCH: JUMP,
    FlowControl.CONDITIONAL_BRANCH: BRANCH,
    FlowControl.XBEGIN_XABORT_XEND: BRANCH,
    FlowControl.CALL: CALL,
    FlowControl.INDIRECT_CALL: CALL,
    FlowControl.RETURN: STOP,
    FlowControl.EXCEPTION: STOP,
}
"""The kind of control flow, by iced-x86's kind of control flow; ``NEXT`` for all others."""
_DIRECT = (OpKind.NEAR_BRANCH64, OpKind.NEAR_BRANCH32)
_IMMEDIATES = (OpKind.IMMEDIATE32, OpKind.IMMEDIATE64, OpKind.IMMEDIATE32TO64)
_ADDENDS = (OpKind.IMMEDIATE32TO64, OpKind.IMMEDIATE8TO64)
_READS = (OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
_WRITES = (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
_CONDITIONAL_WRITES = (OpAccess.COND_WRITE, OpAccess.READ_COND_WRITE)
_PROBES = (Mnemonic.CPUID, Mnemonic.XGETBV)
_CONSTANT_BASES = (Register.RIP, Register.NONE)
"""Bases of memory operands at a constant address, unless they have an index."""
_FULL_WRITE = 4
"""Bytes: what is written to fewer leaves the rest of the register as it was."""
_SEGMENTS = (Register.FS, Register.GS)
_EXCLUSIVE_OR = (Mnemonic.XOR, Mnemonic.PXOR, Mnemonic.XORPS)
_COUNTS = (Mnemonic.ADD, Mnemonic.SUB, Mnemonic.INC, Mnemonic.DEC, Mnemonic.LEA, Mnemonic.XADD)
_PADDING = (Mnemonic.NOP, Mnemonic.INT3)
_HALTS = (Mnemonic.HLT, Mnemonic.UD2, Mnemonic.INVALID)
_COPIES = (Mnemonic.MOV, Mnemonic.PUSH, Mnemonic.POP)
_IF_ZERO = {
    **dict.fromkeys((Mnemonic.JE, Mnemonic.JNS, Mnemonic.JAE), True),
    **dict.fromkeys((Mnemonic.JNE, Mnemonic.JS, Mnemonic.JB), False),
}
"""Whether a branch is taken if the bits just tested are zero: after TEST and AND, or BT, which sets the carry flag."""
_SIGN = (Mnemonic.JS, Mnemonic.JNS)
_HIGH_BYTES = (Register.AH, Register.BH, Register.CH, Register.DH)
_ALL_BITS = 0xFFFF_FFFF
"""All bits of the registers that CPUID writes."""
_OSXSAVE = "1.0:ECX[27]"
"""The bit of CPUID that tells whether there is XGETBV (``data/x86/states.tsv``)."""
_ip = attrgetter("ip")
_TWO_BYTE_NOP = b"\x66\x90"
PROBES = rb"\x0f(?:\xa2|\x01\xd0)"
"""Matches the bytes of CPUID and XGETBV."""

_SCRATCH: frozenset[int] = frozenset(
    [
        *(Register.RAX, Register.RCX, Register.RDX, Register.RSI, Register.RDI),
        *(Register.R8, Register.R9, Register.R10, Register.R11),
    ]
)


def _feature_bits() -> dict[int, dict[int, int]]:
    """Return, by leaf of CPUID, the registers that tell of features and the bits in each that do.

    All bits count in a register that holds a number made of several, such as a version.
    """
    conditions = [Condition(_OSXSAVE), *(Condition(bit) for _, _, bit, *_ in rows("x86/features.tsv"))]
    registers = {"AX": Register.RAX, "BX": Register.RBX, "CX": Register.RCX, "DX": Register.RDX}
    leaves: dict[int, dict[int, int]] = {}
    for term in (term for condition in conditions for term in condition.terms):
        leaf, _, name = term.word.partition(":E")
        masks, register = leaves.setdefault(int(leaf.partition(".")[0], 16), {}), registers[name]
        masks[register] = masks.get(register, 0) | (1 << term.low if term.width == 1 else _ALL_BITS)
    return leaves


CONVENTION = Convention(
    stack=Register.RSP,
    arguments=(Register.RDI, Register.RSI, Register.RDX, Register.RCX, Register.R8, Register.R9),
    results=(Register.RAX, Register.RDX),
    lost=_SCRATCH | {FLAGS},
    answers=_SCRATCH | {Register.RBX},  # Go returns in RBX too
    resolvers=(),
    asking="CPUID",
    leaf=Register.RAX,
    feature_bits=_feature_bits(),
    word=8,
)
"""System V ABI, AMD64 supplement, section 3.2.1. Windows preserves more, and passes arguments in a subset."""


def steps(code: bytes, address: int, may_hold_address: MayHoldAddress) -> Iterator[Step]:
    """Yield the steps of the code at an address; bytes that cannot be decoded are a step that ends the path."""
    information = InstructionInfoFactory()
    for instruction in Decoder(64, code, ip=address):
        yield _step(instruction, information.info(instruction), may_hold_address)


def constant_addresses(code: bytes, address: int, may_hold_address: MayHoldAddress) -> Iterator[tuple[int, int]]:
    """Yield the address of each instruction that holds an address, in order, and that address."""
    for instruction in Decoder(64, code, ip=address):
        kinds = [instruction.op_kind(index) for index in range(instruction.op_count)]
        if any(kind in _DIRECT for kind in kinds):
            yield instruction.ip, instruction.near_branch_target
        elif OpKind.MEMORY in kinds and _has_constant_base(instruction):
            yield instruction.ip, instruction.memory_displacement
        for index, kind in enumerate(kinds):
            if kind in _IMMEDIATES and may_hold_address(instruction.ip, instruction.next_ip):
                yield instruction.ip, instruction.immediate(index)


def instruction_starts(code: bytes) -> array[int]:
    """Return the offset of each instruction in some code."""
    return array("I", map(_ip, Decoder(64, code, ip=0)))


def _has_constant_base(instruction: Instruction) -> bool:
    return instruction.memory_base in _CONSTANT_BASES and instruction.segment_prefix not in _SEGMENTS


def probes(code: bytes, address: int) -> bool:
    """Tell whether the code has an instruction that asks the CPU what it is."""
    return any(instruction.mnemonic in _PROBES for instruction in Decoder(64, code, ip=address))


def stub_pointer(code: bytes, address: int) -> int | None:
    """Return the place of the pointer through which a stub (a PLT entry) jumps, None for code that is no stub."""
    for instruction in Decoder(64, code, ip=address):
        if instruction.flow_control == FlowControl.INDIRECT_BRANCH and instruction.op0_kind == OpKind.MEMORY:
            return instruction.memory_displacement if instruction.memory_base in _CONSTANT_BASES else None
        if instruction.mnemonic != Mnemonic.ENDBR64:
            return None
    return None


def stub_at(content: bytes, offset: int) -> tuple[int, int]:
    """Return the offset and size of the stub around an offset in a section of stubs (a PLT).

    All have one size, which shows in the first: a jump of 6 bytes, padded by a NOP of 2 bytes or by more.
    """
    size = 8 if content[6:8] == _TWO_BYTE_NOP else 16
    return offset - offset % size, size


def _step(instruction: Instruction, information: InstructionInfo, may_hold_address: MayHoldAddress) -> Step:
    memory = tuple(_memory(used) for used in information.used_memory() if used.segment not in _SEGMENTS)
    registers = [(used.register, used.access) for used in information.used_registers()]
    addressing = {register for operand in memory for register in (operand.base, operand.scaled)}
    operands = {
        _full(instruction.op_register(index))
        for index in range(instruction.op_count)
        if instruction.op_kind(index) == OpKind.REGISTER and information.op_access(index) in _READS
    }
    reads = [_full(register) for register, access in registers if access in _READS]
    written = [register for register, access in registers if access in _WRITES]
    flags, reads_flags = instruction.rflags_modified, bool(instruction.rflags_read)
    narrow = any(_width(register) < _FULL_WRITE for register in written)
    partial = narrow or any(access in _CONDITIONAL_WRITES for _, access in registers)
    return Step(
        address=instruction.ip,
        following=instruction.next_ip,
        flow=STOP if instruction.mnemonic in _HALTS else FLOWS.get(instruction.flow_control, NEXT),
        target=_target(instruction),
        reads=tuple(register for register in reads if register not in addressing or register in operands)
        + (FLAGS,) * reads_flags,
        writes=tuple(_full(register) for register in written) + (FLAGS,) * bool(flags),
        partial=partial,
        memory=memory,
        constant=_constant(instruction, may_hold_address),
        offset=_offset(instruction),
        counts=instruction.mnemonic in _COUNTS,
        pushed=_pushed(instruction),
        probes=instruction.mnemonic in _PROBES,
        sets=_number(instruction) is not None or _sets_bits(instruction),
        number=_number(instruction),
        returns=instruction.flow_control == FlowControl.RETURN,
        padding=instruction.mnemonic in _PADDING,
        chooses=partial and reads_flags,
        copies=instruction.mnemonic in _COPIES,
        mask=_mask(instruction),
        if_zero=_IF_ZERO.get(instruction.mnemonic),
    )


def _number(instruction: Instruction) -> int | None:
    if instruction.mnemonic in _EXCLUSIVE_OR and instruction.op1_kind == OpKind.REGISTER:
        return 0 if instruction.op0_register == instruction.op1_register else None
    if instruction.mnemonic == Mnemonic.MOV and instruction.op1_kind not in (OpKind.REGISTER, OpKind.MEMORY):
        return instruction.immediate(1)
    return None


def _mask(instruction: Instruction) -> int:
    if instruction.mnemonic in _SIGN:
        return 1 << 31
    if instruction.mnemonic == Mnemonic.CMP and instruction.op1_kind not in (OpKind.REGISTER, OpKind.MEMORY):
        return 0 if instruction.immediate(1) else _ALL_BITS
    if instruction.mnemonic not in (Mnemonic.TEST, Mnemonic.AND, Mnemonic.BT):
        return 0
    if instruction.op1_kind in (OpKind.REGISTER, OpKind.MEMORY):
        itself = instruction.op0_register == instruction.op1_register and instruction.op1_kind == OpKind.REGISTER
        return _ALL_BITS if itself and instruction.mnemonic == Mnemonic.TEST else 0
    number = instruction.immediate(1)
    if instruction.mnemonic == Mnemonic.BT:
        return 1 << (number & 31)
    return number << 8 if instruction.op0_register in _HIGH_BYTES else number


def _sets_bits(instruction: Instruction) -> bool:
    return instruction.mnemonic == Mnemonic.OR and instruction.op1_kind not in (OpKind.REGISTER, OpKind.MEMORY)


def _target(instruction: Instruction) -> int | None:
    return instruction.near_branch_target if instruction.op_count and instruction.op0_kind in _DIRECT else None


def _constant(instruction: Instruction, may_hold_address: MayHoldAddress) -> int | None:
    if instruction.mnemonic == Mnemonic.LEA:
        return instruction.memory_displacement if instruction.memory_base in _CONSTANT_BASES else None
    last = instruction.op_count - 1
    if (
        last < 0
        or instruction.op_kind(last) not in _IMMEDIATES
        or not may_hold_address(instruction.ip, instruction.next_ip)
    ):
        return None
    return instruction.immediate(last)


def _offset(instruction: Instruction) -> int:
    if instruction.mnemonic == Mnemonic.LEA and instruction.memory_base not in _CONSTANT_BASES:
        return _signed(instruction.memory_displacement)
    sign = {Mnemonic.ADD: 1, Mnemonic.SUB: -1}.get(instruction.mnemonic, 0)
    return sign * _signed(instruction.immediate(1)) if sign and instruction.op1_kind in _ADDENDS else 0


def _pushed(instruction: Instruction) -> int:
    if instruction.flow_control != FlowControl.NEXT:
        return 0
    if instruction.op_count and instruction.op0_kind == OpKind.REGISTER and instruction.op0_register == Register.RSP:
        return _offset(instruction)
    return int(instruction.stack_pointer_increment)


def _memory(used: UsedMemory) -> Memory:
    base, index, displacement = _full(used.base), _full(used.index), used.displacement
    return Memory(
        base,
        index,
        displacement if not base and not index else _signed(displacement),
        _size(used.memory_size),
        used.access in _READS,
        used.access in _WRITES,
    )


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


@cache
def _size(memory_size: MemorySize_) -> int:
    return MemorySizeInfo(memory_size).size


@cache
def _full(register: Register_) -> int:
    return RegisterInfo(register).full_register if register else 0


@cache
def _width(register: Register_) -> int:
    return RegisterInfo(register).size
