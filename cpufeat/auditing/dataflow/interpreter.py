"""One function, followed: what its steps make of answers of the CPU, and which of its branches depend on them."""

from __future__ import annotations

from heapq import heappop, heappush

from cpufeat.auditing.dataflow.def_use import reaching_numbers
from cpufeat.auditing.dataflow.lattice import (
    COUNT,
    EVERY_BIT,
    FACT,
    FACTS,
    IMPLIED,
    NOTHING,
    ONLY_FACT,
    POINTERS,
    POINTS,
    ZERO,
    Bits,
    Label,
    Passed,
    Result,
    Slot,
    State,
    Word,
    flagged,
    merge,
    moved,
    put,
    sifted,
    tells,
    through,
)
from cpufeat.auditing.dataflow.reachability import ReachabilityGame
from cpufeat.auditing.lifting.semantics import BRANCH, CALL, FLAGS, JUMP
from cpufeat.auditing.program.cfg import ControlFlowGraph
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cpufeat.auditing.dataflow.cpu_checks import Facts
    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Memory, Step

UNSIZED = 64
"""Bytes that an object is taken to have where no symbol gives its size."""
ROUNDS = 4
"""How often what only runs by choice is worked out anew with what that made known."""


class TooMuchError(Exception):
    """There is more to follow than any program has."""


class Effects:
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


class Follower:
    """Follows the facts through one function."""

    def __init__(self, facts: Facts, function: Function, *, telling: bool = False, passing: bool = False) -> None:
        self.facts, self.program, self.function = facts, facts.program, function
        self.references = facts.references
        self.telling, self.passing = telling, passing
        self.convention = self.program.convention
        passed = [Passed(register, way) for register in self.convention.arguments for way in (False, True)]
        self._telling = FACTS.union(passed) if passing else FACTS
        """What a comparison hands on to the flags."""
        self.blocks = ControlFlowGraph(
            self.program.steps(function), self.references.entries(function), self.references.switch_targets(function)
        )
        self.effects = Effects()
        self.resolving = self.program.is_resolver(function.start)
        self.by_choice: set[int] = set()
        self._zeros: set[int] = set()
        """The registers that are zero for sure."""
        self._numbers: dict[int, int] = {}
        """What registers hold for sure."""
        self._told: dict[int, Mapping[int, int]] = {}
        """By the address of an instruction that asks."""
        self.asks = False
        """Whether the round before has shown that it asks."""

    def follow(self) -> Effects:
        """Return what following the function shows, as often as it takes. Raises TooMuchError."""
        for _ in range(ROUNDS):
            self.effects = Effects()
            self._run()
            known, self.asks = self.by_choice, self.effects.asks
            game = ReachabilityGame(self.blocks, self.effects.tests, self.function.start)
            self.by_choice = {index for index in range(len(self.blocks.blocks)) if not game.is_unavoidable(index)}
            if self.by_choice == known:
                break
        if not self.asks:
            written = ((index, places) for index, places in self.effects.others if index not in self.by_choice)
            self.effects.mixed.update(at for _, places in written for at in places)
        return self.effects

    def _run(self) -> None:
        states: list[State | None] = [None] * len(self.blocks.blocks)
        entries = {self.blocks.block_at(entry) for entry in self.references.entries(self.function)} | {
            0,
            *self.blocks.orphans,
        }
        for entry in entries:
            states[entry] = self._initial()
        order, blocks = self.blocks.reverse_postorder, self.blocks.blocks
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
                elif not merge(known, state):
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
        labels = self._combined(step, sifted(step, self._operands(step, state)), state)
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
            known = ((register, state.get(register, NOTHING)) for register in self.convention.answers)
            self.effects.returned.update(register for register, held in known if FACT in held and tells(held))
            self._hand_on({register: state.get(register, NOTHING) for register in self.convention.results})

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
        labels = NOTHING.union(*[state.get(register, NOTHING) for register in step.reads])
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
            return ONLY_FACT
        if step.chooses and FACT in (labels if step.partial else state.get(FLAGS, NOTHING)):
            kept = [state.get(register, NOTHING) for register in step.writes] if step.partial else []
            either = labels.union(*kept)
            self.effects.chosen.add(frozenset(label for label in either if isinstance(label, int)))
        if step.offset:
            labels = frozenset(moved(label, step.offset) for label in labels)
        if step.constant is not None and self._matters(step.constant):
            labels |= {step.constant}
        if step.counts and labels & FACTS:
            labels |= {COUNT}
        is_zero = step.number == 0 or (step.reads and self._zeros.issuperset(step.reads))
        return labels | {ZERO} if is_zero else labels

    def _matters(self, address: int) -> bool:
        """Tell whether an address may be that of a function, or of what holds facts."""
        if self.convention.pages:
            return True
        section = self.program.image.section_at(address)
        return section.writable or section.executable if section else address in self.program.image.externals

    def _write(self, step: Step, state: State, labels: frozenset[Label], index: int) -> None:
        (self._zeros.update if ZERO in labels else self._zeros.difference_update)(step.writes)
        lasting = labels - {ZERO}
        for register in step.writes:
            self._numbers.pop(register, None)
            if step.number is not None and not step.partial:
                self._numbers[register] = step.number
            if register == self.convention.stack:
                state[register] = frozenset(moved(label, step.pushed) for label in state.get(register, NOTHING))
                continue
            kept = flagged(lasting, self._telling) if register == FLAGS else lasting
            kept |= state.get(register, NOTHING) if step.partial and register != FLAGS else NOTHING
            put(state, register, kept)
        if step.probes:
            told = self._answers(step)
            for register in step.writes:
                put(state, register, frozenset([FACT, Bits(told[register])]) if register in told else NOTHING)
        for memory in step.memory:
            if memory.written:
                self._store(memory, state, labels, index)

    def _answers(self, step: Step) -> Mapping[int, int]:
        """Return the registers in which an instruction tells of features, and in which of their bits."""
        if step.address not in self._told:
            leaf, results = self.convention.leaf, self.convention.results
            asked = reaching_numbers(self.blocks, step.address, leaf, results) if leaf in step.reads else {None}
            told: dict[int, int] = dict.fromkeys(step.writes, EVERY_BIT) if None in asked else {}
            for number in asked - {None}:
                for register, bits in self.convention.told_by.get(number or 0, {}).items():
                    told[register] = told.get(register, 0) | bits
            self._told[step.address] = told
        return self._told[step.address]

    def _places(self, memory: Memory, state: State) -> Iterator[Label]:
        """Yield the addresses and slots that an operand may be at, and the marks of what points there."""
        if not memory.base:
            yield memory.displacement
        for label in state.get(memory.base, NOTHING):
            yield moved(label, memory.displacement)

    def _load(self, memory: Memory, state: State) -> frozenset[Label]:
        found: set[Label] = set()
        for place in self._places(memory, state):
            if isinstance(place, Slot):
                found |= state.get(place, NOTHING) if not memory.scaled else NOTHING
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
            by_fact = FACT in state.get(memory.scaled, NOTHING)
            if by_fact:
                self.effects.chosen.add(frozenset([address]))
            holds = self.facts.at(low, high - low, resolving=self.resolving)
        else:
            low, holds, by_fact = address, self.facts.at(address, memory.size, resolving=self.resolving), False
        found: set[Label] = {FACT} if holds or by_fact else set()
        pointed = self.program.image.pointers.get(address)
        if self.telling and self.facts.holds(address, resolving=True):
            found.add(Word(address))
        if holds:
            self.effects.sources.add(self.program.symbols.describe(low))
        if pointed is not None and self.facts.holds(pointed, resolving=self.resolving):
            self.effects.sources.add(self.program.symbols.describe(pointed))
            found.add(POINTS)
        elif pointed is not None:
            found.add(pointed)
        return found

    def _store(self, memory: Memory, state: State, labels: frozenset[Label], index: int) -> None:
        places, facts = list(self._places(memory, state)), tells(labels)
        for place in places:
            if isinstance(place, Slot):
                put(state, place, labels - {ZERO})
                self.effects.fills |= facts and place.depth >= self.convention.word
            elif isinstance(place, int):
                self._remember(place, memory, labels, index)
        if facts and not any(isinstance(place, int | Slot) for place in places):
            self.effects.fills = True

    def _remember(self, address: int, memory: Memory, labels: frozenset[Label], index: int) -> None:
        low, high = self.facts.extent(address) if memory.scaled else (address, address + max(memory.size, 1))
        section = self.program.image.section_at(low)
        if section and section.writable:
            self._keep(range(low, high), labels, index)

    def _keep(self, places: range, labels: frozenset[Label], index: int) -> None:
        """Note which bytes such a value is stored in."""
        if tells(labels) and (COUNT not in labels or self.asks):
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
            return self.program.resolve(step.target)
        known = [label for label in labels if isinstance(label, int)]
        return known[0] if len(known) == 1 else None

    def _call(self, step: Step, state: State, labels: frozenset[Label]) -> None:
        callee = self._callee(step, state, labels)
        first = self._numbers.get(self.convention.arguments[0])
        returned, fills = self.facts.answer(callee, first) if callee is not None else ({}, False)
        if callee is not None and (fills or POINTS in returned.values()):
            self._heed(callee)
        made = self._made_of(callee, state) if callee is not None and self.convention.told else {}
        passed = [label for register in self.convention.arguments for label in state.get(register, NOTHING)]
        if fills:
            passed += [moved(label, 0) for label in state.get(self.convention.stack, NOTHING)]
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
        given = {register: state.get(register, NOTHING) & POINTERS for register in self.convention.arguments}
        if not self.passing and not any(given.values()):
            return {}
        found: dict[int, frozenset[Label]] = {}
        for register, sources in self.facts.made(callee).items():
            labels = [through(source, state.get(source.register, NOTHING)) for source in sources]
            found[register] = NOTHING.union(*labels)
        return found

    def _heed(self, callee: int) -> None:
        """Note that what a function answered is made use of; some only leave answers behind in registers."""
        self.effects.sources.add(self.program.symbols.describe(callee))
        self.effects.distance = max(self.effects.distance, self.facts.distance(callee) + 1)
        self.effects.asks |= self.facts.asks(callee)
        self.effects.probes |= self.convention.told and callee in self.facts.asked

    def _filled(self, passed: Iterable[Label], state: State) -> None:
        """Note that a function stored facts where these point."""
        for label in passed:
            if isinstance(label, Slot):
                state.update({Slot(label.depth + at): ONLY_FACT for at in range(0, UNSIZED, 4)})
            elif isinstance(label, int):
                low, high = self.facts.extent(label)
                section = self.program.image.section_at(low)
                if section and section.writable:
                    self.effects.stored.update(range(low, high))
                    self.effects.mixed.update(self.facts.begun(range(low, high)))
