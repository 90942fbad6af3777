"""Follow one register: the constants that reach it at a step, and the first uses of an address that was put into it."""

from __future__ import annotations

from cpufeat.auditing.lifting.semantics import BRANCH, CALL, JUMP, NEXT, STOP
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cpufeat.auditing.dataflow.unavoidable_blocks import Place
    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Convention, Step
    from cpufeat.auditing.program.cfg import ControlFlowGraph
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.xrefs import Reference

    Registers = frozenset[int]

_MAX_STEPS = 1000
"""Steps after a call, on all paths together: what is not settled by then counts as read."""


def reaching_numbers(cfg: ControlFlowGraph, address: int, register: int, results: Collection[int]) -> set[int | None]:
    """Return the numbers that a register may hold before the step at an address, by the definitions that reach it.

    None stands for a definition that is no number in the code, and for what the register holds at the function's start.
    ``results`` are the registers in which calls return: code that reads another one after a call relies on it being
    preserved.
    """
    numbers: set[int | None] = set()
    waiting = [(*place, register)] if (place := cfg.step_at(address)) else []
    visited = set(waiting)
    while waiting:
        index, before, register = waiting.pop()
        steps = cfg.blocks[index].steps
        definition = next((at for at in range(before - 1, -1, -1) if _defines(steps[at], register, results)), None)
        if definition is None:
            points = [(block, len(cfg.blocks[block].steps), register) for block in cfg.predecessors(index)]
            numbers |= {None} if index == 0 or not points else set()
        elif _copies_register(steps[definition]):
            points = [(index, definition, steps[definition].reads[0])]
        else:
            step, points = steps[definition], []
            numbers.add(None if step.partial else step.number)
        waiting += [point for point in points if point not in visited]
        visited.update(points)
    return numbers


def _defines(step: Step, register: int, results: Collection[int]) -> bool:
    return register in step.writes or (step.flow == CALL and register in results)


def _copies_register(step: Step) -> bool:
    """Tell whether a step only copies one register to another."""
    return step.copies and not step.partial and not step.memory and len(step.reads) == len(step.writes) == 1


class FirstUses:
    """The first uses of the addresses that steps put into registers (liveness).

    Compilers load what a branch may choose before they test: ``lea rax, fast; test ...; jne done; lea rax, slow``.
    Behind a test the address counts as taken only on the paths on which the register is live.
    """

    def __init__(self, cfg: ControlFlowGraph, tests: Collection[int], convention: Convention) -> None:
        """Look at a function, whose blocks ``tests`` end in a test."""
        self._cfg, self._tests, self._convention = cfg, tests, convention

    def places(self, address: int, target: int) -> set[Place]:
        """Return the places at which a step leads to a target, or the target's address that it loads is used.

        Empty if it is never used, or if no step begins at that address.
        """
        position = self._cfg.step_at(address)
        if position is None:
            return set()
        index, number = position
        step = self._cfg.blocks[index].steps[number]
        if step.flow != NEXT:
            way_out = self._cfg.exit(target) if step.flow == BRANCH else None
            return {index if way_out is None else way_out}
        return self._first_uses(index, number + 1, step.writes[0]) if len(step.writes) == 1 else {index}

    def _first_uses(self, index: int, number: int, register: int) -> set[Place]:
        """Return the first uses of a register's value, from a step of a block on: a block, or edges behind a test.

        Where paths meet the search ends: the value counts as used in that block.
        """
        while True:
            block = self._cfg.blocks[index]
            use = self._first_access(block.steps[number:], register)
            if use is not None:
                return {index} if use else set()
            if index in self._tests:
                return {(index, successor) for successor in block.successors if self._is_live(successor, register)}
            if len(block.successors) != 1 or len(self._cfg.predecessors(block.successors[0])) != 1:
                return {index}
            index, number = block.successors[0], 0

    def _is_live(self, index: int, register: int) -> bool:
        """Tell whether a register's value may be used from the start of a block on."""
        visited, waiting = {index}, [index]
        while waiting:
            block = self._cfg.blocks[waiting.pop()]
            use = self._first_access(block.steps, register) if block.steps else register in self._convention.arguments
            if use:
                return True
            if use is None:
                waiting += [successor for successor in block.successors if successor not in visited]
                visited.update(block.successors)
        return False

    def _first_access(self, steps: Iterable[Step], register: int) -> bool | None:
        """Tell whether steps use the value of a register (True) or replace it first (False); None for neither."""
        for step in steps:
            if register in step.reads or any(register in (memory.base, memory.scaled) for memory in step.memory):
                return True
            if step.returns:
                return register in self._convention.results
            if step.flow == CALL or (step.flow == JUMP and self._cfg.leaves(step)):
                if register in self._convention.arguments:
                    return True
                if step.flow == JUMP or register in self._convention.lost:
                    return False
            if register in step.writes and not step.partial:
                return False
        return None


def handed_on(program: Program, call: Reference, registers: Registers) -> Registers | None:
    """Return in which of the registers that a callee leaves results in a caller returns them, untouched.

    ``call`` names the callee. None if the caller reads one of the registers, or may do so as far as is known.

    Any register may hold a result, since languages differ and compilers make conventions of their own for functions
    that no other file calls. Most callers never look at it; the few instructions after the call show that.
    """
    function = call.function
    step = next(program.steps_from(function, call.site), None)
    if step is None:
        return frozenset()
    named = [step.target, *(memory.displacement for memory in step.memory if memory.is_constant)]
    if call.target not in named or step.flow not in (JUMP, CALL):
        return None
    if step.flow == JUMP:
        leaves = step.target is not None and not function.start <= step.target < function.end
        return registers if leaves else None
    return _returned(program, function, step.following, registers)


def _returned(program: Program, function: Function, address: int, registers: Registers) -> Registers | None:
    """Return which of the registers reach a return from an address on; None if one of them may be read before."""
    returned: set[int] = set()
    followed: dict[int, Registers] = {}
    waiting, steps_left = [(address, registers)], _MAX_STEPS
    while waiting:
        address, live = waiting.pop()
        live |= followed.get(address, frozenset())
        if live == followed.get(address) or not function.start <= address < function.end:
            continue
        followed[address] = live
        for step in program.steps_from(function, address):
            steps_left -= 1
            if steps_left < 0 or _may_read(step, live, program.convention):
                return None
            live -= _overwritten(step, program.convention)
            if step.returns:
                returned |= live
            if step.flow in (JUMP, BRANCH) and step.target is not None:
                waiting.append((step.target, live))
            if step.flow in (JUMP, STOP) or not live:
                break
    return frozenset(returned)


def _may_read(step: Step, live: Registers, convention: Convention) -> bool:
    """Tell whether a step may read one of the registers, or leads on to where that cannot be seen."""
    if step.flow in (JUMP, BRANCH) and step.target is None:
        return True
    if step.flow in (JUMP, CALL) and convention.asks_system and not live.isdisjoint(convention.arguments):
        return True
    addressing = (register for memory in step.memory for register in (memory.base, memory.scaled))
    return not live.isdisjoint(step.reads) or not live.isdisjoint(addressing)


def _overwritten(step: Step, convention: Convention) -> Registers:
    if step.flow == CALL:
        return convention.lost
    return frozenset(() if step.partial else step.writes)
