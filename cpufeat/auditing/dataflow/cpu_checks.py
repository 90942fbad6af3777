"""Where a program knows from what its CPU can do: data flow from CPUID to the branches that depend on it.

A *fact* is a value made of what an instruction such as CPUID, or a function of ``data/queries.tsv``, answered. Where it
is the system that programs ask, what a function makes of a fact that it is handed is one as well, for its caller.
Facts are followed through registers, stack slots, memory at settled addresses, results of functions and what functions
store where their arguments point; not through the heap. So the variable that a program fills at its start (NumPy's
``npy__cpu_have``, libgcc's ``__cpu_model``, Go's ``internal/cpu.X86``) is found by what is stored in it.

What is assigned on one side only of a branch on a fact is *implied* (``if (ecx & bit) features |= AVX2``), and a
variable that nothing else is assigned holds a fact. Outside of the functions that ask, that goes for numbers only.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from cpufeat import tables
from cpufeat.auditing.dataflow.interpreter import ROUNDS, UNSIZED, Follower, TooMuchError
from cpufeat.auditing.dataflow.lattice import FACT, POINTS, Label, Passed
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from cpufeat.auditing.formats.image import Function, Symbol
    from cpufeat.auditing.program.cfg import ControlFlowGraph
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.references import References

_WORD = 8
"""Bytes of what the system tells as one number."""
_LARGEST = 1024
"""Bytes of an object that are looked at."""
_FARTHEST = 5
"""Functions that hand on a result of one another: beyond, what depends on it says little of the CPU."""
_DEEPEST = 3
"""Functions that hand an argument on to one another and make something of it."""
_MOST_STEPS = 10_000_000
"""Steps of all functions together, each as often as it is gone over: a minute's work. libcrypto takes one in fifty."""


class _Query(NamedTuple):
    """A row of ``data/queries.tsv``."""

    answer: str
    numbers: frozenset[int]
    """What its first argument is where it says what the CPU can do; empty: whatever that is."""


class Outcome(NamedTuple):
    """What a function knows of the CPU."""

    blocks: ControlFlowGraph
    tests: frozenset[int]
    """The blocks that end in a choice between their successors that a fact makes."""
    chosen: frozenset[frozenset[int]]
    """Groups of addresses of which facts choose one without a branch (conditional moves, indexed tables)."""
    sources: frozenset[str]
    """What it asks, in words: ``CPUID``, names of functions and data."""
    absent: Mapping[int, int]
    """Where those of the tests lead that ask for bits, if these are zero."""


class Facts:
    """All that the code of an image makes known of the CPU."""

    def __init__(self, program: Program, references: References) -> None:
        """Follow the facts through the whole program."""
        self.program, self.references, self.image = program, references, program.image
        self.memory: set[int] = set()
        """Addresses of the bytes that were given facts."""
        self.implied: set[int] = set()
        """Addresses of those that branches on facts gave values."""
        self._mixed: set[int] = set()
        """Addresses of those that have other values from the beginning, or from functions that do not ask."""
        self._disowned: set[int] = set()
        """What is mixed, and not taken for facts any more."""
        self.outcomes: dict[int, Outcome] = {}
        """By the start of a function: those that have seen a fact."""
        self._returns: dict[int, frozenset[int]] = {}
        self._fills: set[int] = set()
        self._asking: set[int] = set()
        self._distances: dict[int, int] = {}
        self._made: dict[tuple[int, int], dict[int, set[Passed]]] = {}
        """By function, and through how many more it was looked."""
        self._passed = 0
        self._queries = {
            name: _Query(answer, frozenset(map(int, numbers.replace("*", "").split())))
            for name, answer, numbers, _ in tables.rows("queries.tsv")
        }
        elsewhere = {address: self._query(name) for address, name in self.image.externals.items()}
        here = {symbol.address: self._query(symbol.name) for symbol in self._tellers()}
        self.asked = {address: query for address, query in (elsewhere | here).items() if query}
        """What is in other files; and what the file itself has for asking the system, if that is how one asks."""
        self._named = self._elsewhere("holds")
        self._for_resolvers = self._elsewhere("resolvers")
        self._left = _MOST_STEPS
        try:
            self._settle()
        except TooMuchError:
            self.outcomes = {}

    def _settle(self) -> None:
        """Follow the facts until what is taken for one is not assigned anything else."""
        for _ in range(ROUNDS):
            self._follow(self._first())
            shared = (self.memory | self.implied) & self._mixed
            if shared <= self._disowned:
                break
            self._disowned |= shared
            self.outcomes, self._returns, self._fills, self.memory, self.implied = {}, {}, set(), set(), set()

    def _query(self, name: str) -> _Query | None:
        """Return what asking something of that name answers; names of Mach-O's begin with `_`."""
        apple = self.program.convention.told and self.image.format == "Mach-O"
        return self._queries.get(name.removeprefix("_") if apple else name)

    def _tellers(self) -> list[Symbol]:
        """Return the functions of the file itself that tell what the system says of the CPU, and of other things."""
        told = self.image.symbols if self.program.convention.told else ()
        named = ((symbol, self._query(symbol.name)) for symbol in told if symbol.kind == "function")
        return [symbol for symbol, query in named if query and query.answer == "returns"]

    def _elsewhere(self, answer: str) -> set[int]:
        """Return the addresses of data in other files that gives an answer of that kind."""
        found = [address for address in self.image.externals if self._answers(address) == answer]
        return {place for address in found for place in range(address, address + self.image.spacing)}

    def _answers(self, address: int) -> str:
        """Return the kind of answer that is at an address, empty if none is."""
        return self.asked[address].answer if address in self.asked else ""

    # --- which functions

    def _first(self) -> Iterator[Function]:
        """Yield the functions that ask, and those that name what holds or gives an answer."""
        yield from self.program.probing_functions()
        for symbol in self.image.symbols:
            query = self._query(symbol.name) if symbol.kind == "data" else None
            if query and query.answer == "holds":
                self.memory.update(range(symbol.address, symbol.address + min(symbol.size, _LARGEST)))
                yield from self.references.users(symbol.address, symbol.address + max(symbol.size, 1))
        for address in self.image.resolvers:
            function = self.program.function_at(address)
            if function:
                yield function
        read = {word for symbol in self._tellers() for word in self._read_by(symbol)}
        self._named.update(place for word in read for place in range(word, word + _WORD))
        for address in self.asked:
            if self._answers(address) != "resolvers" or any(
                address <= word < address + self.image.spacing for word in read
            ):
                yield from self.references.users(address, address + self.image.spacing)

    def _read_by(self, teller: Symbol) -> Iterator[int]:
        """Yield where in other files there is what a function that tells of the CPU returns: glibc's ``_dl_hwcap``."""
        function = self.program.function_at(teller.address)
        if function and self.program.steps(function):
            yield from Follower(self, function, telling=True).follow().words

    def _follow(self, first: Iterable[Function]) -> None:
        waiting = deque(dict.fromkeys(first))
        queued = set(waiting)
        while waiting:
            function = waiting.popleft()
            queued.discard(function)
            for other in self._analyse(function):
                if other not in queued:
                    queued.add(other)
                    waiting.append(other)

    def _analyse(self, function: Function) -> Iterator[Function]:
        """Follow one function, and yield those that what it makes known concerns."""
        if not self.program.steps(function):
            return
        follower = Follower(self, function)
        effects = follower.follow()
        if effects.probes:
            self._asking.add(function.start)
        if effects.tests or effects.chosen:
            self.outcomes[function.start] = Outcome(
                follower.blocks,
                frozenset(effects.tests),
                frozenset(effects.chosen),
                frozenset(effects.sources),
                effects.absent,
            )
        self._mixed |= effects.mixed
        new = (effects.stored | effects.implied) - self.memory - self.implied - self._disowned
        self.memory |= effects.stored
        self.implied |= effects.implied
        for low, high in _stretches(new):
            yield from self.references.users(low, high)
            start, _ = self.references.object_at(low) or (low, high)
            if start < low:  # what names the start of the object may read all of it
                yield from self.references.users(start, start + 1)
        self._distances[function.start] = effects.distance
        handed_on = effects.distance < _FARTHEST and not follower.resolving
        returned, fills = frozenset(effects.returned if handed_on else ()), effects.fills and effects.probes
        if returned != self._returns.get(function.start, frozenset()) or fills > (function.start in self._fills):
            self._returns[function.start] = returned
            self._fills |= {function.start} if fills else set()
            yield from self.references.users(function.start, function.start + 1)

    def spend(self, steps: int) -> None:
        """Count steps that are gone over; a file may be made to have no end of them."""
        self._left -= steps + 1
        if self._left < 0:
            raise TooMuchError

    # --- what is known of memory and functions

    def at(self, address: int, size: int, *, resolving: bool) -> bool:
        """Whether memory at an address holds a fact; ``resolving``: in the eyes of an ``ifunc`` resolver."""
        places = range(address, address + max(size, 1))
        known = any(place in self.memory or place in self.implied for place in places if place not in self._disowned)
        return known or self.holds(address, resolving=resolving)

    def begun(self, places: range) -> Iterator[int]:
        """Yield the bytes of numbers that are not zero from the beginning: who asks may do so too late, or never."""
        for low in range(places.start, places.stop, _WORD):
            number = places[low - places.start :][:_WORD]
            if any(self.image.bytes_at(low, len(number))):
                yield from number

    def holds(self, address: int, *, resolving: bool) -> bool:
        """Whether data in another file, which an address is in, holds facts."""
        return address in self._named or (resolving and address in self._for_resolvers)

    def extent(self, address: int) -> tuple[int, int]:
        """Return the stretch of memory that is one object with an address, as far as it is looked at."""
        low, high = self.program.symbols.object_at(address) or (address, address + UNSIZED)
        return low, min(high, low + _LARGEST)

    def answer(self, callee: int, number: int | None) -> tuple[dict[int, Label], bool]:
        """Return in which registers a function gives facts, and whether it stores some where its arguments point.

        ``number`` is its first argument, where that is known.
        """
        query = self.asked.get(callee)
        if query and query.numbers and number not in query.numbers:
            return {}, False
        if query:
            label = {"returns": FACT, "points": POINTS}.get(query.answer)
            return dict.fromkeys(self.program.convention.results, label) if label else {}, query.answer == "fills"
        return dict.fromkeys(self._returns.get(callee, ()), FACT), callee in self._fills

    def made(self, callee: int) -> Mapping[int, Collection[Passed]]:
        """Return of which of its arguments a function makes its results, by their registers."""
        if self._passed == _DEEPEST or callee in self.asked:
            return {}
        known = self._made.get((callee, self._passed))
        function = self.program.function_at(callee) if known is None else None
        if function and function.start == callee and self.program.steps(function):
            self._passed += 1
            known = Follower(self, function, passing=True).follow().made
            self._passed -= 1
        return self._made.setdefault((callee, self._passed), known or {})

    def distance(self, callee: int) -> int:
        """Return through how many functions the result of one has come."""
        return self._distances.get(callee, 0)

    def lists(self, start: int) -> bool:
        """Whether a function stores the addresses of others for its caller, each with whether the CPU can run it."""
        queries = (self._query(symbol.name) for symbol in self.program.symbols.at(start))
        return any(query.answer == "lists" for query in queries if query)

    def asks(self, callee: int) -> bool:
        """Whether a function asks by itself."""
        return callee in self._asking or callee in self.asked


def _stretches(addresses: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the stretches, from start to before end, that addresses next to one another make."""
    start = end = None
    for address in sorted(addresses):
        if end is None or address > end:
            if end is not None:
                yield start, end  # type: ignore[misc]
            start = address
        end = address + 1
    if end is not None:
        yield start, end  # type: ignore[misc]
