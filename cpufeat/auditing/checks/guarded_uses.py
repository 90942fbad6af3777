"""Decide which uses of features are bare and which are guarded by a check of the CPU at run time, and say why.

A use is *bare* if it is reached from outside, through calls, jumps and addresses that the code takes, without a branch
that depends on the CPU (see :mod:`cpufeat.auditing.dataflow.cpu_checks`) deciding on it; it is *guarded* if every way
to it is cut by such a branch. Within a function that is a game: is there an outcome of the tests that avoids the use,
whatever the other branches do? Each feature is looked at by itself, and all places that need it together:
``if (avx512) a(); else b();`` guards neither if both need AVX.

Assumptions that a program can break:

- a test guards what it decides about, whichever feature it asks for: testing SSE2 before using AVX2 is not found;
- a function's address is followed to where it is taken, not to where it is called, and a pointer in data belongs to the
  symbol around it, or without one to the last address before it that the code names;
- nobody calls a function that the file does not export, except through references in the file itself.

Anything else that is not known makes a use bare: an answer kept in heap memory, a test of an argument that a caller
computed from one, code that nothing is seen to refer to.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

from cpufeat.auditing.checks.exposure import Exposure
from cpufeat.auditing.checks.reference_graph import ReferenceGraph
from cpufeat.auditing.checks.unavoidable_needs import CheckedFunctions, find_unavoidable_needs
from cpufeat.auditing.dataflow.cpu_checks import find_cpu_checks
from cpufeat.auditing.program.functions import Program
from cpufeat.auditing.program.references import References, architecture
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cpufeat.auditing.checks.unavoidable_needs import UnavoidableNeeds, Uses
    from cpufeat.auditing.formats.image import Function, Image

_MAX_NAMED = 2
"""Functions, or sources of answers, that a reason names."""


class Guard(NamedTuple):
    """The result for one function's uses of features."""

    guarded: bool | None
    """None: no way to it is seen, guarded or not: unused code, or reached in a way that is not understood."""
    why: str
    """The reason, in words."""
    bare: frozenset[str]
    """The features that it may use without a check; of an architecture whose code is not followed, all of them."""


def guards(image: Image, uses: Mapping[Function, Mapping[str, Sequence[int]]]) -> dict[int, Guard]:
    """Return the guard of each function, by its start. ``uses`` are the addresses of all its uses of each feature."""
    lifting = architecture(image.arch)
    if lifting is None:
        why = f"run-time checks are not looked for in {image.arch} code"
        return {function.start: Guard(None, why, frozenset(features)) for function, features in uses.items()}
    if not uses:
        return {}
    program = Program(image, lifting.lifter, uses)
    references = References(program, lifting.xref_finder(program))
    checks = find_cpu_checks(program, references)
    used: Uses = {function.start: features for function, features in uses.items()}
    if not checks.functions:
        why = "no branch in this file depends on what the CPU can do"
        return {start: Guard(False, why, frozenset(features)) for start, features in used.items()}
    graph = ReferenceGraph(program, references, checks)
    checked = CheckedFunctions(program, references, checks)
    needs = find_unavoidable_needs(program, checked, graph, used)
    judge = _Judge(program, checked, graph, needs)
    return {start: judge.guard(start, list(features)) for start, features in used.items()}


class _Judge:
    """Decides whether the uses in a function are guarded, and gives the reason."""

    def __init__(
        self, program: Program, checked: CheckedFunctions, graph: ReferenceGraph, needs: UnavoidableNeeds
    ) -> None:
        self._program, self._checked, self._graph, self._needs = program, checked, graph, needs
        self._arrivals = Exposure(program, needs).arrivals

    def guard(self, start: int, features: Sequence[str]) -> Guard:
        """Return the guard of the function at an address, for its uses of some features."""
        reasons = {feature: self._why_exposed(start, feature) for feature in features}
        bare = frozenset(feature for feature, reason in reasons.items() if reason)
        if bare:
            return Guard(False, next(reason for reason in reasons.values() if reason), bare)
        unavoidable = [feature for feature in features if feature in self._needs.of(start)]
        if not unavoidable:
            return Guard(True, f"behind its own test of {self._sources(start)}", frozenset())
        cuts = list(islice(self._cuts(start, unavoidable[0]), _MAX_NAMED + 1))
        if not cuts:
            return Guard(None, "nothing is seen to refer to it", frozenset())
        exported = any(symbol.visible for symbol in self._program.symbols.at(start))
        return Guard(True, "exported, but in this file " * exported + self._through(cuts), frozenset())

    def _why_exposed(self, start: int, feature: str) -> str:
        """Say how the uses of a function are reached without a check; empty if they are not."""
        for entry in self._checked.games(start) if start in self._checked.checks else (start,):
            arrival = self._arrivals.get((entry, feature))
            if arrival and start in self._needs.exposed(entry, feature):
                if arrival.previous == entry:
                    return arrival.root
                previous = self._program.symbols.describe(arrival.previous)
                return f"reached from {previous} without a check ({arrival.root})"
        return ""

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
