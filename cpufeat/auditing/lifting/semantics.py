"""What an instruction does to control and data flow, in words that do not depend on the architecture."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    MayHoldAddress = Callable[[int, int], bool]
    """From an instruction's start and end to whether its immediate operand may be an address."""

FLAGS = -1
"""In place of a register's number: the condition flags."""

NEXT, JUMP, BRANCH, CALL, STOP = range(5)
"""Where control goes on: after the instruction, elsewhere, either, elsewhere and back, nowhere (returns are this)."""


class Memory(NamedTuple):
    """A memory operand."""

    base: int
    """The register, 0 for none."""
    scaled: int
    """The index register."""
    displacement: int
    """Signed; where there is neither base nor index, the address."""
    size: int
    """In bytes, 0 where it is not fixed."""
    read: bool
    written: bool

    @property
    def is_constant(self) -> bool:
        """Whether the displacement is the address."""
        return not self.base and not self.scaled


class Step(NamedTuple):
    """One instruction."""

    address: int
    following: int
    """The address of the next one."""
    flow: int
    target: int | None
    """Where a direct call, jump or branch leads; None for an indirect one."""
    reads: tuple[int, ...]
    """The registers whose values make what it writes, without those that only address memory."""
    writes: tuple[int, ...]
    partial: bool
    """Whether what it writes may keep a part of what was there (narrow registers, x86's conditional moves)."""
    memory: tuple[Memory, ...]
    constant: int | None
    """What it makes of no register: an address (``lea``), an immediate operand."""
    offset: int
    """What it adds to a register that it copies."""
    counts: bool
    """Whether it adds or subtracts."""
    pushed: int
    """What it adds to the stack pointer."""
    probes: bool
    """Whether it asks the CPU what it is: all that it writes are facts about the CPU."""
    sets: bool
    """Whether a number in the code decides what it writes, or which bits of it are set."""
    number: int | None
    """What it writes, where that is known; it may be an address."""
    returns: bool
    padding: bool
    """Whether compilers fill gaps with it."""
    chooses: bool
    """Whether the flags decide which of its operands it hands on."""
    copies: bool = False
    """Whether it does nothing but to move what one register or place in memory holds to another."""
    mask: int = 0
    """The bits that it leaves of a value (x86's AND), or says of whether they are zero (TEST, BT); 0: it does not."""
    if_zero: bool | None = None
    """Whether a branch is taken if those are zero; None for one that does not ask for that."""


class Convention(NamedTuple):
    """Which registers a call uses for what."""

    stack: int
    arguments: tuple[int, ...]
    results: tuple[int, ...]
    """The registers of results in C; other languages have more."""
    lost: frozenset[int]
    """Those that a call does not preserve, with the flags."""
    answers: frozenset[int]
    """The registers in which a function of some language may give a result."""
    resolvers: tuple[int, ...]
    """The arguments that tell an ``ifunc`` resolver what the CPU can do."""
    asking: str
    """What the instructions are called that ask it."""
    word: int
    """Bytes above the stack pointer at a function's start that are not the caller's: the address to return to."""
    leaf: int = 0
    """The register that says what an instruction is to tell, 0 where there is none."""
    feature_bits: Mapping[int, Mapping[int, int]] = {}
    """By the number in that register: the registers in which the instruction tells of features, and in which bits."""
    pages: bool = False
    """Whether addresses are made of that of a page and what is added to it."""
    asks_system: bool = False
    """Whether programs usually ask the system, and not the CPU: what the system answers is at first hand then."""


class Lifter(Protocol):
    """The interface of the modules that lift the code of one architecture."""

    CONVENTION: Convention
    PROBES: bytes
    """What the bytes of instructions that ask the CPU what it is look like, as a regular expression."""

    def steps(self, code: bytes, address: int, may_hold_address: MayHoldAddress, /) -> list[Step]:
        """Return the steps of the instructions at an address; what cannot be decoded ends a path."""

    def probes(self, code: bytes, address: int, /) -> bool:
        """Tell whether there is an instruction in the code that asks the CPU what it is."""

    def constant_addresses(
        self, code: bytes, address: int, may_hold_address: MayHoldAddress, /
    ) -> Iterator[tuple[int, int]]:
        """Yield the address of each instruction that holds or completes an address, in order, and that address."""

    def stub_pointer(self, code: bytes, address: int, /) -> int | None:
        """Return the place of the pointer through which a stub (a PLT entry) jumps, None for code that is no stub."""

    def stub_at(self, content: bytes, offset: int, /) -> tuple[int, int]:
        """Return the offset and size of the stub around an offset in a section of stubs (a PLT)."""
