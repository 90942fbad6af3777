"""The basic blocks of a function, and which of them run whatever a test says."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from cpufeat.auditing.lifting.semantics import BRANCH, CALL, JUMP, NEXT
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from cpufeat.auditing.lifting.semantics import Convention, Step


_MOST_MOVES = 2_000_000
"""Of one game: afterwards everything counts as forced."""
_MANY = 200
"""Places of which it takes too long to tell which few cannot be avoided."""
Place = int | tuple[int, int]
"""A block, by its index, or the way from one to another."""


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
        known = self._known = {step.address: index for index, step in enumerate(steps)}
        leaders = {step.target for step in steps if step.target in known and step.flow in (JUMP, BRANCH)}
        leaders |= {step.following for step in steps if step.flow not in (NEXT, CALL)}
        leaders |= {entry for entry in entries if entry in known} | {steps[0].address}
        leaders |= {target for step in steps if _indirect(step) for target in switch(step)}
        self._starts = sorted(leader for leader in leaders if leader in known)
        cuts = [known[start] for start in self._starts] + [len(steps)]
        runs = [tuple(steps[start:end]) for start, end in pairwise(cuts)]
        branches = [step.target for step in steps if step.flow == BRANCH and step.target is not None]
        outside = sorted({target for target in branches if target not in known})
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

    def step_at(self, address: int) -> tuple[int, int] | None:
        """Return the block of a step, and which of its steps it is; None if no step begins there."""
        index = self.at(address)
        found = [number for number, step in enumerate(self.blocks[index].steps) if step.address == address]
        return (index, found[0]) if found else None

    def numbers(self, address: int, register: int, results: Collection[int]) -> set[int | None]:
        """Return what a register may hold before a step: numbers of the code, and None for what is not known.

        ``results``: the registers in which calls return; who reads another one after a call knows that it is kept.
        """
        found: set[int | None] = set()
        waiting = [(*place, register)] if (place := self.step_at(address)) else []
        seen = set(waiting)
        while waiting:
            index, before, register = waiting.pop()
            made = [step for step in self.blocks[index].steps[:before] if _makes(step, register, results)][-1:]
            ways: list[tuple[int, int, int]] = []
            if made and _copies(made[0]):
                ways = [(index, self.blocks[index].steps.index(made[0]), made[0].reads[0])]
            elif made:
                found.add(None if made[0].partial or made[0].flow == CALL else made[0].number)
            else:
                ways = [(one, len(self.blocks[one].steps), register) for one in self._before[index]]
                found |= {None} if index == 0 or not ways else set()
            waiting += [way for way in ways if way not in seen]
            seen.update(ways)
        return found

    def leaves(self, step: Step) -> bool:
        """Tell whether a step leads out of the function, as far as is known."""
        return step.target not in self._known

    def exit(self, target: int) -> int | None:
        """Return the block that stands for a branch's way out of the function."""
        return self._exits.get(target)

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

    @cached_property
    def order(self) -> list[int]:
        """For each block, its place in a reverse postorder: after what leads to it, but for loops."""
        rank = [0] * len(self.blocks)
        place, seen = len(self.blocks), set[int]()
        for start in range(len(self._starts)):
            waiting = [(start, False)]
            while waiting:
                index, done = waiting.pop()
                if done:
                    place -= 1
                    rank[index] = place
                elif index not in seen:
                    seen.add(index)
                    waiting.append((index, True))
                    waiting += [(successor, False) for successor in self.blocks[index].successors]
        return rank

    def before(self, index: int) -> Sequence[int]:
        """Return the blocks that lead to a block."""
        return self._before[index]


class Game:
    """Which blocks run whatever the tests say, from one way into a function.

    It is a game of reachability: who wants to avoid some blocks makes the choices that the CPU's features make, at the
    end of the blocks in ``tests``, and an adversary all others. Blocks are *forced* if the adversary wins: if the entry
    lies in his attractor of them.

    ``absent`` says of tests of bits where they lead if the CPU has none of the features: that is the choice there.
    """

    def __init__(
        self, blocks: Blocks, tests: Collection[int], entry: int, absent: Mapping[int, int] | None = None
    ) -> None:
        """Start at an address of the function."""
        self._blocks, self._tests, self._absent = blocks, frozenset(tests), absent or {}
        self._known: set[Place] = {blocks.at(entry), *blocks.orphans}
        """Places that are forced, each by itself."""
        self._free: set[Place] = set()
        self._left = _MOST_MOVES

    def alone(self, target: Place) -> bool:
        """Tell whether a place is forced by itself."""
        if target not in self._known and target not in self._free:
            (self._known if self.forced((target,)) else self._free).add(target)
        return target in self._known

    def forced(self, targets: Iterable[Place]) -> bool:
        """Tell whether one of some places is come by whatever the tests say: now this one, now that one, perhaps."""
        attracted: set[Place] = set(targets)
        waiting = list(attracted)
        undecided: dict[int, set[int]] = {}
        while waiting:
            reached = waiting.pop()
            self._left -= 1
            if reached in self._known or self._left < 0:  # what leads to a forced place leads from there to the targets
                return True
            for index, successor in self._before(reached):
                if index in attracted:
                    continue
                if index in self._absent:
                    if successor != self._absent[index]:
                        continue
                elif index in self._tests:
                    others = undecided.setdefault(index, set(self._blocks.blocks[index].successors))
                    others.discard(successor)
                    if others:
                        continue
                attracted.add(index)
                waiting.append(index)
        return False

    def exposed(self, targets: Iterable[Place]) -> set[Place]:
        """Return those of some places that cannot all be avoided: each by itself, or one or another of a few."""
        wanted = set(targets)
        found = {place for place in wanted if self.alone(place)}
        rest = wanted - found
        while self.forced(rest):
            if len(rest) > _MANY:
                return wanted
            few = set(rest)
            for place in rest:
                if self.forced(few - {place}):
                    few.discard(place)
            found |= few
            rest -= few
        return found

    def _before(self, place: Place) -> Iterable[tuple[int, int]]:
        return [place] if isinstance(place, tuple) else [(index, place) for index in self._blocks.before(place)]


class Sinking:
    """Where the address that a step puts into a register is first used.

    Compilers fetch what a branch may choose before they ask: ``lea rax, fast; test ...; jne done; lea rax, slow``.
    Behind a test the address counts as taken only on the ways on which it is used before something else replaces it.
    """

    def __init__(self, blocks: Blocks, tests: Collection[int], convention: Convention) -> None:
        """Look at a function and the blocks of it that end in a test."""
        self._blocks, self._tests, self._convention = blocks, tests, convention

    def places(self, address: int, target: int) -> set[Place]:
        """Return where the step at an address leads to a target, or uses that it has put its address in a register."""
        found = self._blocks.step_at(address)
        if found is None:
            return set()
        index, number = found
        step = self._blocks.blocks[index].steps[number]
        if step.flow != NEXT:
            way_out = self._blocks.exit(target) if step.flow == BRANCH else None
            return {index if way_out is None else way_out}
        return self._sunk(index, number + 1, step.writes[0]) if len(step.writes) == 1 else {index}

    def _sunk(self, index: int, number: int, register: int) -> set[Place]:
        while True:
            block = self._blocks.blocks[index]
            use = self._use(block.steps[number:], register)
            if use is not None:
                return {index} if use else set()
            if index in self._tests:
                return {(index, successor) for successor in block.successors if self._is_live(successor, register)}
            if len(block.successors) != 1 or len(self._blocks.before(block.successors[0])) != 1:
                return {index}
            index, number = block.successors[0], 0

    def _is_live(self, index: int, register: int) -> bool:
        """Tell whether a register's value may be used from the start of a block on."""
        seen, waiting = {index}, [index]
        while waiting:
            block = self._blocks.blocks[waiting.pop()]
            use = self._use(block.steps, register) if block.steps else register in self._convention.arguments
            if use:
                return True
            if use is None:
                waiting += [successor for successor in block.successors if successor not in seen]
                seen.update(block.successors)
        return False

    def _use(self, steps: Iterable[Step], register: int) -> bool | None:
        """Tell whether steps use the value of a register (True) or replace it first (False); None for neither."""
        for step in steps:
            if register in step.reads or any(register in (one.base, one.scaled) for one in step.memory):
                return True
            if step.returns:
                return register in self._convention.results
            if step.flow == CALL or (step.flow == JUMP and self._blocks.leaves(step)):
                if register in self._convention.arguments:
                    return True
                if step.flow == JUMP or register in self._convention.lost:
                    return False
            if register in step.writes and not step.partial:
                return False
        return None


def _indirect(step: Step) -> bool:
    return step.flow == JUMP and step.target is None


def _makes(step: Step, register: int, results: Collection[int]) -> bool:
    return register in step.writes or (step.flow == CALL and register in results)


def _copies(step: Step) -> bool:
    """Tell whether a step only moves what one register holds to another."""
    return step.copies and not step.partial and not step.memory and len(step.reads) == len(step.writes) == 1
