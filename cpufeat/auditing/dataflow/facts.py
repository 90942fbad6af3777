"""Keep the facts about the whole program: memory that holds answers of the CPU, functions that return or store them."""

from __future__ import annotations

from cpufeat.auditing.dataflow.lattice import FACT, FACT_POINTER
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cpufeat.auditing.dataflow.effects import Effects
    from cpufeat.auditing.dataflow.lattice import Label
    from cpufeat.auditing.dataflow.queries import Queries
    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.program.functions import Program

UNSIZED = 64
"""Bytes that an object is taken to have where no symbol gives its size."""
_MAX_OBJECT = 1024
"""Bytes of an object that are followed."""
_MAX_DISTANCE = 5
"""Functions that hand on each other's results: what depends on a longer chain says little about the CPU."""
_WORD = 8
"""Bytes of a number."""
_MAX_STEPS, _LEAST_STEPS, _STEPS_A_BYTE = 10_000_000, 200_000, 20
"""Steps of all functions, each as often as it is interpreted: a minute's work, of which libcrypto takes a fiftieth. A
small file gets fewer, so that its audit ends within its size."""
_VALUES_A_STEP = 8
"""Values that two states have in common, and that are joined in the time of a step."""


class BudgetExceededError(Exception):
    """The program has more steps to interpret than any real one."""


class Facts:
    """The facts known about a program while its functions are interpreted one after another."""

    def __init__(self, program: Program, queries: Queries) -> None:
        """Begin with the data of other files that holds answers."""
        self._program, self._image = program, program.image
        self.queries: Queries = queries
        self._stored: set[int] = set()
        """Addresses of bytes that were given facts."""
        self._implied: set[int] = set()
        """Addresses of bytes that branches on facts gave values."""
        self._mixed: set[int] = set()
        """Addresses of bytes with other values too, from the beginning or from functions that do not ask."""
        self._rejected: set[int] = set()
        """The variables that hold other values too, and are not taken for facts any more."""
        self._held: set[int] = set()
        """Addresses of bytes that are taken for facts: stored or implied, and not rejected."""
        self._external = queries.external_data("holds")
        self._external_for_resolvers = queries.external_data("resolvers")
        self._returning: dict[int, frozenset[int]] = {}
        """The registers in which a function returns facts, by its start."""
        self._filling: set[int] = set()
        """Functions that store facts where their arguments point."""
        self._asking: set[int] = set()
        """Functions that ask the CPU, or the system, themselves."""
        self._distances: dict[int, int] = {}
        """The number of functions that its results have come through, by the start of a function."""
        size = sum(len(section.content) for section in self._image.sections if section.executable)
        self._steps_left: int = min(_MAX_STEPS, _LEAST_STEPS + _STEPS_A_BYTE * size)

    # --- what is known

    def in_memory(self, address: int, size: int, *, resolving: bool) -> bool:
        """Tell whether memory at an address holds a fact; ``resolving``: for an ``ifunc`` resolver."""
        places = range(address, address + max(size, 1))
        return not self._held.isdisjoint(places) or self.in_other_file(address, resolving=resolving)

    def in_other_file(self, address: int, *, resolving: bool) -> bool:
        """Tell whether an address lies in data of another file that holds facts."""
        return address in self._external or (resolving and address in self._external_for_resolvers)

    def nonzero_initially(self, places: range) -> Iterator[int]:
        """Yield the bytes of numbers that are not zero initially: a check may set them too late, or never."""
        for low in range(places.start, places.stop, _WORD):
            number = places[low - places.start :][:_WORD]
            if any(self._image.bytes_at(low, len(number))):
                yield from number

    def extent(self, address: int) -> tuple[int, int]:
        """Return the start and end of the object of data at an address, as far as it is followed."""
        low, high = self._program.symbols.object_at(address) or (address, address + UNSIZED)
        return low, min(high, low + _MAX_OBJECT)

    def of_call(self, callee: int, number: int | None) -> tuple[dict[int, Label], bool]:
        """Return the labels of the registers in which a function returns facts, and whether it fills memory with some.

        That memory is what its arguments point to. ``number`` is the first argument, None if it is not known.
        """
        query = self.queries.at(callee)
        if query is None:
            return dict.fromkeys(self.returned(callee), FACT), self.fills(callee)
        if query.numbers and number not in query.numbers:
            return {}, False
        label = {"returns": FACT, "points": FACT_POINTER}.get(query.answer)
        return dict.fromkeys(self._program.convention.results, label) if label else {}, query.answer == "fills"

    def returned(self, start: int) -> frozenset[int]:
        """Return the registers in which the function that starts there returns facts."""
        return self._returning.get(start, frozenset())

    def fills(self, start: int) -> bool:
        """Tell whether the function that starts there stores facts where its arguments point."""
        return start in self._filling

    def asks(self, callee: int) -> bool:
        """Tell whether a function asks the CPU or the system itself."""
        return callee in self._asking or self.queries.at(callee) is not None

    def distance(self, callee: int) -> int:
        """Return through how many functions the result of a function has come."""
        return self._distances.get(callee, 0)

    # --- what is learnt

    def add_objects(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take objects of data for facts, by address and size."""
        for address, size in ranges:
            places = set(range(address, address + min(size, _MAX_OBJECT)))
            self._stored |= places
            self._held |= places - self._rejected

    def add_external_words(self, addresses: Iterable[int]) -> None:
        """Take words of data in other files for facts."""
        self._external.update(byte for address in addresses for byte in range(address, address + _WORD))

    def add_memory(self, effects: Effects) -> Collection[int]:
        """Add what a function stores; return the addresses of the bytes that are new."""
        self._mixed |= effects.mixed
        new = (effects.stored | effects.implied) - self._stored - self._implied - self._rejected
        self._stored |= effects.stored
        self._implied |= effects.implied
        self._held |= new
        return new

    def add_results(self, function: Function, effects: Effects, *, resolving: bool) -> bool:
        """Add what a function returns, and stores where its arguments point; tell whether that is new."""
        start = function.start
        if effects.probes:
            self._asking.add(start)
        self._distances[start] = effects.distance
        handed_on = effects.distance < _MAX_DISTANCE and not resolving
        returned = frozenset(effects.returned if handed_on else ())
        fills = effects.fills and effects.probes
        if returned == self.returned(start) and fills <= self.fills(start):
            return False
        self._returning[start] = returned
        if fills:
            self._filling.add(start)
        return True

    def add_left_behind(self, function: Function, registers: frozenset[int]) -> bool:
        """Add registers in which a function leaves the results of a callee untouched; tell whether that is new."""
        start, known = function.start, self.returned(function.start)
        if registers <= known or self.distance(start) >= _MAX_DISTANCE or self._program.is_resolver(start):
            return False
        self._returning[start] = known | registers
        return True

    def reject_mixed(self) -> bool:
        """Reject memory that holds facts and other values, and forget what depends on it. Tell whether any was."""
        shared = (self._stored | self._implied) & self._mixed
        if shared <= self._rejected:
            return False
        self._rejected |= shared
        self._returning, self._filling = {}, set()
        self._stored, self._implied, self._held = set(), set(), set()
        return True

    def spend(self, steps: int, values: int) -> None:
        """Count steps that are interpreted, and the values in the state before them, which are joined with others.

        Raises BudgetExceededError for a program without end of them.
        """
        self._steps_left -= steps + 1 + values // _VALUES_A_STEP
        if self._steps_left < 0:
            raise BudgetExceededError
