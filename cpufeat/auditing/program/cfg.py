"""Build the control-flow graph of one function: basic blocks of lifted steps."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from cpufeat.auditing.lifting.semantics import BRANCH, CALL, JUMP, NEXT
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from cpufeat.auditing.lifting.semantics import Step


class Block(NamedTuple):
    """A basic block; without steps it stands for a branch's way out of the function."""

    start: int
    """The address of its first step."""
    steps: tuple[Step, ...]
    successors: tuple[int, ...]
    """Indices of blocks."""


class ControlFlowGraph:
    """The basic blocks of one function, the first of which is its start."""

    def __init__(
        self, steps: Sequence[Step], entries: Iterable[int], switch_targets: Callable[[Step], Collection[int]]
    ) -> None:
        """Divide the steps, of which there is at least one, into blocks.

        ``entries``: the addresses at which code elsewhere enters. ``switch_targets`` gives the addresses that an
        indirect jump may lead to, as far as known. A block that nothing is seen to lead to (a landing pad, a case of
        an unknown jump table) counts as entered from outside.
        """
        known = self._known = {step.address: index for index, step in enumerate(steps)}
        leaders = {step.target for step in steps if step.target in known and step.flow in (JUMP, BRANCH)}
        leaders |= {step.following for step in steps if step.flow not in (NEXT, CALL)}
        leaders |= {entry for entry in entries if entry in known} | {steps[0].address}
        leaders |= {target for step in steps if _is_indirect(step) for target in switch_targets(step)}
        self._starts = sorted(leader for leader in leaders if leader in known)
        cuts = [known[start] for start in self._starts] + [len(steps)]
        runs = [tuple(steps[start:end]) for start, end in pairwise(cuts)]
        branches = [step.target for step in steps if step.flow == BRANCH and step.target is not None]
        outside = sorted({target for target in branches if target not in known})
        self._exits = {target: len(runs) + index for index, target in enumerate(outside)}
        inside = (Block(run[0].address, run, tuple(self._successors(run[-1], switch_targets))) for run in runs)
        self.blocks: list[Block] = [*inside, *(Block(target, (), ()) for target in outside)]
        self._predecessors: list[list[int]] = [[] for _ in self.blocks]
        for index, block in enumerate(self.blocks):
            for successor in set(block.successors):
                self._predecessors[successor].append(index)
        self.orphans: tuple[int, ...] = self._find_orphans({self.block_at(entry) for entry in entries} | {0})
        """Blocks that nothing is seen to lead to."""

    def _successors(self, last: Step, switch_targets: Callable[[Step], Collection[int]]) -> Iterable[int]:
        """Yield the blocks to which the last step of a block leads."""
        if _is_indirect(last):
            targets: list[int | None] = [*switch_targets(last)]
        else:
            targets = [last.target] if last.flow in (JUMP, BRANCH) else []
            targets += [last.following] if last.flow in (NEXT, BRANCH, CALL) else []
        for target in targets:
            index = self._exits.get(target) if target in self._exits else self._block_from(target)
            if index is not None:
                yield index

    def _block_from(self, start: int | None) -> int | None:
        """Return the block that begins at an address."""
        at = bisect_right(self._starts, start) - 1 if start is not None else -1
        return at if at >= 0 and self._starts[at] == start else None

    def block_at(self, address: int) -> int:
        """Return the block that an address of the function lies in."""
        return max(bisect_right(self._starts, address) - 1, 0)

    def step_at(self, address: int) -> tuple[int, int] | None:
        """Return the block of a step and its index among the block's steps, None if no step begins there."""
        index = self.block_at(address)
        numbers = (number for number, step in enumerate(self.blocks[index].steps) if step.address == address)
        number = next(numbers, None)
        return None if number is None else (index, number)

    def leaves(self, step: Step) -> bool:
        """Tell whether a jump leads out of the function; an indirect one is taken to."""
        return step.target not in self._known

    def exit(self, target: int) -> int | None:
        """Return the block that stands for a branch's way out of the function."""
        return self._exits.get(target)

    def predecessors(self, index: int) -> Sequence[int]:
        """Return the blocks that lead to a block."""
        return self._predecessors[index]

    def _find_orphans(self, entries: Collection[int]) -> tuple[int, ...]:
        reached: set[int] = set()
        orphans = []
        for start in [*entries, *range(len(self._starts))]:
            if start in reached or (start not in entries and self._is_padding(start)):
                continue
            orphans.append(start)
            waiting = [start]
            while waiting:
                index = waiting.pop()
                if index not in reached:
                    reached.add(index)
                    waiting += self.blocks[index].successors
        return tuple(index for index in orphans if index not in entries)

    def _is_padding(self, index: int) -> bool:
        return all(step.padding for step in self.blocks[index].steps)

    @cached_property
    def reverse_postorder(self) -> list[int]:
        """The rank of each block in a reverse postorder: except in loops, a block follows those that lead to it."""
        ranks = [0] * len(self.blocks)
        rank, visited = len(self.blocks), set[int]()
        for start in range(len(self._starts)):
            waiting = [(start, False)]
            while waiting:
                index, is_finished = waiting.pop()
                if is_finished:
                    rank -= 1
                    ranks[index] = rank
                elif index not in visited:
                    visited.add(index)
                    waiting.append((index, True))
                    waiting += [(successor, False) for successor in self.blocks[index].successors]
        return ranks


def _is_indirect(step: Step) -> bool:
    return step.flow == JUMP and step.target is None
