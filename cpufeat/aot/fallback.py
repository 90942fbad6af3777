"""Compile at lower ISA levels where LLVM fails at a target, or name the function on which it fails.

An error, an abort and an exceeded limit during code generation all count as failures (EmitError). What is tried
with ``on_missing="fallback"`` is another, lower target, never the same job again; and nothing for a module that LLVM
rejects.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.llvm.job import EmitError, LimitError
from cpufeat.decisions import Decision
from cpufeat.errors import CompileError
from cpufeat.levels import baseline, level_features, levels
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cpufeat.aot.llvm.job import Emitted
    from cpufeat.aot.unit import Unit
    from cpufeat.support.deadline import Deadline

_BISECTION_SECONDS = 20.0
"""Time limit of the search for the function to blame."""


class _Failure(NamedTuple):
    """An attempt that failed."""

    slot: int
    """The index of the requested target."""
    target: Target
    """The target, as lowered so far."""
    error: EmitError


def emit(unit: Unit, deadline: Deadline) -> tuple[Unit, tuple[Decision, ...], Emitted]:
    """Return the unit with the targets at which LLVM succeeds, a decision for each failure, and what LLVM made.

    With ``on_missing="fallback"`` a target at which LLVM fails is lowered, or left out if machines that run it have
    another variant at least as good as the lower one. Raises CompileError, which names the function to blame if it can
    be found, when nothing lower is left to try. As long as there is something lower, an attempt gets half of the time
    that is left.
    """
    targets = dict(enumerate(unit.targets))
    lower_targets = {slot: _below(target) for slot, target in targets.items()}
    failures: list[_Failure] = []
    while True:
        attempt = unit.replace(targets=tuple(targets.values()))
        try:
            emitted = attempt.emit(deadline.half() if _may_be_lowered(attempt) else deadline)
            return attempt, _decisions(failures, targets), emitted
        except EmitError as error:
            failure = _failing_target(unit, targets, error, deadline)
        failures.append(failure)
        slot = failure.slot
        lower = next(lower_targets[slot], None) if unit.options.on_missing == "fallback" else None
        if lower is None:
            raise _error(unit, [earlier for earlier in failures if earlier.slot == slot], deadline)
        targets = _lowered(targets, slot, lower, unit.targets[slot])


def _may_be_lowered(unit: Unit) -> bool:
    """Whether there is a lower target to try if LLVM fails."""
    lowest = level_features(unit.targets[0].arch, baseline(unit.targets[0].arch))
    return unit.options.on_missing == "fallback" and any(not target.features.isa <= lowest for target in unit.targets)


def _lowered(targets: dict[int, Target], slot: int, lower: Target, requested: Target) -> dict[int, Target]:
    """Return the targets, best first, with one of them lowered; without it if every machine for it runs a better one.

    The lower target comes after all that contain it: machines that run them select them.
    """
    containing = [index for index, target in targets.items() if lower.features.isa <= target.features.isa]
    left_out = any(targets[index].features.isa <= requested.features.isa for index in containing if index != slot)
    result = {}
    for index, target in targets.items():
        if index != slot:
            result[index] = target
        if index == containing[-1] and not left_out:
            result[slot] = lower
    return result


def _below(target: Target) -> Iterator[Target]:
    """Yield the common part of the target and each level, highest first."""
    rung = target
    for level in reversed(levels(target.arch)):
        lower = rung & Target.parse(level, target.triple)
        if lower != rung:
            yield lower
        rung = lower


def _failing_target(unit: Unit, targets: dict[int, Target], error: EmitError, deadline: Deadline) -> _Failure:
    """Return the first of the targets at which LLVM fails. Raises CompileError if it fails only at all together."""
    if len(targets) == 1:
        ((slot, target),) = targets.items()
        return _Failure(slot, target, error)
    for slot, target in targets.items():
        try:
            unit.replace(targets=(target,)).emit(deadline.half())
        except EmitError as alone:
            return _Failure(slot, target, alone)
    raise CompileError(f"{unit.source.name}: {error} (for all variants at once)", error.function)


def _decisions(failures: list[_Failure], targets: dict[int, Target]) -> tuple[Decision, ...]:
    return tuple(
        Decision("fallback", target.cpu, f"LLVM failed at this target: {_instead(targets.get(slot))}", str(error))
        for slot, target, error in failures
    )


def _instead(lowered: Target | None) -> str:
    return f"compiled for {lowered.cpu} instead" if lowered else "left out, since another variant serves its machines"


def _error(unit: Unit, failures: list[_Failure], deadline: Deadline) -> CompileError:
    """Return the error for a target that failed at every level."""
    _, target, last = failures[-1]
    function = last.function
    if function is None and not isinstance(last, LimitError):
        search = deadline.within(_BISECTION_SECONDS)
        function = failing_function(partial(_functions_if_emitted, unit.replace(targets=(target,)), search), search)
    tried: dict[str, list[str]] = {}
    for _, lowered, error in failures:
        tried.setdefault(str(error), []).append(lowered.cpu)
    listed = "; ".join(f"{message} (for {', '.join(dict.fromkeys(cpus))})" for message, cpus in tried.items())
    return CompileError(f"{unit.source.name}: " + (f"function {function}: " if function else "") + listed, function)


def _functions_if_emitted(unit: Unit, deadline: Deadline, first: int, end: int) -> list[str] | None:
    try:
        return unit.emit(deadline, (first, end)).functions
    except CompileError:
        return None


def failing_function(attempt: Callable[[int, int], list[str] | None], deadline: Deadline) -> str | None:
    """Bisect a module to the one function that makes code generation fail; None if no single function does.

    ``attempt(first, end)`` emits that range of the defined functions. It returns the names of all functions, None if
    code generation fails. The search stops at the deadline.
    """
    names = attempt(0, 0)
    if not names:
        return None
    first, end = 0, len(names)
    while end - first > 1:
        middle = (first + end) // 2
        if deadline.left() == 0:
            return None
        if attempt(first, middle) is None:
            end = middle
        elif attempt(middle, end) is None:
            first = middle
        else:
            return None
    return names[first]
