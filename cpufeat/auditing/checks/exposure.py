"""Find the unavoidable needs that are reached from the entry points without a check: the bare uses."""

from __future__ import annotations

from collections import deque
from functools import cache, cached_property
from itertools import groupby
from typing import NamedTuple

from cpufeat.auditing.formats.image import WayIn
from cpufeat.auditing.program.entry_points import EXPORTED
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cpufeat.auditing.checks.reference_graph import ReferenceGraph
    from cpufeat.auditing.checks.unavoidable_needs import UnavoidableNeeds
    from cpufeat.auditing.checks.unused_code import UnusedCode
    from cpufeat.auditing.program.functions import Program

_NAMELESS = WayIn("a pointer in data that nothing names", at_load=False)
UNREFERRED = WayIn("nothing is seen to refer to it", at_load=False)
"""No way in is seen, and no check that cuts it off either."""
UNUSED = WayIn("nothing refers to it", at_load=False)
"""The file shows that there is no way in."""

_Need = tuple[int, str]
"""A node, and a feature that it needs."""


class Arrival(NamedTuple):
    """The way in which a node is reached from outside."""

    previous: int
    """The node before it; itself for one that is entered from outside."""
    root: WayIn
    """The way in to the first node."""
    distance: int
    """The number of references from the first node to this one."""


class Exposure:
    """The nodes that are reached from outside without a check."""

    def __init__(self, program: Program, graph: ReferenceGraph, needs: UnavoidableNeeds, unused: UnusedCode) -> None:
        """Look at the nodes of a program that need features whatever the checks say."""
        self._program, self._graph, self._needs, self._unused = program, graph, needs, unused
        self._ways = cache(self._find_ways)

    @cached_property
    def arrivals(self) -> dict[_Need, Arrival]:
        """The way in which each node is reached without a check of a feature that it needs, by node and feature.

        What runs at load comes first, then the other ways in, then nodes to which nothing is seen to refer, then those
        of which the file shows that they are unused.
        """
        arrivals: dict[_Need, Arrival] = {}
        needs = [(node, feature) for node, features in self._needs.needs.items() for feature in features]
        roots = [(way, need) for need in needs if (way := self._way_in(*need))]
        for _, group in groupby(sorted(roots, key=_order), key=_order):
            self._arrive(arrivals, group)
        unseen = [need for need in needs if need not in arrivals and need not in self._behind_checks]
        ends = [need for need in unseen if not self._graph.referrers(need[0])]
        unused = self._unused.among({node for node, _ in ends})
        self._arrive(arrivals, ((UNREFERRED, need) for need in ends if need[0] not in unused))
        of_unused: dict[_Need, Arrival] = {}
        self._arrive(of_unused, ((UNUSED, need) for need in ends if need[0] in unused))
        self._arrive(arrivals, ((UNREFERRED, need) for need in unseen if need not in of_unused))  # only in circles
        return of_unused | arrivals

    def _arrive(self, arrivals: dict[_Need, Arrival], roots: Iterable[tuple[WayIn, _Need]]) -> None:
        """Add what is reached from roots to the arrivals."""
        new = {need: Arrival(need[0], way, 0) for way, need in roots if need not in arrivals}
        arrivals.update(new)
        waiting = deque(new)
        while waiting:
            node, feature = waiting.popleft()
            _, root, distance = arrivals[node, feature]
            for reached in self._needs.exposed(node, feature):
                if feature in self._needs.of(reached) and (reached, feature) not in arrivals:
                    arrivals[reached, feature] = Arrival(node, root, distance + 1)
                    waiting.append((reached, feature))

    def _way_in(self, node: int, feature: str) -> WayIn | None:
        """Return how a node is entered from outside, None if it is not.

        An exported function that the file itself reaches only through a check is not: other callers must check too.
        """
        if node in self._graph.nameless:
            return _NAMELESS
        ways = self._ways(node)
        if ways and (node, feature) in self._behind_checks:
            ways -= {EXPORTED}
        return min(ways, key=lambda way: way.rank, default=None)

    def _find_ways(self, node: int) -> frozenset[WayIn]:
        return frozenset(way for _, way in self._program.entry_points.between(*self._graph.extent(node)))

    @cached_property
    def _behind_checks(self) -> set[_Need]:
        """Nodes and features such that the file reaches the node through a check; perhaps in other ways too."""
        listed = ((node, feature) for node in self._graph.listed for feature in self._needs.of(node))
        waiting = [*self._needs.checked_edges(), *listed]
        behind = set(waiting)
        while waiting:
            node, feature = waiting.pop()
            new = {(reached, feature) for reached in self._needs.exposed(node, feature)} - behind
            behind |= new
            waiting += new
        return behind


def _order(root: tuple[WayIn, _Need]) -> tuple[bool, bool, bool]:
    """Return a key that sorts roots: what runs at load first, and last what is only not known."""
    way, _ = root
    return (*way.rank, way == _NAMELESS)


def ways_at_load(program: Program, starts: Iterable[int]) -> Iterator[tuple[int, WayIn]]:
    """Yield the functions, of those that begin at some addresses, that are themselves entered at load, and how."""
    for start in starts:
        function = program.function_at(start)
        ways = {way for _, way in program.entry_points.between(start, function.end if function else start + 1)}
        way = min(ways, key=lambda way: way.rank, default=None)
        if way and way.at_load:
            yield start, way
