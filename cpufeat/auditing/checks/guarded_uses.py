"""Decide which uses of features are bare and which are guarded by a check of the CPU at run time, and say why.

A use is *bare* if it is reached from outside, through calls, jumps and addresses that the code takes, without a branch
that depends on the CPU (see :mod:`cpufeat.auditing.dataflow.cpu_checks`) deciding on it; it is *guarded* if every way
to it is cut by such a branch. Within a function that is a game: is there an outcome of the tests that avoids the use,
whatever the other branches do? Each feature is looked at by itself, and all places that need it together:
``if (avx512) a(); else b();`` guards neither if both need AVX. A place needs what its features imply as well.

Assumptions that a program can break:

- a test guards what it decides about, whichever feature it asks for: testing SSE2 before using AVX2 is not found;
- a function's address is followed to where it is taken, not to where it is called, and a pointer in data belongs to the
  symbol around it, or without one to the last address before it that the code names.

Anything else that is not known makes a use bare: an answer kept in heap memory, a test of an argument that a caller
computed from one, a pointer in data that nothing names. A function to which nothing is seen to refer is a class of its
own, and may use what it needs without a check as well.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from cpufeat.auditing import report
from cpufeat.auditing.checks.exposure import UNREFERRED, UNUSED, Exposure, ways_at_load
from cpufeat.auditing.checks.library_checks import LibraryChecks
from cpufeat.auditing.checks.reference_graph import ReferenceGraph
from cpufeat.auditing.checks.unavoidable_needs import CheckedFunctions, find_unavoidable_needs
from cpufeat.auditing.checks.unused_code import UnusedCode
from cpufeat.auditing.dataflow.cpu_checks import find_cpu_checks
from cpufeat.auditing.program.functions import Program
from cpufeat.auditing.program.references import References, architecture
from cpufeat.auditing.report import AT_LOAD, CHECKED, UNCHECKED, UNKNOWN
from cpufeat.features import implied
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cpufeat.auditing.checks.exposure import Arrival
    from cpufeat.auditing.checks.unavoidable_needs import UnavoidableNeeds, Uses
    from cpufeat.auditing.dataflow.cpu_checks import CpuChecks
    from cpufeat.auditing.formats.image import Function, Image

_MAX_NAMED = 2
"""Functions, or sources of answers, that a reason names."""

_UNSEEN = {UNREFERRED: report.UNREFERRED, UNUSED: report.UNUSED}
"""The words for what no way in leads to."""


class Guard(NamedTuple):
    """The result for one function's uses of features."""

    reached: str
    """One of the words of :mod:`cpufeat.auditing.report`: ``at load``, ``without a check``, ..."""
    why: str
    """The reason, in words."""
    bare: frozenset[str]
    """The features that it may use without a check; of an architecture whose code is not followed, all of them."""


def guards(image: Image, uses: Mapping[Function, Mapping[str, Sequence[int]]]) -> dict[int, Guard]:
    """Return the guard of each function, by its start. ``uses`` are the addresses of all its uses of each feature."""
    lifting = architecture(image.arch)
    if lifting is None:
        why = f"run-time checks are not looked for in {image.arch} code"
        return {function.start: Guard(UNKNOWN, why, frozenset(features)) for function, features in uses.items()}
    if not uses:
        return {}
    program = Program(image, lifting.lifter, uses)
    references = References(program, lifting.xref_finder(program))
    checks = find_cpu_checks(program, references)
    own_checks = LibraryChecks(program)
    used = own_checks.without({function.start: features for function, features in uses.items()})
    found = _checked(program, references, checks, used) if checks.functions else _unchecked(program, used)
    trusted = {start: Guard(CHECKED, why, frozenset()) for start, why in own_checks.reasons.items()}
    return trusted | found


def _unchecked(program: Program, used: Uses) -> dict[int, Guard]:
    """Return the guards of a program without any check, in which only what runs at load is told from the rest."""
    at_load, why = dict(ways_at_load(program, used)), "no branch in this file depends on what the CPU can do"
    guard = {start: Guard(UNCHECKED, why, frozenset(features)) for start, features in used.items()}
    early = {start: (AT_LOAD, f"{way.how}; {why}") for start, way in at_load.items()}
    return guard | {start: Guard(*words, guard[start].bare) for start, words in early.items()}


def _checked(program: Program, references: References, checks: CpuChecks, used: Uses) -> dict[int, Guard]:
    graph = ReferenceGraph(program, references, checks)
    checked = CheckedFunctions(program, references, checks)
    needs = find_unavoidable_needs(program, checked, graph, _with_implied(program.image.arch, used))
    exposure = Exposure(program, graph, needs, UnusedCode(program, references))
    judge = _Judge(program, checked, graph, needs, exposure.arrivals)
    return {start: judge.guard(start, list(features)) for start, features in used.items()}


def _with_implied(arch: str, used: Uses) -> Uses:
    """Return the uses of each feature, with those of all features that imply it; only features that occur."""
    occurring = {feature for features in used.values() for feature in features}
    weaker = {feature: implied(arch, feature) & occurring for feature in occurring}
    result: dict[int, dict[str, set[int]]] = {}
    for start, features in used.items():
        places = result.setdefault(start, {})
        for feature, addresses in features.items():
            for name in weaker[feature]:
                places.setdefault(name, set()).update(addresses)
    return result


class _Judge:
    """Decides whether the uses in a function are guarded, and gives the reason."""

    def __init__(
        self,
        program: Program,
        checked: CheckedFunctions,
        graph: ReferenceGraph,
        needs: UnavoidableNeeds,
        arrivals: Mapping[tuple[int, str], Arrival],
    ) -> None:
        self._program, self._checked, self._graph, self._needs = program, checked, graph, needs
        self._arrivals = arrivals

    def guard(self, start: int, features: Sequence[str]) -> Guard:
        """Return the guard of the function at an address, for its uses of some features."""
        ways = {feature: way for feature in features if (way := self._way_to(start, feature))}
        if ways:
            bare = frozenset(feature for feature, way in ways.items() if way.root != UNUSED)
            arrival = min(ways.values(), key=_order)
            return Guard(_reached(arrival), self._described(arrival, start), bare)
        unavoidable = [feature for feature in features if feature in self._needs.of(start)]
        if not unavoidable:
            return Guard(CHECKED, f"behind its own test of {self._sources(start)}", frozenset())
        cuts = list(islice(self._cuts(start, unavoidable[0]), _MAX_NAMED + 1))
        if not cuts:
            lister = self._program.symbols.describe(self._graph.listed[start])
            return Guard(CHECKED, f"only listed by {lister}, which tells whether the CPU can run it", frozenset())
        exported = any(symbol.visible for symbol in self._program.symbols.at(start))
        return Guard(CHECKED, "exported, but in this file " * exported + self._through(cuts), frozenset())

    def _way_to(self, start: int, feature: str) -> Arrival | None:
        """Return how the uses of a function are reached without a check, None if they are not."""
        for entry in self._checked.games(start) if start in self._checked.checks else (start,):
            arrival = self._arrivals.get((entry, feature))
            if arrival and start in self._needs.exposed(entry, feature):
                return arrival if arrival.previous != entry else arrival._replace(previous=start)
        return None

    def _described(self, arrival: Arrival, start: int) -> str:
        if arrival.previous == start:
            return arrival.root.how
        return f"reached from {self._program.symbols.describe(arrival.previous)} without a check ({arrival.root.how})"

    def _cuts(self, node: int, feature: str) -> Iterator[int]:
        """Yield the functions whose checks stand between a node and what refers to it, the nearest first."""
        visited, waiting = {node}, deque([node])
        while waiting:
            referred = waiting.popleft()
            for edge in self._graph.referrers(referred):
                if edge.source in visited:
                    continue
                visited.add(edge.source)
                if edge.source in self._checked.checks and not self._needs.lead_from(edge.source, referred, feature):
                    yield edge.source
                else:
                    waiting.append(edge.source)

    def _through(self, cuts: Sequence[int]) -> str:
        named = [
            f"{self._program.symbols.describe(function)}, which tests {self._sources(function)}"
            for function in cuts[:_MAX_NAMED]
        ]
        return "reached only through " + " and ".join(named) + " and others" * (len(cuts) > _MAX_NAMED)

    def _sources(self, function: int) -> str:
        return ", ".join(sorted(self._checked.checks[function].sources)[:_MAX_NAMED])


def _reached(arrival: Arrival) -> str:
    """Return the word for the way in which a function is reached."""
    if arrival.root in _UNSEEN:
        return _UNSEEN[arrival.root]
    runs_at_load = arrival.root.at_load and arrival.distance <= arrival.root.leads_on
    return AT_LOAD if runs_at_load else UNCHECKED


def _order(arrival: Arrival) -> tuple[bool, bool, bool, bool]:
    """Return a key that sorts arrivals: what runs at load first, and last what no way in leads to."""
    return (arrival.root == UNUSED, arrival.root == UNREFERRED, *arrival.root.rank)
