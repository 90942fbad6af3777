"""Propagate needs backwards from the uses of features, along references, up to the checks that stop them."""

from __future__ import annotations

from functools import cache

from cpufeat.auditing.dataflow.def_use import FirstUses
from cpufeat.auditing.dataflow.unavoidable_blocks import ReachabilityGame
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from cpufeat.auditing.checks.reference_graph import Edge, ReferenceGraph
    from cpufeat.auditing.dataflow.cpu_checks import CpuChecks, FunctionChecks
    from cpufeat.auditing.dataflow.unavoidable_blocks import Place
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.references import References

    Uses = Mapping[int, Mapping[str, Collection[int]]]
    """The addresses of a function's uses of each feature, by the start of the function."""


class CheckedFunctions:
    """The functions with checks, and the reachability game of each entry into them."""

    def __init__(self, program: Program, references: References, checks: CpuChecks) -> None:
        """Set the games up when they are first played."""
        self._program, self._references = program, references
        self.checks: Mapping[int, FunctionChecks] = checks.functions
        self.games: Callable[[int], dict[int, ReachabilityGame]] = cache(self._games)

    def _games(self, function: int) -> dict[int, ReachabilityGame]:
        """Return the game of each entry into a function with checks."""
        checks, known = self.checks[function], self._program.function_at(function)
        entries = self._references.entries(known) if known else ()
        return {entry: ReachabilityGame(checks.cfg, checks.tests, entry, checks.absent) for entry in entries}

    def first_uses(self, function: int) -> FirstUses:
        """Return the first uses of the addresses that a function with checks loads."""
        checks = self.checks[function]
        return FirstUses(checks.cfg, checks.tests, self._program.convention)


class UnavoidableNeeds:
    """The features that nodes need whatever the checks say, and why."""

    def __init__(self, program: Program, checked: CheckedFunctions) -> None:
        """Begin without any."""
        self._program, self._checked = program, checked
        self.needs: dict[int, set[str]] = {}
        """The features that each node needs."""
        self.places: dict[tuple[int, str], dict[Place, set[int]]] = {}
        """The nodes that need a feature, by the place that refers to them; by function with checks and feature.

        The function itself stands for its own uses.
        """
        self.referred: dict[int, set[int]] = {}
        """The nodes that a function or object refers to and that need something, by its start."""
        self.exposed: Callable[[int, str], set[int]] = cache(self._exposed)

    def of(self, node: int) -> Collection[str]:
        """Return the features that a node needs."""
        return self.needs.get(node, ())

    def _exposed(self, node: int, feature: str) -> set[int]:
        """Return the nodes that a node leads to whatever its checks say, itself included if it may use the feature.

        Only for when all needs are known.
        """
        function = self._program.function_at(node)
        if function is None or function.start not in self._checked.checks:
            return self.referred.get(node, set()) | {node}
        places, game = self.places.get((function.start, feature), {}), self._checked.games(function.start)[node]
        return {needing for place in game.exposed(places) for needing in places[place]}

    def lead_from(self, function: int, node: int, feature: str) -> bool:
        """Tell whether a function with checks leads to a node whatever they say."""
        entries = [entry for entry in self._checked.games(function) if feature in self.of(entry)]
        return any(node in self.exposed(entry, feature) for entry in entries)

    def checked_edges(self) -> Iterator[tuple[int, str]]:
        """Yield the nodes, with the feature they need, to which a function with checks leads behind a check only."""
        for function, nodes in self.referred.items():
            if function in self._checked.checks:
                for node in nodes:
                    for feature in self.of(node):
                        if not self.lead_from(function, node, feature):
                            yield node, feature


def find_unavoidable_needs(
    program: Program, checked: CheckedFunctions, graph: ReferenceGraph, uses: Uses
) -> UnavoidableNeeds:
    """Propagate the needs of the uses backwards along the references, up to the checks that stop them."""
    propagation = _Propagation(program, checked, graph)
    propagation.run(uses)
    return propagation.needs


class _Propagation:
    """The worklist of needs that have not been handed on to the referrers yet."""

    def __init__(self, program: Program, checked: CheckedFunctions, graph: ReferenceGraph) -> None:
        self._checked, self._graph = checked, graph
        self.needs = UnavoidableNeeds(program, checked)
        self._waiting: dict[int, set[str]] = {}
        """The features that nodes need, as far as they are not handed on yet, by node."""
        self._undecided: set[tuple[int, str]] = set()
        """Functions with checks, and features, of which one place alone does not decide."""

    def run(self, uses: Uses) -> None:
        for start, features in uses.items():
            for feature, addresses in features.items():
                checks = self._checked.checks.get(start)
                if checks is None:
                    self._need(start, feature)
                    continue
                for address in addresses:
                    self._need_at(start, feature, checks.cfg.block_at(address), start)
        while self._waiting or self._undecided:
            while self._waiting:
                node = next(iter(self._waiting))
                self._hand_on(node, self._waiting.pop(node))
            undecided, self._undecided = self._undecided, set()
            for function, feature in undecided:
                self._decide(function, feature)

    def _need(self, node: int, feature: str) -> None:
        """Note that a node needs a feature whatever its checks say."""
        self._need_all(node, {feature})

    def _need_all(self, node: int, features: set[str]) -> None:
        """Note that a node needs some features whatever its checks say."""
        known = self.needs.needs.setdefault(node, set())
        new = features - known
        if new:
            known |= new
            self._waiting.setdefault(node, set()).update(new)

    def _need_at(self, function: int, feature: str, place: Place, needing: int) -> None:
        """Note a place in a function with checks that needs a feature: the function's own use, or a reference."""
        needing_at = self.needs.places.setdefault((function, feature), {}).setdefault(place, set())
        if needing in needing_at:
            return
        needing_at.add(needing)
        for entry, game in self._checked.games(function).items():
            if feature in self.needs.of(entry):
                continue
            if game.is_unavoidable(place):
                self._need(entry, feature)
            else:
                self._undecided.add((function, feature))

    def _decide(self, function: int, feature: str) -> None:
        """Find the entries into a function with checks from which its places for a feature cannot all be avoided."""
        for entry, game in self._checked.games(function).items():
            if feature not in self.needs.of(entry) and game.cannot_avoid(self.needs.places[function, feature]):
                self._need(entry, feature)

    def _hand_on(self, node: int, features: set[str]) -> None:
        """Hand needs of a node on to what refers to it."""
        for edge in self._graph.referrers(node):
            self.needs.referred.setdefault(edge.source, set()).add(node)
            if edge.source not in self._checked.checks:
                self._need_all(edge.source, features)
                continue
            for feature in sorted(features):
                for target, reference in self._unconditional(node, edge, feature):
                    for place in self._checked.first_uses(edge.source).places(reference.site, reference.target):
                        self._need_at(edge.source, feature, place, target)

    def _unconditional(self, node: int, edge: Edge, feature: str) -> Iterator[tuple[int, Edge]]:
        """Yield the nodes and references to them that need a feature whatever a fact selects, now that a node needs it.

        They are the given ones, if no fact selects that node; else all those of a group among which a fact selects,
        once each of the group needs the feature.
        """
        groups = [group for group in self._checked.checks[edge.source].selected if edge.target in group]
        if not groups:
            yield node, edge
        for group in groups:
            if len(group) > 1 and self._all_need(group, feature):
                for member in sorted({self._graph.node(address) for address in group}):
                    references = self._graph.referrers(member)
                    mine = (other for other in references if other.source == edge.source and other.target in group)
                    yield from ((member, other) for other in mine)

    def _all_need(self, addresses: Collection[int], feature: str) -> bool:
        return all(feature in self.needs.of(self._graph.node(address)) for address in addresses)
