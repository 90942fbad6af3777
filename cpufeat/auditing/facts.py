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
from heapq import heappop, heappush
from typing import NamedTuple

from cpufeat import tables
from cpufeat.auditing.blocks import Blocks, Game
from cpufeat.auditing.steps import BRANCH, CALL, FLAGS, JUMP
from cpufeat.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from cpufeat.auditing.image import Function, Symbol
    from cpufeat.auditing.references import Code
    from cpufeat.auditing.steps import Memory, Step

_UNSIZED = 64
"""Bytes that an object is taken to have where no symbol gives its size."""
_WORD = 8
"""Bytes of what the system tells as one number."""
_LARGEST = 1024
"""Bytes of an object that are looked at."""
_FARTHEST = 5
"""Functions that hand on a result of one another: beyond, what depends on it says little of the CPU."""
_DEEPEST = 3
"""Functions that hand an argument on to one another and make something of it."""
_ROUNDS = 4
"""How often what only runs by choice is worked out anew with what that made known."""
_MANY, _MANY_SLOTS = 12, 2
"""Labels, and those among them that point to the stack."""
_MOST_STEPS = 10_000_000
"""Steps of all functions together, each as often as it is gone over: a minute's work. libcrypto takes one in fifty."""


class _Query(NamedTuple):
    """A row of ``data/queries.tsv``."""

    answer: str
    numbers: frozenset[int]
    """What its first argument is where it says what the CPU can do; empty: whatever that is."""


class _Mark:
    """A label without anything more to say."""


class Result(NamedTuple):
    """The label of a value that a function gave."""

    function: int


class Slot(NamedTuple):
    """A place on the stack; as a label, a pointer to it."""

    depth: int
    """In bytes above the stack pointer at the start of the function."""


class Word(NamedTuple):
    """The label of what is read at an address in another file, which a function that tells of the CPU hands on."""

    address: int


class Bits(Value):
    """The label of an answer as it was given, or of some bits of it: zero says that the CPU lacks them."""

    told: int
    """Those that tell of features."""


class Passed(NamedTuple):
    """The label of what is made of an argument, where what a function makes of its arguments is worked out."""

    register: int
    behind: bool
    """Whether it is made of what the argument points to."""


FACT = _Mark()
"""The label of a value that is made of what the CPU answered."""
IMPLIED = _Mark()
"""The label of what is made where a branch on a fact led: a fact once it is in a variable that only such values get."""
ZERO = _Mark()
"""The label of zero, which variables have until something is known; it is not followed from block to block."""
COUNT = _Mark()
"""The label of a sum: who counts a fact up does not keep it."""
POINTS = _Mark()
"""The label of a pointer to facts outside of what is followed."""
MANY = _Mark()
"""In place of the other labels of a value that has too many, as a pointer that a loop moves along."""
Label = object
"""What is known of a value: one of these, a :class:`Slot`, a :class:`Result`, or the address (an int) that it is."""
State = dict[object, frozenset[Label]]
_NOTHING: frozenset[Label] = frozenset()
_EVERY_BIT = (1 << 64) - 1
_ONLY_FACT: frozenset[Label] = frozenset([FACT])
_FACTS: frozenset[Label] = frozenset([FACT, IMPLIED])
_POINTERS: frozenset[Label] = frozenset([FACT, POINTS])


class Outcome(NamedTuple):
    """What a function knows of the CPU."""

    blocks: Blocks
    tests: frozenset[int]
    """The blocks that end in a choice between their successors that a fact makes."""
    chosen: frozenset[frozenset[int]]
    """Groups of addresses of which facts choose one without a branch (conditional moves, indexed tables)."""
    sources: frozenset[str]
    """What it asks, in words: ``CPUID``, names of functions and data."""
    absent: Mapping[int, int]
    """Where those of the tests lead that ask for bits, if these are zero."""


class _TooMuchError(Exception):
    """There is more to follow than any program has."""


class _Effects:
    """What is collected while a function is followed."""

    def __init__(self) -> None:
        self.stored: set[int] = set()
        """Addresses of bytes that were given facts."""
        self.implied: set[int] = set()
        """Those that a branch gave values by which one can tell what the fact was."""
        self.others: set[tuple[int, range]] = set()
        """In which blocks bytes were given something else, or a sum."""
        self.mixed: set[int] = set()
        """Those of them that were given it whatever the tests say, or hold it from the beginning."""
        self.returned: set[int] = set()
        self.words: set[int] = set()
        """Addresses in other files of what is returned as it stands there."""
        self.made: dict[int, set[Passed]] = {}
        """What results are made of, by their registers."""
        self.fills = False
        self.chosen: set[frozenset[int]] = set()
        self.tests: set[int] = set()
        self.absent: dict[int, int] = {}
        """Where those of them that ask for bits lead if these are zero."""
        self.sources: set[str] = set()
        self.distance = 0
        """Of how many functions the one hands on what the next returns."""
        self.probes = False
        """Whether it asks by itself: by an instruction, or the system."""
        self.asks = False
        """Whether it has answers at first hand: its own, or those of a function that asks."""


class Facts:
    """All that the code of an image makes known of the CPU."""

    def __init__(self, code: Code) -> None:
        """Follow the facts through the whole program."""
        self.code, self.image = code, code.image
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
        except _TooMuchError:
            self.outcomes = {}

    def _settle(self) -> None:
        """Follow the facts until what is taken for one is not assigned anything else."""
        for _ in range(_ROUNDS):
            self._follow(self._first())
            shared = (self.memory | self.implied) & self._mixed
            if shared <= self._disowned:
                break
            self._disowned |= shared
            self.outcomes, self._returns, self._fills, self.memory, self.implied = {}, {}, set(), set(), set()

    def _query(self, name: str) -> _Query | None:
        """Return what asking something of that name answers; names of Mach-O's begin with `_`."""
        apple = self.code.convention.told and self.image.format == "Mach-O"
        return self._queries.get(name.removeprefix("_") if apple else name)

    def _tellers(self) -> list[Symbol]:
        """Return the functions of the file itself that tell what the system says of the CPU, and of other things."""
        told = self.image.symbols if self.code.convention.told else ()
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
        yield from self.code.probes()
        for symbol in self.image.symbols:
            query = self._query(symbol.name) if symbol.kind == "data" else None
            if query and query.answer == "holds":
                self.memory.update(range(symbol.address, symbol.address + min(symbol.size, _LARGEST)))
                yield from self._users(symbol.address, symbol.address + max(symbol.size, 1))
        for address in self.image.resolvers:
            function = self.code.function_at(address)
            if function:
                yield function
        read = {word for symbol in self._tellers() for word in self._read_by(symbol)}
        self._named.update(place for word in read for place in range(word, word + _WORD))
        for address in self.asked:
            if self._answers(address) != "resolvers" or any(
                address <= word < address + self.image.spacing for word in read
            ):
                yield from self._users(address, address + self.image.spacing)

    def _read_by(self, teller: Symbol) -> Iterator[int]:
        """Yield where in other files there is what a function that tells of the CPU returns: glibc's ``_dl_hwcap``."""
        function = self.code.function_at(teller.address)
        if function and self.code.steps(function):
            yield from _Follower(self, function, telling=True).follow().words

    def _users(self, low: int, high: int) -> Iterator[Function]:
        """Yield the functions that name an address in a stretch, also through a pointer (a GOT entry) or a stub."""
        for reference in self.code.references(low, high):
            yield reference.function
        for slot in self.code.slots(low, high):
            for reference in self.code.references(slot, slot + 1):
                yield reference.function
                for call in self.code.references(reference.site - self.code.lead, reference.site + 1):
                    if self.code.resolve(call.target) == low:  # a stub: its callers are meant
                        yield call.function

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
        if not self.code.steps(function):
            return
        follower = _Follower(self, function)
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
            yield from self._users(low, high)
            start, _ = self.code.object_at(low) or (low, high)
            if start < low:  # what names the start of the object may read all of it
                yield from self._users(start, start + 1)
        self._distances[function.start] = effects.distance
        handed_on = effects.distance < _FARTHEST and not follower.resolving
        returned, fills = frozenset(effects.returned if handed_on else ()), effects.fills and effects.probes
        if returned != self._returns.get(function.start, frozenset()) or fills > (function.start in self._fills):
            self._returns[function.start] = returned
            self._fills |= {function.start} if fills else set()
            yield from self._users(function.start, function.start + 1)

    def spend(self, steps: int) -> None:
        """Count steps that are gone over; a file may be made to have no end of them."""
        self._left -= steps + 1
        if self._left < 0:
            raise _TooMuchError

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
        low, high = self.code.sized_object_at(address) or (address, address + _UNSIZED)
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
            return dict.fromkeys(self.code.convention.results, label) if label else {}, query.answer == "fills"
        return dict.fromkeys(self._returns.get(callee, ()), FACT), callee in self._fills

    def made(self, callee: int) -> Mapping[int, Collection[Passed]]:
        """Return of which of its arguments a function makes its results, by their registers."""
        if self._passed == _DEEPEST or callee in self.asked:
            return {}
        known = self._made.get((callee, self._passed))
        function = self.code.function_at(callee) if known is None else None
        if function and function.start == callee and self.code.steps(function):
            self._passed += 1
            known = _Follower(self, function, passing=True).follow().made
            self._passed -= 1
        return self._made.setdefault((callee, self._passed), known or {})

    def distance(self, callee: int) -> int:
        """Return through how many functions the result of one has come."""
        return self._distances.get(callee, 0)

    def lists(self, start: int) -> bool:
        """Whether a function stores the addresses of others for its caller, each with whether the CPU can run it."""
        queries = (self._query(symbol.name) for symbol in self.code.symbols.get(start, ()))
        return any(query.answer == "lists" for query in queries if query)

    def asks(self, callee: int) -> bool:
        """Whether a function asks by itself."""
        return callee in self._asking or callee in self.asked


class _Follower:
    """Follows the facts through one function."""

    def __init__(self, facts: Facts, function: Function, *, telling: bool = False, passing: bool = False) -> None:
        self.facts, self.code, self.function = facts, facts.code, function
        self.telling, self.passing = telling, passing
        self.convention = self.code.convention
        passed = [Passed(register, way) for register in self.convention.arguments for way in (False, True)]
        self._telling = _FACTS.union(passed) if passing else _FACTS
        """What a comparison hands on to the flags."""
        self.blocks = Blocks(self.code.steps(function), self.code.entries(function), self.code.switch(function))
        self.effects = _Effects()
        self.resolving = self.code.is_resolver(function.start)
        self.by_choice: set[int] = set()
        self._zeros: set[int] = set()
        """The registers that are zero for sure."""
        self._numbers: dict[int, int] = {}
        """What registers hold for sure."""
        self._told: dict[int, Mapping[int, int]] = {}
        """By the address of an instruction that asks."""
        self.asks = False
        """Whether the round before has shown that it asks."""

    def follow(self) -> _Effects:
        for _ in range(_ROUNDS):
            self.effects = _Effects()
            self._run()
            known, self.asks = self.by_choice, self.effects.asks
            game = Game(self.blocks, self.effects.tests, self.function.start)
            self.by_choice = {index for index in range(len(self.blocks.blocks)) if not game.alone(index)}
            if self.by_choice == known:
                break
        if not self.asks:
            written = ((index, places) for index, places in self.effects.others if index not in self.by_choice)
            self.effects.mixed.update(at for _, places in written for at in places)
        return self.effects

    def _run(self) -> None:
        states: list[State | None] = [None] * len(self.blocks.blocks)
        entries = {self.blocks.at(entry) for entry in self.code.entries(self.function)} | {0, *self.blocks.orphans}
        for entry in entries:
            states[entry] = self._initial()
        order, blocks = self.blocks.order, self.blocks.blocks
        waiting, queued = sorted((order[entry], entry) for entry in entries), set(entries)
        while waiting:
            _, index = heappop(waiting)  # in the order of control: fewer blocks are done twice
            queued.discard(index)
            state = dict(states[index] or {})
            self._zeros.clear()
            self._numbers.clear()
            self.facts.spend(len(blocks[index].steps))
            for step in blocks[index].steps:
                self._step(step, state, index)
            for successor in blocks[index].successors:
                known = states[successor]
                if known is None:
                    states[successor] = dict(state)
                elif not _merge(known, state):
                    continue
                if successor not in queued:
                    queued.add(successor)
                    heappush(waiting, (order[successor], successor))

    def _initial(self) -> State:
        state: State = {self.convention.stack: frozenset([Slot(0)])}
        if self.passing:
            passed = {register: Passed(register, behind=False) for register in self.convention.arguments}
            state.update({register: frozenset([label]) for register, label in passed.items()})
            return state
        if self.convention.resolvers and self.resolving:
            state.update(dict.fromkeys(self.convention.resolvers, frozenset([FACT, POINTS])))
            self.effects.sources.add("the loader's argument")
        return state

    # --- one step

    def _step(self, step: Step, state: State, index: int) -> None:
        labels = self._combined(step, _sifted(step, self._operands(step, state)), state)
        if index in self.by_choice and (step.sets or (self.asks and not self._restores(step, state))):
            labels |= {IMPLIED}
        if FACT in labels and (step.flow == BRANCH or (step.flow == JUMP and step.target is None)):
            self.effects.tests.add(index)
            if step.if_zero is not None and any(isinstance(label, Bits) for label in labels):
                self._lead_without(index, step.target if step.if_zero else step.following)
        if step.flow == CALL or (step.flow == JUMP and self._leaves(step)):
            self._call(step, state, labels)
        else:
            self._write(step, state, labels, index)
        if step.returns:
            known = ((register, state.get(register, _NOTHING)) for register in self.convention.answers)
            self.effects.returned.update(register for register, held in known if FACT in held and _tells(held))
            self._hand_on({register: state.get(register, _NOTHING) for register in self.convention.results})

    def _lead_without(self, index: int, address: int | None) -> None:
        """Note where a test of bits leads if they are zero."""
        blocks = self.blocks.blocks
        ways = [successor for successor in blocks[index].successors if blocks[successor].start == address]
        self.effects.absent.update((index, way) for way in ways)

    def _hand_on(self, results: Mapping[int, frozenset[Label]]) -> None:
        """Note what results are made of."""
        for register, labels in results.items():
            self.effects.words.update(label.address for label in labels if isinstance(label, Word))
            self.effects.made.setdefault(register, set()).update(label for label in labels if isinstance(label, Passed))

    def _operands(self, step: Step, state: State) -> frozenset[Label]:
        """Return the labels of what a step reads."""
        labels = _NOTHING.union(*[state.get(register, _NOTHING) for register in step.reads])
        for memory in step.memory:
            if memory.read:
                labels |= self._load(memory, state)
        for label in labels:
            if isinstance(label, Result):
                self._heed(label.function)
        return labels

    def _combined(self, step: Step, labels: frozenset[Label], state: State) -> frozenset[Label]:
        """Return the labels of what a step makes of those of its operands."""
        if step.probes and self._answers(step):
            self.effects.asks = self.effects.probes = True
            self.effects.sources.add(self.convention.asking)
            return _ONLY_FACT
        if step.chooses and FACT in (labels if step.partial else state.get(FLAGS, _NOTHING)):
            kept = [state.get(register, _NOTHING) for register in step.writes] if step.partial else []
            either = labels.union(*kept)
            self.effects.chosen.add(frozenset(label for label in either if isinstance(label, int)))
        if step.offset:
            labels = frozenset(_moved(label, step.offset) for label in labels)
        if step.constant is not None and self._matters(step.constant):
            labels |= {step.constant}
        if step.counts and labels & _FACTS:
            labels |= {COUNT}
        is_zero = step.number == 0 or (step.reads and self._zeros.issuperset(step.reads))
        return labels | {ZERO} if is_zero else labels

    def _matters(self, address: int) -> bool:
        """Tell whether an address may be that of a function, or of what holds facts."""
        if self.convention.pages:
            return True
        section = self.code.image.section_at(address)
        return section.writable or section.executable if section else address in self.code.image.externals

    def _write(self, step: Step, state: State, labels: frozenset[Label], index: int) -> None:
        (self._zeros.update if ZERO in labels else self._zeros.difference_update)(step.writes)
        lasting = labels - {ZERO}
        for register in step.writes:
            self._numbers.pop(register, None)
            if step.number is not None and not step.partial:
                self._numbers[register] = step.number
            if register == self.convention.stack:
                state[register] = frozenset(_moved(label, step.pushed) for label in state.get(register, _NOTHING))
                continue
            kept = _flagged(lasting, self._telling) if register == FLAGS else lasting
            kept |= state.get(register, _NOTHING) if step.partial and register != FLAGS else _NOTHING
            _put(state, register, kept)
        if step.probes:
            told = self._answers(step)
            for register in step.writes:
                _put(state, register, frozenset([FACT, Bits(told[register])]) if register in told else _NOTHING)
        for memory in step.memory:
            if memory.written:
                self._store(memory, state, labels, index)

    def _answers(self, step: Step) -> Mapping[int, int]:
        """Return the registers in which an instruction tells of features, and in which of their bits."""
        if step.address not in self._told:
            leaf, results = self.convention.leaf, self.convention.results
            asked = self.blocks.numbers(step.address, leaf, results) if leaf in step.reads else {None}
            told: dict[int, int] = dict.fromkeys(step.writes, _EVERY_BIT) if None in asked else {}
            for number in asked - {None}:
                for register, bits in self.convention.told_by.get(number or 0, {}).items():
                    told[register] = told.get(register, 0) | bits
            self._told[step.address] = told
        return self._told[step.address]

    def _places(self, memory: Memory, state: State) -> Iterator[Label]:
        """Yield the addresses and slots that an operand may be at, and the marks of what points there."""
        if not memory.base:
            yield memory.displacement
        for label in state.get(memory.base, _NOTHING):
            yield _moved(label, memory.displacement)

    def _load(self, memory: Memory, state: State) -> frozenset[Label]:
        found: set[Label] = set()
        for place in self._places(memory, state):
            if isinstance(place, Slot):
                found |= state.get(place, _NOTHING) if not memory.scaled else _NOTHING
            elif isinstance(place, int):
                found |= self._at(place, memory, state)
            elif place is POINTS:
                found.add(FACT)
            elif isinstance(place, Passed):
                found.add(Passed(place.register, behind=True))
        return frozenset(found)

    def _at(self, address: int, memory: Memory, state: State) -> set[Label]:
        """Return the labels of what is read at an address, or in the object there."""
        if memory.scaled:
            low, high = self.facts.extent(address)
            by_fact = FACT in state.get(memory.scaled, _NOTHING)
            if by_fact:
                self.effects.chosen.add(frozenset([address]))
            holds = self.facts.at(low, high - low, resolving=self.resolving)
        else:
            low, holds, by_fact = address, self.facts.at(address, memory.size, resolving=self.resolving), False
        found: set[Label] = {FACT} if holds or by_fact else set()
        pointed = self.code.image.pointers.get(address)
        if self.telling and self.facts.holds(address, resolving=True):
            found.add(Word(address))
        if holds:
            self.effects.sources.add(self.code.describe(low))
        if pointed is not None and self.facts.holds(pointed, resolving=self.resolving):
            self.effects.sources.add(self.code.describe(pointed))
            found.add(POINTS)
        elif pointed is not None:
            found.add(pointed)
        return found

    def _store(self, memory: Memory, state: State, labels: frozenset[Label], index: int) -> None:
        places, facts = list(self._places(memory, state)), _tells(labels)
        for place in places:
            if isinstance(place, Slot):
                _put(state, place, labels - {ZERO})
                self.effects.fills |= facts and place.depth >= self.convention.word
            elif isinstance(place, int):
                self._remember(place, memory, labels, index)
        if facts and not any(isinstance(place, int | Slot) for place in places):
            self.effects.fills = True

    def _remember(self, address: int, memory: Memory, labels: frozenset[Label], index: int) -> None:
        low, high = self.facts.extent(address) if memory.scaled else (address, address + max(memory.size, 1))
        section = self.code.image.section_at(low)
        if section and section.writable:
            self._keep(range(low, high), labels, index)

    def _keep(self, places: range, labels: frozenset[Label], index: int) -> None:
        """Note which bytes such a value is stored in."""
        if _tells(labels) and (COUNT not in labels or self.asks):
            (self.effects.stored if FACT in labels else self.effects.implied).update(places)
            self.effects.mixed.update(self.facts.begun(places))
        elif ZERO not in labels:
            self.effects.others.add((index, places))

    def _restores(self, step: Step, state: State) -> bool:
        """Tell whether a step takes from the stack what was put there before."""
        read = [memory for memory in step.memory if memory.read]
        return any(isinstance(place, Slot) for memory in read for place in self._places(memory, state))

    # --- calls

    def _leaves(self, step: Step) -> bool:
        return step.target is not None and not self.function.start <= step.target < self.function.end

    def _callee(self, step: Step, state: State, labels: frozenset[Label]) -> int | None:
        if step.target is not None:
            return self.code.resolve(step.target)
        known = [label for label in labels if isinstance(label, int)]
        return known[0] if len(known) == 1 else None

    def _call(self, step: Step, state: State, labels: frozenset[Label]) -> None:
        callee = self._callee(step, state, labels)
        first = self._numbers.get(self.convention.arguments[0])
        returned, fills = self.facts.answer(callee, first) if callee is not None else ({}, False)
        if callee is not None and (fills or POINTS in returned.values()):
            self._heed(callee)
        made = self._made_of(callee, state) if callee is not None and self.convention.told else {}
        passed = [label for register in self.convention.arguments for label in state.get(register, _NOTHING)]
        if fills:
            passed += [_moved(label, 0) for label in state.get(self.convention.stack, _NOTHING)]
            self._filled(passed, state)
        if step.flow == JUMP:
            self.effects.returned |= returned.keys() | {register for register, labels in made.items() if FACT in labels}
            self._hand_on(made)
            return
        for register in self.convention.lost:
            state.pop(register, None)
            self._numbers.pop(register, None)
        if callee is not None:
            state.update({register: labels | {Result(callee)} for register, labels in made.items() if labels})
            state.update({register: frozenset([label, Result(callee)]) for register, label in returned.items()})

    def _made_of(self, callee: int, state: State) -> dict[int, frozenset[Label]]:
        """Return the labels of results that a function makes of the arguments that it is given here."""
        given = {register: state.get(register, _NOTHING) & _POINTERS for register in self.convention.arguments}
        if not self.passing and not any(given.values()):
            return {}
        found: dict[int, frozenset[Label]] = {}
        for register, sources in self.facts.made(callee).items():
            labels = [_through(source, state.get(source.register, _NOTHING)) for source in sources]
            found[register] = _NOTHING.union(*labels)
        return found

    def _heed(self, callee: int) -> None:
        """Note that what a function answered is made use of; some only leave answers behind in registers."""
        self.effects.sources.add(self.code.describe(callee))
        self.effects.distance = max(self.effects.distance, self.facts.distance(callee) + 1)
        self.effects.asks |= self.facts.asks(callee)
        self.effects.probes |= self.convention.told and callee in self.facts.asked

    def _filled(self, passed: Iterable[Label], state: State) -> None:
        """Note that a function stored facts where these point."""
        for label in passed:
            if isinstance(label, Slot):
                state.update({Slot(label.depth + at): _ONLY_FACT for at in range(0, _UNSIZED, 4)})
            elif isinstance(label, int):
                low, high = self.facts.extent(label)
                section = self.code.image.section_at(low)
                if section and section.writable:
                    self.effects.stored.update(range(low, high))
                    self.effects.mixed.update(self.facts.begun(range(low, high)))


def _through(source: Passed, labels: frozenset[Label]) -> frozenset[Label]:
    """Return the labels of what is made of an argument with those labels."""
    found: set[Label] = {label for label in labels if isinstance(label, Passed) and not source.behind}
    found.update(Passed(label.register, behind=True) for label in labels if isinstance(label, Passed) and source.behind)
    if (POINTS if source.behind else FACT) in labels:
        found.add(FACT)
    return frozenset(found)


def _sifted(step: Step, labels: frozenset[Label]) -> frozenset[Label]:
    """Return the labels of a step's operands less what it takes no account of: bits that tell of no feature."""
    bits = [label for label in labels if isinstance(label, Bits)]
    if not bits or step.copies or (step.flow == BRANCH and not step.mask):
        return labels
    left = {Bits(label.told & step.mask) for label in bits} if step.mask else set()
    if step.mask and not any(label.told for label in left):
        return labels - _FACTS - set(bits)
    return labels - set(bits) | left


def _flagged(labels: frozenset[Label], telling: frozenset[Label]) -> frozenset[Label]:
    """Return what of the labels of a value the flags hand on."""
    return frozenset(label for label in labels if label in telling or isinstance(label, Bits))


def _tells(labels: frozenset[Label]) -> bool:
    """Tell whether a value says something of the CPU: not an address that a fact chose."""
    return not labels.isdisjoint(_FACTS) and not any(isinstance(label, int) for label in labels)


def _moved(label: Label, offset: int) -> Label:
    """Return the label of a pointer that is moved by some bytes."""
    if isinstance(label, Slot):
        return Slot(label.depth + offset)
    return label + offset if isinstance(label, int) else label


def _put(state: State, place: object, labels: frozenset[Label]) -> None:
    """Note what is known of a place; nothing takes no space."""
    if labels:
        state[place] = labels
    else:
        state.pop(place, None)


def _merge(known: State, more: Mapping[object, frozenset[Label]]) -> bool:
    """Add what is known on another path that leads to the same place; tell whether that is anything new."""
    changed = False
    for key, labels in more.items():
        old = known.get(key, _NOTHING)
        if labels is old or labels <= old:
            continue
        both = _limited(old | labels)
        if both != old:
            known[key] = both
            changed = True
    return changed


def _limited(labels: frozenset[Label]) -> frozenset[Label]:
    """Return labels with :data:`MANY` in place of too many pointers."""
    slots = sum(isinstance(label, Slot) for label in labels)
    if MANY in labels or slots > _MANY_SLOTS or len(labels) > _MANY:
        return labels & _FACTS | {MANY}
    return labels


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
