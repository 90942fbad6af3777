"""Interpret one step: compute the labels of registers and memory after it (the transfer function)."""

from __future__ import annotations

from cpufeat.auditing.dataflow.calls import CallModel
from cpufeat.auditing.dataflow.def_use import reaching_numbers
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
    mask_feature_bits,
)
from cpufeat.auditing.dataflow.memory import MemoryModel
from cpufeat.auditing.lifting.semantics import BRANCH, CALL, FLAGS, JUMP
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.auditing.dataflow.effects import Effects
    from cpufeat.auditing.dataflow.frame import Frame
    from cpufeat.auditing.dataflow.lattice import Labels, State
    from cpufeat.auditing.lifting.semantics import Convention, Step


class Transfer:
    """The transfer function of one frame: changes a state as steps do, and notes their effects."""

    def __init__(self, frame: Frame, probed_bits: dict[int, Mapping[int, int]], own_stores: set[int]) -> None:
        """Begin a round; ``probed_bits`` and ``own_stores`` are kept from one round over a function to the next."""
        self.frame: Frame = frame
        self.convention: Convention = frame.convention
        self.effects: Effects = frame.effects
        self.memory: MemoryModel = MemoryModel(frame, own_stores)
        self.calls: CallModel = CallModel(frame, self.memory)
        arguments = [Argument(register, way) for register in self.convention.arguments for way in (False, True)]
        self.kept_by_flags: Labels = FACTS.union(arguments) if frame.wants_argument_flow else FACTS
        self.zeros: set[int] = set()
        """The registers that are zero for sure, within a block."""
        self.numbers: dict[int, int] = {}
        """The numbers that registers certainly hold, within a block."""
        self.probed_bits = probed_bits
        """The bits of features in each register that an instruction which asks the CPU writes, by its address."""

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
            self.effects.returned.update(register for register, result in answers if FACT in result and is_fact(result))
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
            previous = [state.get(register, NO_LABELS) for register in step.writes] if step.partial else []
            joined = labels.union(*previous)
            self.effects.selected.add(frozenset(label for label in joined if isinstance(label, int)))
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
