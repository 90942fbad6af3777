"""Find the blocks and edges of a function that are reached whatever the outcomes of its tests of the CPU."""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cpufeat.auditing.program.cfg import ControlFlowGraph

_MAX_MOVES = 2_000_000
"""The most moves of one game: afterwards everything counts as unavoidable."""
_MAX_MINIMIZED = 200
"""More places than this are not reduced to the few that cannot be avoided together: that takes too long."""
Place = int | tuple[int, int]
"""A block, by its index, or an edge from one block to another."""


class ReachabilityGame:
    """The blocks that cannot be avoided, whatever the tests answer, from one entry of a function.

    A game of reachability on the control-flow graph: one player wants to avoid some blocks and chooses the successor of
    every block in ``tests``, which end in a branch on a feature; the opponent chooses the successors of all others. The
    blocks are unavoidable if the opponent wins: if the entry lies in the blocks' attractor.

    ``absent`` gives, for tests of bits of features, the successor if the CPU has none of them; it is chosen there.
    """

    def __init__(
        self, cfg: ControlFlowGraph, tests: Collection[int], entry: int, absent: Mapping[int, int] | None = None
    ) -> None:
        """Start at an address of the function."""
        self._cfg, self._tests, self._absent = cfg, frozenset(tests), absent or {}
        self._unavoidable: set[Place] = {cfg.block_at(entry), *cfg.orphans}
        """Places known to be unavoidable, each by itself."""
        self._avoidable: set[Place] = set()
        self._moves_left = _MAX_MOVES

    def is_unavoidable(self, target: Place) -> bool:
        """Tell whether a place is reached whatever the tests answer."""
        if target not in self._unavoidable and target not in self._avoidable:
            (self._unavoidable if self.cannot_avoid((target,)) else self._avoidable).add(target)
        return target in self._unavoidable

    def cannot_avoid(self, targets: Iterable[Place]) -> bool:
        """Tell whether some place among the targets is reached whatever the tests answer, not always the same one."""
        attractor: set[Place] = set(targets)
        waiting = list(attractor)
        undecided: dict[int, set[int]] = {}
        while waiting:
            reached = waiting.pop()
            self._moves_left -= 1
            if reached in self._unavoidable or self._moves_left < 0:  # from there on the targets are unavoidable
                return True
            for index, successor in self._edges_to(reached):
                if index in attractor:
                    continue
                if index in self._absent:
                    if successor != self._absent[index]:
                        continue
                elif index in self._tests:
                    escapes = undecided.setdefault(index, set(self._cfg.blocks[index].successors))
                    escapes.discard(successor)
                    if escapes:
                        continue
                attractor.add(index)
                waiting.append(index)
        return False

    def exposed(self, targets: Iterable[Place]) -> set[Place]:
        """Return the targets that cannot all be avoided: each by itself, or as one of a minimal set."""
        wanted = set(targets)
        exposed = {place for place in wanted if self.is_unavoidable(place)}
        rest = wanted - exposed
        while self.cannot_avoid(rest):
            if len(rest) > _MAX_MINIMIZED:
                return wanted
            minimal = set(rest)
            for place in rest:
                if self.cannot_avoid(minimal - {place}):
                    minimal.discard(place)
            exposed |= minimal
            rest -= minimal
        return exposed

    def _edges_to(self, place: Place) -> Iterable[tuple[int, int]]:
        return [place] if isinstance(place, tuple) else [(index, place) for index in self._cfg.predecessors(place)]
