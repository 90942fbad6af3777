"""Where LLVM fails at a target, the levels below it are tried in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cpufeat.aot import blame
from cpufeat.aot.llvm.job import EmitError, LimitError
from cpufeat.decisions import Decision
from cpufeat.errors import CompileError
from cpufeat.levels import levels
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.aot.llvm.job import Emitted, Range

    Made = tuple[Emitted, tuple[int, ...]]
    """What LLVM made, and its version."""
    Failure = tuple[int, Target, EmitError]
    """Which of the targets it was, what it had come down to, and what LLVM did."""

_BLAME_SECONDS = 20.0


class Emit(Protocol):
    """Compiles one module."""

    def __call__(self, targets: Sequence[Target], only: Range | None = None, seconds: float | None = None, /) -> Made:
        """Compile for some targets, perhaps only a range of the functions, perhaps in less time. Raises EmitError."""


def descend(
    name: str, wanted: Sequence[Target], emit: Emit, *, fallback: bool
) -> tuple[tuple[Target, ...], tuple[Decision, ...], Made]:
    """Return what LLVM makes of a module for the targets wanted, or for what is left of them, and why.

    Raises CompileError, which names the function at fault where it can be found, if nothing is left of one.
    """
    rungs = dict(enumerate(wanted))
    below = {slot: _below(target) for slot, target in rungs.items()}
    failures: list[Failure] = []
    while True:
        try:
            made = emit(tuple(rungs.values()))
            return tuple(rungs.values()), _decisions(failures, rungs), made
        except EmitError as error:
            slot, cause = _culprit(name, rungs, error, emit)
        failures.append((slot, rungs[slot], cause))
        lower = next(below[slot], None) if fallback else None
        if lower is None:
            raise _failed(name, [failure for failure in failures if failure[0] == slot], emit)
        rungs[slot] = lower
        if any(lower.features.isa <= other.features.isa for other_slot, other in rungs.items() if other_slot != slot):
            del rungs[slot]


def _below(target: Target) -> Iterator[Target]:
    """Yield what the target has in common with each level, highest first."""
    rung = target
    for level in reversed(levels(target.arch)):
        lower = rung & Target.parse(level, target.triple)
        if lower != rung:
            yield lower
        rung = lower


def _culprit(name: str, rungs: dict[int, Target], error: EmitError, emit: Emit) -> tuple[int, EmitError]:
    """Return which of several targets LLVM fails at, and how. Raises CompileError if it is none alone."""
    if len(rungs) == 1:
        return next(iter(rungs)), error
    for slot, target in rungs.items():
        try:
            emit((target,))
        except EmitError as alone:
            return slot, alone
    raise CompileError(f"{name}: {error} (for all variants at once)", error.function)


def _decisions(failures: list[Failure], rungs: dict[int, Target]) -> tuple[Decision, ...]:
    return tuple(
        Decision("fallback", failed.cpu, f"LLVM failed at this target: {_instead(rungs.get(slot))}", str(error))
        for slot, failed, error in failures
    )


def _instead(rung: Target | None) -> str:
    return f"compiled for {rung.cpu} instead" if rung else "left out, what is below it being another variant"


def _failed(name: str, failures: list[Failure], emit: Emit) -> CompileError:
    """Return the error for a module that failed at every rung."""
    _, target, last = failures[-1]
    function = last.function
    if function is None and not isinstance(last, LimitError):

        def attempt(first: int, end: int) -> list[str] | None:
            try:
                return emit((target,), (first, end), _BLAME_SECONDS)[0].functions
            except CompileError:
                return None

        function = blame.culprit(attempt, _BLAME_SECONDS)
    tried: dict[str, list[str]] = {}
    for _, rung, error in failures:
        tried.setdefault(str(error), []).append(rung.cpu)
    listed = "; ".join(f"{message} (for {', '.join(dict.fromkeys(cpus))})" for message, cpus in tried.items())
    return CompileError(f"{name}: " + (f"function {function}: " if function else "") + listed, function)
