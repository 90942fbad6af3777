"""Interpret one function abstractly: propagate labels through its blocks, and find its branches on facts."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

from cpufeat.auditing.dataflow.effects import Effects
from cpufeat.auditing.dataflow.frame import Frame
from cpufeat.auditing.dataflow.lattice import join_into
from cpufeat.auditing.dataflow.transfer import Transfer
from cpufeat.auditing.dataflow.unavoidable_blocks import ReachabilityGame
from cpufeat.auditing.program.cfg import ControlFlowGraph
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cpufeat.auditing.dataflow.facts import Facts
    from cpufeat.auditing.dataflow.lattice import Argument, State
    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.references import References

_MAX_ROUNDS = 4
"""The most interpretations of a function, each with the conditional blocks that the one before has shown."""
_MAX_DEPTH = 3
"""Functions that hand an argument on to one another and make something from it."""


class Interpretation(NamedTuple):
    """The result of interpreting a function."""

    cfg: ControlFlowGraph
    effects: Effects


class Interpreter:
    """Interprets the functions of a program, by the facts that are known so far."""

    def __init__(self, program: Program, references: References, facts: Facts) -> None:
        """Interpret functions of a program; their effects are not added to the facts here."""
        self._program, self._references, self._facts = program, references, facts
        self._argument_flows: dict[tuple[int, int], Mapping[int, Collection[Argument]]] = {}
        """The argument flows, by function and by the number of further functions that were looked through."""
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
        own_stores: set[int] = set()
        for _ in range(_MAX_ROUNDS):
            frame = frame._replace(effects=Effects())
            known_stores = len(own_stores)
            _fixpoint(frame, entries, Transfer(frame, probed_bits, own_stores))
            previous = frame.conditional
            frame = frame._replace(conditional=_conditional_blocks(frame), asks=frame.effects.asks)
            if frame.conditional == previous and len(own_stores) == known_stores:
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


def _fixpoint(frame: Frame, entry_addresses: Iterable[int], transfer: Transfer) -> None:
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
        frame.facts.spend(len(blocks[index].steps), len(state))
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
