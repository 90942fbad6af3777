"""The basic blocks of a function, and which of them run whatever a test says."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from cpufeat.auditing.steps import BRANCH, CALL, JUMP, NEXT
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from cpufeat.auditing.steps import Step


class Block(NamedTuple):
    """Steps that run one after another; none for a branch's way out of the function."""

    start: int
    steps: tuple[Step, ...]
    successors: tuple[int, ...]
    """Indices of blocks."""


class Blocks:
    """The control flow of one function."""

    def __init__(
        self, steps: Sequence[Step], entries: Iterable[int], switch: Callable[[Step], Collection[int]]
    ) -> None:
        """Divide the steps; ``switch`` gives the places that an indirect jump may lead to, as far as known.

        Code that nothing is seen to lead to (landing pads, unknown jump tables) counts as entered from outside.
        """
        self._starts: list[int] = []
        known = {step.address: index for index, step in enumerate(steps)}
        leaders = {step.target for step in steps if step.target in known and step.flow in (JUMP, BRANCH)}
        leaders |= {step.following for step in steps if step.flow not in (NEXT, CALL)}
        leaders |= {entry for entry in entries if entry in known} | {steps[0].address}
        leaders |= {target for step in steps if _indirect(step) for target in switch(step)}
        self._starts = sorted(leader for leader in leaders if leader in known)
        cuts = [known[start] for start in self._starts] + [len(steps)]
        runs = [tuple(steps[start:end]) for start, end in zip(cuts, cuts[1:], strict=False)]
        outside = sorted({step.target for step in steps if step.flow == BRANCH and step.target not in known} - {None})
        self._exits = {target: len(runs) + index for index, target in enumerate(outside)}
        self.blocks = [Block(run[0].address, run, tuple(self._after(run[-1], switch))) for run in runs]
        self.blocks += [Block(target, (), ()) for target in outside]
        self._before: list[list[int]] = [[] for _ in self.blocks]
        for index, block in enumerate(self.blocks):
            for successor in set(block.successors):
                self._before[successor].append(index)
        self.orphans = self._orphans({self.at(entry) for entry in entries} | {0})

    def _after(self, last: Step, switch: Callable[[Step], Collection[int]]) -> Iterable[int]:
        if _indirect(last):
            targets: list[int | None] = [*switch(last)]
        else:
            targets = [last.target] if last.flow in (JUMP, BRANCH) else []
            targets += [last.following] if last.flow in (NEXT, BRANCH, CALL) else []
        for target in targets:
            index = self._exits.get(target) if target in self._exits else self._index(target)
            if index is not None:
                yield index

    def _index(self, start: int | None) -> int | None:
        at = bisect_right(self._starts, start) - 1 if start is not None else -1
        return at if at >= 0 and self._starts[at] == start else None

    def at(self, address: int) -> int:
        """Return the block that an address of the function lies in."""
        return max(bisect_right(self._starts, address) - 1, 0)

    def site(self, address: int, target: int) -> int:
        """Return the block that runs when the step at an address leads to a target outside of the function."""
        index = self.at(address)
        branch = self.blocks[index].steps[-1]
        ends = branch.address == address and branch.flow == BRANCH and branch.target == target
        return self._exits.get(target, index) if ends else index

    def _orphans(self, entries: Collection[int]) -> tuple[int, ...]:
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

    def before(self, index: int) -> Sequence[int]:
        """Return the blocks that lead to a block."""
        return self._before[index]


class Game:
    """Which blocks run whatever the tests say, from one way into a function.

    It is a game of reachability: who wants to avoid some blocks makes the choices that the CPU's features make, at the
    end of the blocks in ``tests``, and an adversary all others. Blocks are *forced* if the adversary wins: if the entry
    lies in his attractor of them.
    """

    def __init__(self, blocks: Blocks, tests: Collection[int], entry: int) -> None:
        """Start at an address of the function."""
        self._blocks, self._tests = blocks, frozenset(tests)
        self._known = {blocks.at(entry), *blocks.orphans}
        """Blocks that are forced, each by itself."""
        self._free: set[int] = set()

    def alone(self, target: int) -> bool:
        """Tell whether a block is forced by itself."""
        if target not in self._known and target not in self._free:
            (self._known if self.forced((target,)) else self._free).add(target)
        return target in self._known

    def forced(self, targets: Collection[int]) -> bool:
        """Tell whether one of some blocks runs whatever the tests say: now this one, now that one, perhaps."""
        attracted, waiting = set(targets), list(targets)
        undecided: dict[int, set[int]] = {}
        while waiting:
            reached = waiting.pop()
            if reached in self._known:  # what leads to a forced block leads from there to the targets
                return True
            for index in self._blocks.before(reached):
                if index in attracted:
                    continue
                if index in self._tests:
                    others = undecided.setdefault(index, set(self._blocks.blocks[index].successors))
                    others.discard(reached)
                    if others:
                        continue
                attracted.add(index)
                waiting.append(index)
        return False


def _indirect(step: Step) -> bool:
    return step.flow == JUMP and step.target is None
