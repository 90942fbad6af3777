"""From a module to an artifact: the target, the ladder below it, and what was decided on the way."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from cpufeat import tables
from cpufeat.aot import attributes, blame, client, source
from cpufeat.aot.artifact import Artifact, Variant
from cpufeat.aot.job import EmitError, Job, LimitError
from cpufeat.decisions import Decision
from cpufeat.errors import ArtifactError, CompileError, CpufeatWarning, TargetError
from cpufeat.features import family
from cpufeat.resolution import resolve
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from cpufeat.aot.job import Emitted
    from cpufeat.resolution import OnMissing

    _Emit = Callable[[Target, "tuple[int, int] | None", "float | None"], tuple[Emitted, tuple[int, ...]]]

TIME_LIMIT = 600.0
"""The default ``time_limit``, in seconds."""
MEMORY_LIMIT = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else None
"""The default ``memory_limit``: half of this machine's memory, in bytes."""
_BLAME_SECONDS = 20.0


def compile(  # noqa: A001, PLR0913
    module: object,
    target: Target | str | None = None,
    *,
    opt: int = 2,
    on_missing: OnMissing = "fallback",
    isolation: Literal["process", "none"] = "process",
    time_limit: float | None = TIME_LIMIT,
    memory_limit: int | None = MEMORY_LIMIT,
) -> Artifact:
    """Compile a module to a position-independent object for one target.

    ``module``
        IR text, bitcode, the path of either, or an llvmlite module, which is left as it was
        (:func:`cpufeat.aot.source.read`). Its triple and data layout must be the target's, or empty.
    ``target``
        A Target, or a request to :func:`cpufeat.resolve` on this machine, where None is what it comes to by default. To
        compile for another machine, hand in ``Target.parse(request)``. It holds for every function, whatever
        ``target-cpu`` and ``target-features`` the function itself has.
    ``opt``
        0 to 3: LLVM's default pipeline of that level, vectorizing from 2 upward, and the code generator's effort.
    ``on_missing``
        ``"fallback"``: where LLVM fails at the target, the levels below it are tried in turn; a function that asks for
        more than the target permits is compiled for the target. Each is a decision of the artifact, and all together
        are one CpufeatWarning. ``"error"``: each is an error.
    ``isolation``
        ``"process"``: LLVM runs in a worker process that is kept for the next call; the limits hold for each attempt.
        ``"none"``: in this process, without limits; what LLVM cannot bear ends it.
    ``time_limit``, ``memory_limit``
        Seconds, and bytes beyond what the idle worker uses (where the system has RLIMIT_AS); None is no limit.

    Raises CompileError for a module that LLVM rejects, and for one that makes it abort, hang or run out of memory;
    TargetError for a module made for something else; and what :func:`cpufeat.resolve` raises.
    """
    _check(opt, on_missing, isolation)
    code = source.read(module)
    wanted, decisions = _target(target, on_missing)

    def emit(rung: Target, only: tuple[int, int] | None, seconds: float | None) -> tuple[Emitted, tuple[int, ...]]:
        def job(llvm: int) -> Job:
            cpu, features = rung.llvm_cpu(llvm), rung.llvm_features(llvm)
            return Job(code.name, code.is_bitcode, rung.triple, cpu, features, opt, only)

        if isolation == "none":
            return _emit_here(job, code.content)
        return client.emit(job, code.content, time_limit=seconds, memory_limit=memory_limit)

    failures: list[tuple[Target, EmitError]] = []
    for rung in _rungs(wanted) if on_missing == "fallback" else [wanted]:
        try:
            emitted, llvm = emit(rung, None, time_limit)
        except EmitError as error:
            failures.append((rung, error))
            continue
        made = _fallbacks(failures, rung) + _lowered(emitted, rung, llvm[0], on_missing)
        _warn(code.name, made, emitted.said)
        artifact = Artifact(
            emitted.object, (Variant(rung),), decisions + made, ".".join(map(str, llvm)), name=code.stem
        )
        return _noted(artifact)
    raise _failed(code.name, failures, emit)


def _check(opt: int, on_missing: str, isolation: str) -> None:
    allowed = (("opt", opt, (0, 1, 2, 3)), ("on_missing", on_missing, ("fallback", "error")))
    for name, value, values in (*allowed, ("isolation", isolation, ("process", "none"))):
        if value not in values:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(map(repr, values))}")


def _target(target: Target | str | None, on_missing: OnMissing) -> tuple[Target, tuple[Decision, ...]]:
    if isinstance(target, Target):
        return target, ()
    resolution = resolve(target, on_missing=on_missing)
    return resolution.target, resolution.decisions


def _emit_here(make_job: Callable[[int], Job], content: bytes) -> tuple[Emitted, tuple[int, ...]]:
    from cpufeat.aot import codegen

    llvm = codegen.llvm_version()
    return codegen.emit(make_job(llvm[0]), content), llvm


def _rungs(target: Target) -> Iterator[Target]:
    """Yield the target, then what it has in common with each level, highest first."""
    yield target
    rung = target
    for row in reversed(tables.rows(f"{family(target.arch)}/levels.tsv")):
        lower = rung & Target.parse(row[0], target.triple)
        if lower != rung:
            yield lower
        rung = lower


def _fallbacks(failures: list[tuple[Target, EmitError]], rung: Target) -> tuple[Decision, ...]:
    return tuple(
        Decision("fallback", failed.cpu, f"LLVM failed at this target: compiled for {rung.cpu} instead", str(error))
        for failed, error in failures
    )


def _lowered(emitted: Emitted, target: Target, llvm: int, on_missing: OnMissing) -> tuple[Decision, ...]:
    excess = attributes.lowered(emitted.asks, target, llvm)
    decisions = tuple(attributes.decision(beyond, functions, target) for beyond, functions in excess.items())
    if decisions and on_missing == "error":
        raise CompileError(f"function {decisions[0]}", next(iter(excess.values()))[0])
    return decisions


def _warn(name: str, decisions: tuple[Decision, ...], said: str) -> None:
    lines = [str(decision) for decision in decisions] + ([f"LLVM said: {said.strip()}"] if said.strip() else [])
    if lines:
        warnings.warn(f"{name}: {'; '.join(lines)}", CpufeatWarning, stacklevel=3)


def _noted(artifact: Artifact) -> Artifact:
    try:
        return artifact.noted()
    except ArtifactError as error:
        raise TargetError(f"{artifact.target.triple}: LLVM's output cannot hold cpufeat's note: {error}") from None


def _failed(name: str, failures: list[tuple[Target, EmitError]], emit: _Emit) -> CompileError:
    """Return the error for a module that failed at every rung, naming the function at fault where it can be found."""
    target, last = failures[-1]
    function = last.function
    if function is None and not isinstance(last, LimitError):

        def attempt(first: int, end: int) -> list[str] | None:
            try:
                return emit(target, (first, end), _BLAME_SECONDS)[0].functions
            except CompileError:
                return None

        function = blame.culprit(attempt, _BLAME_SECONDS)
    tried: dict[str, list[str]] = {}
    for rung, error in failures:
        tried.setdefault(str(error), []).append(rung.cpu)
    listed = "; ".join(f"{message} (for {', '.join(dict.fromkeys(cpus))})" for message, cpus in tried.items())
    return CompileError(f"{name}: " + (f"function {function}: " if function else "") + listed, function)
