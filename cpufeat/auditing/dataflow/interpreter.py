"""Abstract interpretation of one function: propagate facts about the CPU to the branches that depend on them."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from cpufeat.auditing.dataflow.calls import CallModel
from cpufeat.auditing.dataflow.def_use import reaching_numbers
from cpufeat.auditing.dataflow.effects import Effects
from cpufeat.auditing.dataflow.frame import Frame
from cpufeat.auditing.dataflow.lattice import (
    ALL_BITS,
    FACT,
    FACT_POINTER,
    FACTS,
    IMPLIED,
    NO_LABELS,
    ONLY_FACT,
    SUM,
    ZERO,
    Argument,
    CallResult,
    FeatureBits,
    StackSlot,
    add_offset,
    assign,
    for_flags,
    is_fact,
    join_into,
    mask_feature_bits,
)
from cpufeat.auditing.dataflow.memory import MemoryModel
from cpufeat.auditing.dataflow.reachability import ReachabilityGame
from cpufeat.auditing.lifting.semantics import BRANCH, CALL, FLAGS, JUMP
from cpufeat.auditing.program.cfg import ControlFlowGraph
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cpufeat.auditing.dataflow.facts import Facts
    from cpufeat.auditing.dataflow.lattice import Labels, State
    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Step
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.references import References

_MAX_ROUNDS = 4
"""How often a function is interpreted again with the conditional blocks that the round before has shown."""
_MAX_DEPTH = 3
"""Functions that hand an argument on to one another and make something from it."""


class Interpretation(NamedTuple):
    """What interpreting a function shows."""

    cfg: ControlFlowGraph
    effects: Effects


class Interpreter:
    """Interprets the functions of a program, by the facts that are known so far."""

    def __init__(self, program: Program, references: References, facts: Facts) -> None:
        """Interpret functions of a program; what they show is not added to the facts here."""
        self._program, self._references, self._facts = program, references, facts
        self._argument_flows: dict[tuple[int, int], Mapping[int, Collection[Argument]]] = {}
        """By function, and through how many more it was looked."""
        self._depth = 0

    def interpret(
        self, function: Function, *, wants_words: bool = False, wants_argument_flow: bool = False
    ) -> Interpretation:
        """Interpret a function until it is known which of its blocks are conditional. Raises BudgetExceededError."""
        steps = self._program.steps(function)
        entries = self._references.entries(function)
        cfg = ControlFlowGraph(steps, entries, self._references.switch_targets(function))
        frame = Frame(
            program=self._program,
            facts=self._facts,
            function=function,
            cfg=cfg,
            convention=self._program.convention,
            argument_flow=self.argument_flow,
            wants_words=wants_words,
            wants_argument_flow=wants_argument_flow,
            resolving=self._program.is_resolver(function.start),
            conditional=set(),
            asks=False,
            effects=Effects(),
        )
        probed_bits: dict[int, Mapping[int, int]] = {}
        for _ in range(_MAX_ROUNDS):
            frame = frame._replace(effects=Effects())
            _fixpoint(frame, entries, _Transfer(frame, probed_bits))
            previous = frame.conditional
            frame = frame._replace(conditional=_conditional_blocks(frame), asks=frame.effects.asks)
            if frame.conditional == previous:
                break
        if not frame.asks:
            written = (places for block, places in frame.effects.overwritten if block not in frame.conditional)
            frame.effects.mixed.update(byte for places in written for byte in places)
        return Interpretation(cfg, frame.effects)

    def argument_flow(self, callee: int) -> Mapping[int, Collection[Argument]]:
        """Return from which of its arguments a function makes its results, by their registers."""
        if self._depth == _MAX_DEPTH or self._facts.queries.at(callee) is not None:
            return {}
        known = self._argument_flows.get((callee, self._depth))
        function = self._program.function_at(callee) if known is None else None
        if function and function.start == callee and self._program.steps(function):
            self._depth += 1
            known = self.interpret(function, wants_argument_flow=True).effects.argument_flow
            self._depth -= 1
        return self._argument_flows.setdefault((callee, self._depth), known or {})


def _conditional_blocks(frame: Frame) -> set[int]:
    """Return the blocks that some outcome of the tests avoids."""
    game = ReachabilityGame(frame.cfg, frame.effects.tests, frame.function.start)
    return {index for index in range(len(frame.cfg.blocks)) if not game.is_unavoidable(index)}


def _fixpoint(frame: Frame, entry_addresses: Iterable[int], transfer: _Transfer) -> None:
    """Interpret the blocks of a function until the states at their starts no longer change."""
    blocks, ranks = frame.cfg.blocks, frame.cfg.reverse_postorder
    states: list[State | None] = [None] * len(blocks)
    entries = {frame.cfg.block_at(address) for address in entry_addresses} | {0, *frame.cfg.orphans}
    for entry in entries:
        states[entry] = transfer.initial_state()
    waiting, queued = sorted((ranks[entry], entry) for entry in entries), set(entries)
    while waiting:
        _, index = heappop(waiting)  # in reverse postorder: fewer blocks are interpreted twice
        queued.discard(index)
        state = dict(states[index] or {})
        frame.facts.spend(len(blocks[index].steps))
        transfer.block(index, state)
        for successor in blocks[index].successors:
            known = states[successor]
            if known is None:
                states[successor] = dict(state)
            elif not join_into(known, state):
                continue
            if successor not in queued:
                queued.add(successor)
                heappush(waiting, (ranks[successor], successor))


class _Transfer:
    """The transfer function: what a step makes of a state."""

    def __init__(self, frame: Frame, probed_bits: dict[int, Mapping[int, int]]) -> None:
        self.frame, self.convention, self.effects = frame, frame.convention, frame.effects
        self.memory = MemoryModel(frame)
        self.calls = CallModel(frame, self.memory)
        arguments = [Argument(register, way) for register in self.convention.arguments for way in (False, True)]
        self.kept_by_flags: Labels = FACTS.union(arguments) if frame.wants_argument_flow else FACTS
        self.zeros: set[int] = set()
        """The registers that are zero for sure, within a block."""
        self.numbers: dict[int, int] = {}
        """What registers hold for sure, within a block."""
        self.probed_bits = probed_bits
        """By the address of an instruction that asks the CPU, the bits of features in each register that it writes."""

    def initial_state(self) -> State:
        """Return the state where the function is entered."""
        state: State = {self.convention.stack: frozenset([StackSlot(0)])}
        if self.frame.wants_argument_flow:
            arguments = {register: Argument(register, dereferenced=False) for register in self.convention.arguments}
            state.update({register: frozenset([argument]) for register, argument in arguments.items()})
        elif self.convention.resolvers and self.frame.resolving:
            state.update(dict.fromkeys(self.convention.resolvers, frozenset([FACT, FACT_POINTER])))
            self.effects.sources.add("the loader's argument")
        return state

    def block(self, index: int, state: State) -> None:
        """Change a state as the steps of a block do."""
        self.zeros.clear()
        self.numbers.clear()
        for step in self.frame.cfg.blocks[index].steps:
            self._step(step, state, index)

    def _step(self, step: Step, state: State, index: int) -> None:
        labels = self._result(step, mask_feature_bits(step, self._operands(step, state)), state)
        if index in self.frame.conditional and (
            step.sets or (self.frame.asks and not self.memory.restores(step, state))
        ):
            labels |= {IMPLIED}
        if FACT in labels and (step.flow == BRANCH or (step.flow == JUMP and step.target is None)):
            self._test(step, labels, index)
        if step.flow == CALL or (step.flow == JUMP and self.frame.leaves(step)):
            self._call(step, state, labels)
        else:
            self._write(step, state, labels, index)
        if step.returns:
            answers = ((register, state.get(register, NO_LABELS)) for register in self.convention.answers)
            self.effects.returned.update(register for register, held in answers if FACT in held and is_fact(held))
            self.calls.hand_on({register: state.get(register, NO_LABELS) for register in self.convention.results})

    def _operands(self, step: Step, state: State) -> Labels:
        """Return the labels of what a step reads."""
        labels = NO_LABELS.union(*[state.get(register, NO_LABELS) for register in step.reads])
        for memory in step.memory:
            if memory.read:
                labels |= self.memory.load(memory, state)
        for label in labels:
            if isinstance(label, CallResult):
                self.calls.use_result(label.function)
        return labels

    def _result(self, step: Step, labels: Labels, state: State) -> Labels:
        """Return the labels of what a step makes from operands with those labels."""
        if step.probes and self._feature_bits(step):
            self.effects.asks = self.effects.probes = True
            self.effects.sources.add(self.convention.asking)
            return ONLY_FACT
        if step.chooses and FACT in (labels if step.partial else state.get(FLAGS, NO_LABELS)):
            kept = [state.get(register, NO_LABELS) for register in step.writes] if step.partial else []
            either = labels.union(*kept)
            self.effects.selected.add(frozenset(label for label in either if isinstance(label, int)))
        if step.offset:
            labels = frozenset(add_offset(label, step.offset) for label in labels)
        if step.constant is not None and self._may_matter(step.constant):
            labels |= {step.constant}
        if step.counts and labels & FACTS:
            labels |= {SUM}
        is_zero = step.number == 0 or (step.reads and self.zeros.issuperset(step.reads))
        return labels | {ZERO} if is_zero else labels

    def _may_matter(self, address: int) -> bool:
        """Tell whether an address may be that of a function, or of data that holds facts."""
        if self.convention.pages:
            return True
        section = self.frame.program.image.section_at(address)
        return section.writable or section.executable if section else address in self.frame.program.image.externals

    def _test(self, step: Step, labels: Labels, index: int) -> None:
        """Note a branch on a fact, and where a test of bits of features leads if they are zero."""
        self.effects.tests.add(index)
        if step.if_zero is None or not any(isinstance(label, FeatureBits) for label in labels):
            return
        blocks, address = self.frame.cfg.blocks, step.target if step.if_zero else step.following
        for successor in blocks[index].successors:
            if blocks[successor].start == address:
                self.effects.absent[index] = successor

    def _call(self, step: Step, state: State, labels: Labels) -> None:
        self.calls.call(step, state, labels, self.numbers.get(self.convention.arguments[0]))
        if step.flow == CALL:
            for register in self.convention.lost.intersection(self.numbers):
                del self.numbers[register]

    def _write(self, step: Step, state: State, labels: Labels, index: int) -> None:
        (self.zeros.update if ZERO in labels else self.zeros.difference_update)(step.writes)
        lasting = labels - {ZERO}
        for register in step.writes:
            self.numbers.pop(register, None)
            if step.number is not None and not step.partial:
                self.numbers[register] = step.number
            if register == self.convention.stack:
                moved = (add_offset(label, step.pushed) for label in state.get(register, NO_LABELS))
                state[register] = frozenset(moved)
                continue
            written = for_flags(lasting, self.kept_by_flags) if register == FLAGS else lasting
            if step.partial and register != FLAGS:
                written |= state.get(register, NO_LABELS)
            assign(state, register, written)
        if step.probes:
            bits = self._feature_bits(step)
            for register in step.writes:
                answer = frozenset([FACT, FeatureBits(bits[register])]) if register in bits else NO_LABELS
                assign(state, register, answer)
        for memory in step.memory:
            if memory.written:
                self.memory.store(memory, state, labels, index)

    def _feature_bits(self, step: Step) -> Mapping[int, int]:
        """Return the bits of features in each register that an instruction which asks the CPU writes.

        CPUID tells of features in some registers of some leaves only; if the leaf is not known, all bits count.
        """
        if step.address not in self.probed_bits:
            leaf, results = self.convention.leaf, self.convention.results
            leaves = reaching_numbers(self.frame.cfg, step.address, leaf, results) if leaf in step.reads else {None}
            bits: dict[int, int] = dict.fromkeys(step.writes, ALL_BITS) if None in leaves else {}
            for number in leaves - {None}:
                for register, mask in self.convention.feature_bits.get(number or 0, {}).items():
                    bits[register] = bits.get(register, 0) | mask
            self.probed_bits[step.address] = bits
        return self.probed_bits[step.address]
