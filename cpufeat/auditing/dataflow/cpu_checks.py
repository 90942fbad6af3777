"""Find a program's checks of its CPU: the branches that depend on answers of the CPU.

A *fact* is a value computed from the answer of an instruction such as CPUID, or of a function of ``data/queries.tsv``.
Where programs ask the system and not the CPU, what a function makes from a fact that it is passed is a fact for its
caller too. Facts are followed through registers, stack slots, memory at constant addresses, results of functions, and
what functions store where their arguments point; not through the heap. So the variable that a program fills at its
start (NumPy's ``npy__cpu_have``, libgcc's ``__cpu_model``, Go's ``internal/cpu.X86``) is found by what is stored in it.

What is assigned on only one side of a branch on a fact is *implied* (``if (ecx & bit) features |= AVX2``), and a
variable that is assigned nothing else holds a fact. Outside of the functions that ask, only numbers count as implied.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from cpufeat.auditing.dataflow.def_use import handed_on
from cpufeat.auditing.dataflow.facts import BudgetExceededError, Facts
from cpufeat.auditing.dataflow.interpreter import Interpreter
from cpufeat.auditing.dataflow.queries import Queries
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cpufeat.auditing.formats.image import Function, Symbol
    from cpufeat.auditing.program.cfg import ControlFlowGraph
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.references import References

_MAX_ROUNDS = 4
"""The most repetitions of the analysis, each without the variables that turned out to hold other values too."""


class FunctionChecks(NamedTuple):
    """The checks of one function."""

    cfg: ControlFlowGraph
    tests: frozenset[int]
    """The blocks that end in a choice between their successors that a fact makes."""
    selected: frozenset[frozenset[int]]
    """Groups of addresses of which facts select one without a branch (conditional moves, indexed tables)."""
    sources: frozenset[str]
    """The sources of its facts, in words: ``CPUID``, names of functions and data."""
    absent: Mapping[int, int]
    """The successor if all bits that a test asks for are zero, by test; only tests of bits of features."""


class CpuChecks(Value):
    """The checks of a program."""

    functions: Mapping[int, FunctionChecks]
    """The checks of each function that has any, by its start."""
    queries: Queries


def find_cpu_checks(program: Program, references: References) -> CpuChecks:
    """Find the checks of a program; none if it has more code to interpret than any real program."""
    queries = Queries(program)
    try:
        functions = _ProgramAnalysis(program, references, queries).run()
    except BudgetExceededError:
        functions = {}
    return CpuChecks(functions, queries)


class _ProgramAnalysis:
    """Follows facts from function to function until nothing new is learnt."""

    def __init__(self, program: Program, references: References, queries: Queries) -> None:
        self._program, self._references, self._queries = program, references, queries
        self._facts = Facts(program, queries)
        self._interpreter = Interpreter(program, references, self._facts)
        self._checks: dict[int, FunctionChecks] = {}

    def run(self) -> dict[int, FunctionChecks]:
        """Return the checks by function. Raises BudgetExceededError."""
        for _ in range(_MAX_ROUNDS):
            self._follow(self._sources())
            if not self._facts.reject_mixed():
                break
            self._checks = {}
        return self._checks

    def _sources(self) -> Iterator[Function]:
        """Yield the functions that ask, and those that refer to what holds or gives an answer."""
        yield from self._program.probing_functions()
        objects = [(symbol.address, symbol.size) for symbol in self._queries.own_data()]
        self._facts.add_objects(objects)
        for address, size in objects:
            yield from self._references.users(address, address + max(size, 1))
        for address in self._program.image.resolvers:
            function = self._program.function_at(address)
            if function:
                yield function
        words = {word for symbol in self._queries.own_functions() for word in self._returned_words(symbol)}
        self._facts.add_external_words(words)
        for address in self._queries:
            yield from self._users_of_query(address, words)

    def _users_of_query(self, address: int, words: Iterable[int]) -> Iterator[Function]:
        """Yield the users of what answers a query; of data for resolvers only if it holds words known to be facts."""
        query, end = self._queries.at(address), address + self._program.image.spacing
        for_resolvers = query is not None and query.answer == "resolvers"
        if not for_resolvers or any(address <= word < end for word in words):
            yield from self._references.users(address, end)

    def _returned_words(self, symbol: Symbol) -> Iterator[int]:
        """Yield the words of other files that a function which reports on the CPU returns: glibc's ``_dl_hwcap``."""
        function = self._program.function_at(symbol.address)
        if function and self._program.steps(function):
            yield from self._interpreter.interpret(function, wants_words=True).effects.returned_words

    def _follow(self, sources: Iterable[Function]) -> None:
        """Interpret functions, and again those that new facts concern, until there are no new ones."""
        waiting = deque(dict.fromkeys(sources))
        queued = set(waiting)
        while waiting:
            function = waiting.popleft()
            queued.discard(function)
            for user in self._learn(function):
                if user not in queued:
                    queued.add(user)
                    waiting.append(user)

    def _learn(self, function: Function) -> Iterator[Function]:
        """Interpret a function, and yield the functions that the facts learnt from it concern."""
        if not self._program.steps(function):
            return
        cfg, effects = self._interpreter.interpret(function)
        if effects.tests or effects.selected:
            self._checks[function.start] = FunctionChecks(
                cfg,
                frozenset(effects.tests),
                frozenset(effects.selected),
                frozenset(effects.sources),
                effects.absent,
            )
        for low, high in _ranges(self._facts.add_memory(effects)):
            yield from self._references.users(low, high)
            start, _ = self._references.object_at(low) or (low, high)
            if start < low:  # what names the start of the object may read all of it
                yield from self._references.users(start, start + 1)
        previous = self._facts.returned(function.start)
        if self._facts.add_results(function, effects, resolving=self._program.is_resolver(function.start)):
            yield from self._readers(function, previous)

    def _readers(self, function: Function, previous: frozenset[int]) -> Iterator[Function]:
        """Yield the functions that read what a function now returns, or stores where their arguments point.

        What a caller does not read, but leaves behind when it returns, is taken for its own result.
        ``previous``: the registers in which the function was known to return facts.
        """
        waiting, forgets = [function], not previous <= self._facts.returned(function.start)
        while waiting:
            callee = waiting.pop()
            registers = self._facts.returned(callee.start)
            fills = self._facts.fills(callee.start)
            for call in self._references.uses(callee.start, callee.start + 1):
                left = None if fills or forgets else handed_on(self._program, call, registers)
                if left is None:
                    yield call.function
                elif self._facts.add_left_behind(call.function, left):
                    waiting.append(call.function)


def _ranges(addresses: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges, from start to before end, that addresses next to one another make."""
    start = end = None
    for address in sorted(addresses):
        if start is None or end is None:
            start = address
        elif address > end:
            yield start, end
            start = address
        end = address + 1
    if start is not None and end is not None:
        yield start, end
