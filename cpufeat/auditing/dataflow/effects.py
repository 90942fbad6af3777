"""Collect the effects of a function in one round of interpretation: facts that it stores, returns and branches on."""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.auditing.dataflow.lattice import Argument


class Effects:
    """The effects of a function in one round of interpretation, collected step by step."""

    def __init__(self) -> None:
        self.stored: set[int] = set()
        """Addresses of bytes that were given facts."""
        self.implied: set[int] = set()
        """Addresses of bytes that were given values on one side of a branch on a fact, from which it can be told."""
        self.overwritten: set[tuple[int, range]] = set()
        """Blocks, and the addresses of bytes that they give something else, or a sum."""
        self.mixed: set[int] = set()
        """Addresses of bytes that are given something else whatever the tests say, or hold it initially."""
        self.returned: set[int] = set()
        """Registers in which it returns facts."""
        self.returned_words: set[int] = set()
        """Addresses of words of other files that it returns as they are."""
        self.argument_flow: dict[int, set[Argument]] = {}
        """The arguments that its results are made from, by the results' registers."""
        self.fills = False
        """Whether it stores facts where its arguments point, or elsewhere outside of its own frame."""
        self.selected: set[frozenset[int]] = set()
        """Groups of addresses of which facts select one without a branch."""
        self.tests: set[int] = set()
        """Blocks that end in a branch on a fact."""
        self.absent: dict[int, int] = {}
        """The successor if all bits that a test asks for are zero, by test; only tests of bits of features."""
        self.sources: set[str] = set()
        """The sources of the facts, in words."""
        self.distance = 0
        """The number of functions that handed on the results that it uses, one to the next."""
        self.probes = False
        """Whether it asks by itself: the CPU by an instruction, or the system."""
        self.asks = False
        """Whether it has answers at first hand: its own, or those of a function that asks by itself."""
