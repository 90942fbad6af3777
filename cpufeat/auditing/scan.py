"""What one pass over the code of an image finds, in words that do not depend on the architecture."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.auditing.image import Function


class Operand(NamedTuple):
    """A memory operand at a known address that faults unless it is aligned."""

    address: int
    """Of the instruction."""
    operand: int
    """Of the memory."""
    alignment: int
    """In bytes, that the instruction needs."""


class Body(NamedTuple):
    """What the code of one function does, as far as it matters here."""

    function: Function
    uses: Mapping[str, tuple[int, ...]]
    """Features above the baseline that it needs, each with the first addresses of its instructions."""
    harmless: Mapping[str, tuple[int, ...]]
    """Rows of ``harmless.tsv`` that occur in it, and where first."""
    probes: frozenset[str]
    """Mnemonics that it has of those that ask what the CPU is: ``cpuid``, ``xgetbv``, ``mrs``."""
    calls: tuple[int, ...]
    """Where its calls and jumps lead outside of it: functions, PLT entries, externals. In order, with repetitions."""
    references: tuple[int, ...]
    """Code and externals whose address it takes, or reads from a pointer that is filled in at load (a GOT entry)."""
    operands: tuple[Operand, ...]
    instructions: int


class Undecoded(NamedTuple):
    """A stretch of an executable section that was not taken for code, or could not be decoded as such."""

    address: int
    size: int
    reason: str


class Scan(Value):
    """The code of one image."""

    bodies: tuple[Body, ...]
    """By address."""
    undecoded: tuple[Undecoded, ...]
