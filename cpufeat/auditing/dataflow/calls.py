"""Apply a call to the interpreter's state: what the callee returns, stores, or computes from its arguments."""

from __future__ import annotations

from cpufeat.auditing.dataflow.lattice import (
    FACT,
    FACT_POINTER,
    FACTS_AND_POINTERS,
    NO_LABELS,
    Argument,
    CallResult,
    ExternalWord,
    substitute,
)
from cpufeat.auditing.lifting.semantics import JUMP
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.auditing.dataflow.frame import Frame
    from cpufeat.auditing.dataflow.lattice import Labels, State
    from cpufeat.auditing.dataflow.memory import MemoryModel
    from cpufeat.auditing.lifting.semantics import Step


class CallModel:
    """The calls and tail calls of one function."""

    def __init__(self, frame: Frame, memory: MemoryModel) -> None:
        """Record the effects of calls in the effects of a frame."""
        self._frame, self._memory = frame, memory
        self._program, self._facts = frame.program, frame.facts
        self._convention, self._effects = frame.convention, frame.effects

    def call(self, step: Step, state: State, labels: Labels, number: int | None) -> None:
        """Call a function: ``labels`` are those of the operands of the step, ``number`` the first argument if known."""
        callee = self._callee(step, labels)
        returned, fills = self._facts.of_call(callee, number) if callee is not None else ({}, False)
        if callee is not None and (fills or FACT_POINTER in returned.values()):
            self.use_result(callee)
        computed = self._computed(callee, state) if callee is not None and self._convention.asks_system else {}
        if fills:
            self._memory.fill([label for place in self._passed for label in state.get(place, NO_LABELS)], state)
        if step.flow == JUMP:
            facts = {register for register, values in computed.items() if FACT in values}
            self._effects.returned |= returned.keys() | facts
            self.hand_on(computed)
            return
        for register in self._convention.lost.intersection(state):
            del state[register]
        if callee is not None:
            result = CallResult(callee)
            state.update({register: values | {result} for register, values in computed.items() if values})
            state.update({register: frozenset([label, result]) for register, label in returned.items()})

    @property
    def _passed(self) -> tuple[int, ...]:
        """The registers of arguments, and the stack pointer, near which further ones lie."""
        return (*self._convention.arguments, self._convention.stack)

    def _callee(self, step: Step, labels: Labels) -> int | None:
        """Return the function that a step calls, None if that is not known."""
        if step.target is not None:
            return self._program.resolve(step.target)
        addresses = [label for label in labels if isinstance(label, int)]
        return addresses[0] if len(addresses) == 1 else None

    def _computed(self, callee: int, state: State) -> dict[int, Labels]:
        """Return the labels of the results that a function makes from the arguments that it is passed here."""
        passed = {
            register: state.get(register, NO_LABELS) & FACTS_AND_POINTERS for register in self._convention.arguments
        }
        if not self._frame.wants_argument_flow and not any(passed.values()):
            return {}
        computed: dict[int, Labels] = {}
        for register, arguments in self._frame.argument_flow(callee).items():
            labels = [substitute(argument, state.get(argument.register, NO_LABELS)) for argument in arguments]
            computed[register] = NO_LABELS.union(*labels)
        return computed

    def hand_on(self, results: Mapping[int, Labels]) -> None:
        """Note what the results of the function, by register, are made from."""
        for register, labels in results.items():
            self._effects.returned_words.update(label.address for label in labels if isinstance(label, ExternalWord))
            flow = self._effects.argument_flow.setdefault(register, set())
            flow.update(label for label in labels if isinstance(label, Argument))

    def use_result(self, callee: int) -> None:
        """Note that what a function answered is used; some only leave answers behind in registers."""
        self._effects.sources.add(self._program.symbols.describe(callee))
        self._effects.distance = max(self._effects.distance, self._facts.distance(callee) + 1)
        self._effects.asks |= self._facts.asks(callee)
        self._effects.probes |= self._convention.asks_system and self._facts.queries.at(callee) is not None
