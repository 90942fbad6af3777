"""Define *steps*, the intermediate representation: an instruction's effect on registers, memory and control flow."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    MayHoldAddress = Callable[[int, int], bool]
    """Whether the immediate operand of the instruction from a start to an end may be an address."""

FLAGS = -1
"""The number of the condition flags, which are treated as a register."""

NEXT, JUMP, BRANCH, CALL, STOP = range(5)
"""Control continues at the next instruction, at the target, at either, at the target and then the next, nowhere.

A return is ``STOP``.
"""


class Memory(NamedTuple):
    """A memory operand."""

    base: int
    """The register, 0 for none."""
    scaled: int
    """The index register."""
    displacement: int
    """Signed; the address if there is neither base nor index."""
    size: int
    """In bytes, 0 if it is not fixed."""
    read: bool
    written: bool

    @property
    def is_constant(self) -> bool:
        """Whether the displacement is the address."""
        return not self.base and not self.scaled


class Step(NamedTuple):
    """One instruction, or on AArch64 one of the things that an instruction does in turn."""

    address: int
    following: int
    """The address of the next one."""
    flow: int
    target: int | None
    """The address to which a direct call, jump or branch leads; None for an indirect one."""
    reads: tuple[int, ...]
    """The registers from which it computes what it writes, without those that only address memory."""
    writes: tuple[int, ...]
    partial: bool
    """Whether a register that it writes may keep some of its value (narrow registers, x86's conditional moves)."""
    memory: tuple[Memory, ...]
    constant: int | None
    """An address that it computes without a register (``lea``), or an immediate operand that may be one."""
    offset: int
    """The number that it adds to the register that it copies."""
    counts: bool
    """Whether its result is a sum or difference."""
    pushed: int
    """The number that it adds to the stack pointer."""
    probes: bool
    """Whether it queries the CPU's identity, so that everything it writes is an answer."""
    sets: bool
    """Whether it writes a number in the code, or sets bits that one selects."""
    number: int | None
    """The number that it writes, if that is in the code; it may be an address."""
    returns: bool
    padding: bool
    """Whether compilers fill gaps between functions with it."""
    chooses: bool
    """Whether the flags select which of its operands it writes (conditional moves)."""
    copies: bool = False
    """Whether it only copies a register or memory operand to another."""
    mask: int = 0
    """The bits of a value that it keeps (x86's AND) or tests for zero (TEST, BT); 0 for other instructions."""
    if_zero: bool | None = None
    """Whether a branch is taken if the bits just tested are zero; None for branches on another condition."""


class Convention(NamedTuple):
    """A calling convention, and how its architecture asks about features."""

    stack: int
    arguments: tuple[int, ...]
    results: tuple[int, ...]
    """The registers of results in C; other languages use more."""
    lost: frozenset[int]
    """The registers that a call does not preserve, and the flags."""
    answers: frozenset[int]
    """The registers in which a function of any language may return a result."""
    resolvers: tuple[int, ...]
    """The registers of arguments that tell an ``ifunc`` resolver what the CPU can do."""
    asking: str
    """The name of the instructions, or registers, that tell what the CPU can do."""
    word: int
    """Bytes above the stack pointer at a function's start that hold the return address; the caller's frame follows."""
    leaf: int = 0
    """The register that selects what the instruction answers (the leaf of CPUID), 0 if there is none."""
    feature_bits: Mapping[int, Mapping[int, int]] = {}
    """The bits of each register in which the instruction tells of features, by the number in that register."""
    pages: bool = False
    """Whether code computes addresses from that of a page and an offset in it."""
    asks_system: bool = False
    """Whether programs usually ask the system and not the CPU; its answers count like the CPU's own then."""


class Lifter(Protocol):
    """The interface of the modules that lift the code of one architecture."""

    CONVENTION: Convention
    PROBES: bytes
    """A regular expression that matches the bytes of the instructions that ask the CPU what it is."""

    def steps(self, code: bytes, address: int, may_hold_address: MayHoldAddress, /) -> Iterator[Step]:
        """Yield the steps of the code at an address; bytes that cannot be decoded are a step that ends the path."""

    def probes(self, code: bytes, address: int, /) -> bool:
        """Tell whether the code has an instruction that asks the CPU what it is."""

    def constant_addresses(
        self, code: bytes, address: int, may_hold_address: MayHoldAddress, /
    ) -> Iterator[tuple[int, int]]:
        """Yield the address of each instruction that holds or completes an address, in order, and that address."""

    def stub_pointer(self, code: bytes, address: int, /) -> int | None:
        """Return the place of the pointer through which a stub (a PLT entry) jumps, None for code that is no stub."""

    def stub_at(self, content: bytes, offset: int, /) -> tuple[int, int]:
        """Return the offset and size of the stub around an offset in a section of stubs (a PLT)."""
