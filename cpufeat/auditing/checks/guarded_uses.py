"""Which uses of features stand behind a check of the CPU at run time.

A use is *bare* if there is a way to it from outside, through calls, jumps and addresses that the code takes, on which
no branch that depends on the CPU (see :mod:`cpufeat.auditing.dataflow.cpu_checks`) decides; and *guarded* if each way
is cut by one.
Within a function that is a game: whatever the tests could answer, is there an answer that avoids the use? Features are
looked at one by one, and all places that need one together: ``if (avx512) a(); else b();`` guards neither if both need
AVX.

What it takes for granted, where a program could be otherwise:

- a test guards what it decides about, whichever feature it asks for: testing SSE2 before using AVX2 is not found;
- a function's address is followed to where it is taken, not to where it is called, and a pointer in data belongs to the
  symbol around it, or where there is none to the last address before it that the code names;
- nobody calls a function that the file does not export, except through what the file itself refers to.

Whatever else is not known makes a use bare: heap memory that holds an answer, a test of an argument that a caller made
of one, code that nothing is seen to refer to.
"""

from __future__ import annotations

from collections import deque
from functools import cache, cached_property
from itertools import islice
from typing import NamedTuple

from cpufeat.auditing.dataflow.cpu_checks import Facts
from cpufeat.auditing.dataflow.def_use import FirstUses
from cpufeat.auditing.dataflow.reachability import ReachabilityGame
from cpufeat.auditing.program.functions import Program
from cpufeat.auditing.program.references import References, architecture
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cpufeat.auditing.dataflow.cpu_checks import Outcome
    from cpufeat.auditing.dataflow.reachability import Place
    from cpufeat.auditing.formats.image import Function, Image, Symbol
    from cpufeat.auditing.program.references import Architecture

_INITIALISERS = (".init_array", ".fini_array", ".preinit_array", ".ctors", ".dtors", "__mod_init_func", ".CRT")
"""Sections of pointers that the loader calls."""
_MODULE = "PyInit_"
"""What Python looks for in an extension module (PEP 489). Nothing is linked with one: the rest is exported to none."""
_NAMED = 2
"""How many functions a reason names."""


class Guard(NamedTuple):
    """What is known of one function's uses of features."""

    guarded: bool | None
    """None: no way to it is seen, guarded or not: unused code, or reached in a way that is not understood."""
    why: str
    bare: frozenset[str]
    """The features that it may need without a check; of an architecture that is not understood, all of them."""


class _Edge(NamedTuple):
    """A reference from a function or an object of data."""

    source: int
    site: int
    """The address of the instruction; 0 in data."""
    entry: int
    """Where it leads."""


def guards(image: Image, uses: Mapping[Function, Mapping[str, Sequence[int]]]) -> dict[int, Guard]:
    """Return what is known of functions by their start, from the addresses of all their uses of each feature."""
    how = architecture(image.arch)
    if how is None:
        why = f"run-time checks are not looked for in {image.arch} code"
        return {function.start: Guard(None, why, frozenset(features)) for function, features in uses.items()}
    if not uses:
        return {}
    return _Search(image, how, uses).answers()


class _Search:
    """Ways from outside to the uses: found backwards from the uses, then followed forwards."""

    def __init__(self, image: Image, how: Architecture, uses: Mapping[Function, Mapping[str, Sequence[int]]]) -> None:
        self.image = image
        self.program = Program(image, how.lifter, uses)
        self.references = References(self.program, how.xref_finder(self.program))
        self.facts = Facts(self.program, self.references)
        self.own = {function.start: features for function, features in uses.items()}
        self.forced: dict[int, set[str]] = {}
        """Functions (and other ways into them) and data -> features that they may need whatever the tests say."""
        self.places: dict[tuple[int, str], dict[Place, set[int]]] = {}
        """For functions with tests, by feature: place -> what is forced there (the function itself: its own uses)."""
        self.below: dict[int, set[int]] = {}
        self._above: dict[int, list[_Edge]] = {}
        self.is_module = any(symbol.visible and symbol.name.startswith(_MODULE) for symbol in image.symbols)
        self._exposed = cache(self._exposes)
        """Asked only when all that is forced is known."""
        self._games_of: dict[int, dict[int, ReachabilityGame]] = {}
        self._waiting: deque[tuple[int, str]] = deque()
        self._undecided: set[tuple[int, str]] = set()

    def answers(self) -> dict[int, Guard]:
        if not self.facts.outcomes:
            why = "no branch in this file depends on what the CPU can do"
            return {start: Guard(False, why, frozenset(self.own[start])) for start in self.own}
        self._backwards()
        reached = self._forwards()
        return {start: self._answer(start, reached) for start in self.own}

    # --- backwards

    def _backwards(self) -> None:
        for start, features in self.own.items():
            for feature, addresses in features.items():
                outcome = self.facts.outcomes.get(start)
                if outcome is None:
                    self._force(start, feature)
                    continue
                for address in addresses:
                    self._place(start, feature, outcome.blocks.block_at(address), start)
        while self._waiting or self._undecided:
            while self._waiting:
                self._climb(*self._waiting.popleft())
            undecided, self._undecided = self._undecided, set()
            for source, feature in undecided:
                self._decide(source, feature)

    def _climb(self, node: int, feature: str) -> None:
        """Pass on that a node may need a feature to what refers to it."""
        for edge in self._referrers(node):
            self.below.setdefault(edge.source, set()).add(node)
            outcome = self.facts.outcomes.get(edge.source)
            if outcome is None:
                self._force(edge.source, feature)
            elif self._leads(edge, outcome, feature):
                for place in self._sinking(edge.source).places(edge.site, edge.entry):
                    self._place(edge.source, feature, place, node)

    def _force(self, node: int, feature: str) -> None:
        known = self.forced.setdefault(node, set())
        if feature not in known:
            known.add(feature)
            self._waiting.append((node, feature))

    def _place(self, source: int, feature: str, place: Place, what: int) -> None:
        """Note where a function with tests uses a feature itself, or refers to a node that is forced to."""
        self.places.setdefault((source, feature), {}).setdefault(place, set()).add(what)
        for entry, game in self._games(source).items():
            if feature in self.forced.get(entry, ()):
                continue
            if game.is_unavoidable(place):
                self._force(entry, feature)
            else:
                self._undecided.add((source, feature))

    def _decide(self, source: int, feature: str) -> None:
        """Work out by which ways into a function with tests its places for a feature are forced together."""
        for entry, game in self._games(source).items():
            if feature not in self.forced.get(entry, ()) and game.cannot_avoid(self.places[source, feature]):
                self._force(entry, feature)

    def _leads(self, edge: _Edge, outcome: Outcome, feature: str) -> bool:
        """Tell whether a reference leads on in any case: not if a fact chooses it among others that are not forced."""
        groups = [group for group in outcome.chosen if edge.entry in group]
        return not groups or any(len(group) > 1 and self._all_forced(group, feature) for group in groups)

    def _all_forced(self, group: frozenset[int], feature: str) -> bool:
        return all(feature in self.forced.get(self._node(address), ()) for address in group)

    def _sinking(self, source: int) -> FirstUses:
        outcome = self.facts.outcomes[source]
        return FirstUses(outcome.blocks, outcome.tests, self.program.convention)

    def _games(self, source: int) -> dict[int, ReachabilityGame]:
        """Return the game of each way into a function with tests."""
        if source not in self._games_of:
            outcome, function = self.facts.outcomes[source], self.program.function_at(source)
            entries = self.references.entries(function) if function else ()
            self._games_of[source] = {
                entry: ReachabilityGame(outcome.blocks, outcome.tests, entry, outcome.absent) for entry in entries
            }
        return self._games_of[source]

    # --- what refers to what

    def _node(self, address: int) -> int:
        """Return the node of an address in the code: of a function with tests each way into it is one."""
        function = self.program.function_at(address)
        return address if function is None or function.start in self.facts.outcomes else function.start

    def _referrers(self, node: int) -> list[_Edge]:
        if node not in self._above:
            section = self.image.section_at(node)
            find = self._of_code if section and section.executable else self._of_data
            self._above[node] = [edge for edge in find(node) if not self.facts.lists(edge.source)]
        return self._above[node]

    def _of_code(self, node: int) -> Iterator[_Edge]:
        function = self.program.function_at(node)
        if function is None:
            return
        tested = function.start in self.facts.outcomes
        low, high = (node, node + 1) if tested else (function.start, function.end)
        for reference in self.references.xrefs_to(low, high):
            if reference.function != function:
                yield _Edge(reference.function.start, reference.site, reference.target)
        for slot in self.references.pointers_to(node, node + 1):
            yield from self._of_slot(slot)

    def _of_slot(self, slot: int) -> Iterator[_Edge]:
        """Yield the object that a pointer in data is in, or what names the pointer if it is among the code."""
        section = self.image.section_at(slot)
        literals = self.references.xrefs_to(slot, slot + 1) if section and section.executable else ()
        for reference in literals:
            yield _Edge(reference.function.start, reference.site, slot)
        if literals:
            return
        found = self.references.object_at(slot)
        if found:
            yield _Edge(found[0], 0, slot)

    def _of_data(self, node: int) -> Iterator[_Edge]:
        sized = self.program.symbols.object_at(node)
        low, high = sized or (node, node + 1)
        for reference in self.references.xrefs_to(low, high):
            yield _Edge(reference.function.start, reference.site, reference.target)
        for slot in self.references.pointers_to(low, high):
            yield from self._of_slot(slot)

    # --- forwards

    def _is_root(self, node: int, feature: str) -> str:
        """Say how a node that may need a feature is reached from outside, empty if it is not.

        What is exported is not if the file itself reaches it through a check only: who else calls it must check too.
        """
        if node == self.image.entry:
            return "the entry point"
        section = self.image.section_at(node)
        if section and section.name.startswith(_INITIALISERS):
            return "called by the loader"
        if self.program.is_resolver(node):
            return "called by the loader"
        symbols = self.program.symbols.at(node)
        exported = any(symbol.visible for symbol in symbols if self._is_offered(symbol))
        return "exported" if exported and (node, feature) not in self._inside else ""

    @cached_property
    def _inside(self) -> set[tuple[int, str]]:
        """What is reached through a check, for each feature; perhaps on other ways too."""
        waiting = [
            (node, feature)
            for source, nodes in self.below.items()
            if source in self.facts.outcomes
            for node in nodes
            for feature in self.forced.get(node, ())
            if not self._leads_from(source, node, feature)
        ]
        found = set(waiting)
        while waiting:
            node, feature = waiting.pop()
            below = {(child, feature) for child in self._exposed(node, feature)} - found
            found |= below
            waiting += below
        return found

    def _is_offered(self, symbol: Symbol) -> bool:
        """Tell whether other files refer to an exported symbol."""
        return not self.is_module or symbol.name.startswith(_MODULE)

    def _forwards(self) -> dict[tuple[int, str], tuple[int, str]]:
        """Return, for each node that is reached without a guard for a feature, from which, and how that is reached."""
        reached: dict[tuple[int, str], tuple[int, str]] = {}
        waiting: deque[tuple[int, str]] = deque()
        for node, features in self.forced.items():
            for feature in features:
                how = self._is_root(node, feature)
                if how:
                    reached[node, feature] = node, how
                    waiting.append((node, feature))
        while waiting:
            node, feature = waiting.popleft()
            for child in self._exposed(node, feature):
                if feature in self.forced.get(child, ()) and (child, feature) not in reached:
                    reached[child, feature] = (node, reached[node, feature][1])
                    waiting.append((child, feature))
        return reached

    def _exposes(self, node: int, feature: str) -> set[int]:
        """Return what a node leads to, or uses itself, whatever its tests say."""
        function = self.program.function_at(node)
        outcome = self.facts.outcomes.get(function.start) if function else None
        if function is None or outcome is None:
            return self.below.get(node, set()) | {node}
        places, game = self.places.get((function.start, feature), {}), self._games(function.start)[node]
        return {what for place in game.exposed(places) for what in places[place]}

    def _cuts(self, node: int, feature: str) -> Iterator[int]:
        """Yield the functions whose tests stand between a node and what refers to it, the nearest first."""
        seen, waiting = {node}, deque([node])
        while waiting:
            below = waiting.popleft()
            for edge in self._referrers(below):
                if edge.source in seen:
                    continue
                seen.add(edge.source)
                if edge.source in self.facts.outcomes and not self._leads_from(edge.source, below, feature):
                    yield edge.source
                else:
                    waiting.append(edge.source)

    def _leads_from(self, source: int, node: int, feature: str) -> bool:
        """Tell whether a function with tests leads to a node whatever they say."""
        entries = [entry for entry in self._games(source) if feature in self.forced.get(entry, ())]
        return any(node in self._exposed(entry, feature) for entry in entries)

    # --- answers

    def _answer(self, start: int, reached: Mapping[tuple[int, str], tuple[int, str]]) -> Guard:
        ways = {feature: self._way(start, feature, reached) for feature in self.own[start]}
        bare = frozenset(feature for feature, way in ways.items() if way)
        if bare:
            return Guard(False, next(way for way in ways.values() if way), bare)
        own = [feature for feature in self.own[start] if feature not in self.forced.get(start, ())]
        if len(own) == len(self.own[start]):
            return Guard(True, f"behind its own test of {self._tested(start)}", frozenset())
        feature = next(feature for feature in self.own[start] if feature not in own)
        cuts = list(islice(self._cuts(start, feature), _NAMED + 1))
        if not cuts:
            return Guard(None, "nothing is seen to refer to it", frozenset())
        exported = any(symbol.visible for symbol in self.program.symbols.at(start))
        return Guard(True, "exported, but in this file " * exported + self._through(cuts), frozenset())

    def _way(self, start: int, feature: str, reached: Mapping[tuple[int, str], tuple[int, str]]) -> str:
        """Say on which way the uses of a function are reached; empty if on none."""
        for entry in self._games(start) if start in self.facts.outcomes else (start,):
            if (entry, feature) in reached and start in self._exposed(entry, feature):
                above, how = reached[entry, feature]
                if above == entry:
                    return how
                return f"reached from {self.program.symbols.describe(above)} without a check ({how})"
        return ""

    def _through(self, cuts: list[int]) -> str:
        named = [
            f"{self.program.symbols.describe(source)}, which tests {self._tested(source)}" for source in cuts[:_NAMED]
        ]
        return "reached only through " + " and ".join(named) + " and others" * (len(cuts) > _NAMED)

    def _tested(self, source: int) -> str:
        return ", ".join(sorted(self.facts.outcomes[source].sources)[:_NAMED])
