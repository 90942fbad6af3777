"""From a module to an artifact: the target, the ladder below it, and what was decided on the way."""

from __future__ import annotations

import os
import warnings
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from cpufeat.aot import fallback
from cpufeat.aot.artifact import Artifact, Variant, labels
from cpufeat.aot.cache.memo import Made, reused
from cpufeat.aot.frontend.module import read
from cpufeat.aot.llvm.job import Clones, Job
from cpufeat.aot.llvm.llvmlite_setup import llvm_version
from cpufeat.aot.passes import target_attributes
from cpufeat.aot.runtime.dispatcher import INITIALIZER, mechanism
from cpufeat.aot.runtime.guard import guard as guard_of
from cpufeat.aot.runtime.guard_table import narrow
from cpufeat.aot.runtime.selector import resolver_parameters, selector
from cpufeat.aot.worker import client
from cpufeat.detection.host import detect
from cpufeat.errors import ArtifactError, CompileError, CpufeatWarning, TargetError
from cpufeat.levels import baseline, level_features
from cpufeat.resolution import resolve
from cpufeat.tables import architecture
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from cpufeat.aot.fallback import Made as Emission
    from cpufeat.aot.llvm.job import Emitted, Range
    from cpufeat.aot.runtime.dispatcher import Mechanism
    from cpufeat.aot.runtime.guard import Mode
    from cpufeat.decisions import Decision
    from cpufeat.resolution import OnMissing

TIME_LIMIT = 600.0
"""The default ``time_limit``, in seconds."""
MEMORY_LIMIT = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else None
"""The default ``memory_limit``: half of this machine's memory, in bytes."""


def compile(  # noqa: A001, PLR0913
    module: object,
    target: Target | str | None = None,
    *,
    targets: Sequence[Target | str] | None = None,
    dispatch: Mechanism | None = None,
    runtime_override: bool = False,
    guard: bool | Literal["ask"] = True,
    opt: int = 2,
    on_missing: OnMissing = "fallback",
    isolation: Literal["process", "none"] = "process",
    time_limit: float | None = TIME_LIMIT,
    memory_limit: int | None = MEMORY_LIMIT,
) -> Artifact:
    """Compile a module to a position-independent object for one target, or for each of several.

    ``module``
        IR text, bitcode, the path of either, or an llvmlite module, which is left as it was
        (:func:`cpufeat.aot.frontend.module.read`). Its triple and data layout must be the target's, or empty.
    ``target``
        A Target, or a request to :func:`cpufeat.resolve` on this machine, where None is what it comes to by default. To
        compile for another machine, hand in ``Target.parse(request)``. It holds for every function, whatever
        ``target-cpu`` and ``target-features`` the function itself has.
    ``targets``
        In place of ``target``: several, best first, each a Target or what :meth:`Target.parse` reads, for this
        machine's triple. Each function is there once for each (:mod:`cpufeat.aot.passes.cloning`); its symbol leads
        to the first of which the machine has all features, as the code itself finds out when it is loaded.
    ``dispatch``
        How the symbol does that (:mod:`cpufeat.aot.runtime.dispatcher`): ``"ifunc"`` at the cost of a direct call,
        where the loader can; ``"pointer"`` anywhere. None is ``"ifunc"`` where that works.
    ``runtime_override``
        Programs pass over variants that use what ``CPUFEAT_DISABLE`` lists. An ``ifunc`` cannot do that.
    ``guard``
        Where no variant runs on any machine, the code says what a machine lacks (:mod:`cpufeat.aot.runtime.guard`).
        True: when
        it is loaded, and the process exits with 126. ``"ask"``: who loads it calls ``cpufeat_supported``. False: never.
    ``opt``
        0 to 3: LLVM's default pipeline of that level, vectorizing from 2 upward, and the code generator's effort.
    ``on_missing``
        ``"fallback"``: where LLVM fails at a target, the levels below it are tried in turn; a function that asks for
        more than the target permits is compiled for the target. Each is a decision of the artifact, and all together
        are one CpufeatWarning. ``"error"``: each is an error.
    ``isolation``
        ``"process"``: LLVM runs in a worker process that is kept for the next call; the limits hold for each attempt.
        ``"none"``: in this process, without limits; what LLVM cannot bear ends it.
    ``time_limit``, ``memory_limit``
        Seconds, and bytes beyond what the idle worker uses (where the system has RLIMIT_AS); None is no limit.

    Raises CompileError for a module that LLVM rejects, for one that makes it abort, hang or run out of memory, and for
    one that there cannot be variants of; TargetError for a module made for something else, for targets of several
    systems, and for one that would never be chosen; and what :func:`cpufeat.resolve` raises.
    """
    _check(opt, on_missing, isolation, dispatch, guard, time_limit=time_limit, memory_limit=memory_limit)
    code = read(module)
    wanted, decisions = _wanted(target, targets, on_missing)
    how = mechanism(wanted[0], dispatch, runtime_override=runtime_override) if wanted[1:] else ""

    def emit(rungs: Sequence[Target], only: Range | None = None, seconds: float | None = None) -> Emission:
        dispatched = how if rungs[1:] else ""
        helpers = _helpers(rungs, dispatched, runtime_override, guard, code.stem)

        def job(llvm: int) -> Job:
            cpu, features = _for_llvm(rungs[0], llvm)
            one = Job(code.name, code.is_bitcode, rungs[0].triple, cpu, features, opt, only, helpers=helpers)
            if dispatched:
                return _several(one, rungs, dispatched, llvm)
            return one.replace(early_cpu=architecture(rungs[0].arch).cpu) if helpers else one

        if isolation == "none":
            return _emit_here(job, code.content)
        limit = time_limit if seconds is None else seconds
        return client.emit(job, code.content, time_limit=limit, memory_limit=memory_limit)

    def make() -> Made:
        from cpufeat.aot.used_features import used  # with the decoders, which take longer to load than a reuse takes

        rungs, fallbacks, (emitted, llvm) = fallback.descend(code.name, wanted, emit, fallback=on_missing == "fallback")
        made = fallbacks + _lowered(emitted, rungs[0], llvm[0], on_missing)
        uses = used(code.name, emitted.object, rungs, labels(rungs))
        artifact = Artifact(
            object=emitted.object if uses[-1] is None else narrow(emitted.object, uses[-1]),
            variants=tuple(Variant(*one) for one in zip(rungs, uses, strict=True)),
            decisions=decisions + made,
            llvm=".".join(map(str, llvm)),
            dispatch=how if rungs[1:] else "",
            runtime_override=runtime_override and len(rungs) > 1,
            name=code.stem,
        )
        return Made(_noted(artifact), made, emitted.said, is_lasting=not fallbacks)

    asked = {
        "name": code.stem,
        "is_bitcode": code.is_bitcode,
        "decisions": [vars(decision) for decision in decisions],
        "dispatch": how,
        "runtime_override": runtime_override,
        "guard": guard,
        "opt": opt,
        "on_missing": on_missing,
    }
    made = reused(code.content, wanted, asked, make)
    _warn(code.name, made.decisions, made.said)
    return made.artifact


def _check(
    opt: int, on_missing: str, isolation: str, dispatch: str | None, guard: bool | str, **limits: float | None
) -> None:
    allowed: tuple[tuple[str, object, tuple[object, ...]], ...] = (
        ("opt", opt, (0, 1, 2, 3)),
        ("on_missing", on_missing, ("fallback", "error")),
        ("isolation", isolation, ("process", "none")),
        ("dispatch", dispatch, (None, "ifunc", "pointer")),
        ("guard", guard, (True, False, "ask")),
    )
    for name, value, values in allowed:
        if value not in values:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(map(repr, values))}")
    for name, limit in limits.items():
        if limit is not None and not limit > 0:
            raise ValueError(f"{name} is {limit!r}: no more than nothing")


def _wanted(
    target: Target | str | None, targets: Sequence[Target | str] | None, on_missing: OnMissing
) -> tuple[tuple[Target, ...], tuple[Decision, ...]]:
    if targets is not None:
        if target is not None:
            raise TargetError("a target and targets: compile for the one, or for the others")
        return _distinct(targets), ()
    if isinstance(target, Target):
        return (target,), ()
    resolution = resolve(target, on_missing=on_missing)
    return (resolution.target,), resolution.decisions


def _distinct(requests: Sequence[Target | str]) -> tuple[Target, ...]:
    """Return the targets, for each of which there can be a machine that chooses it. Raises TargetError."""
    if isinstance(requests, str) or not requests:
        raise TargetError(f"targets is {requests!r}, not a list of targets")
    if not all(isinstance(request, (str, Target)) for request in requests):
        raise TargetError(f"targets is {list(requests)!r}: each is a Target, or what Target.parse reads")
    here = detect().triple if any(isinstance(request, str) for request in requests) else ""
    targets = tuple(Target.parse(one, here) if isinstance(one, str) else one for one in requests)
    for index, target in enumerate(targets):
        if target.triple != targets[0].triple:
            raise TargetError(f"a variant for {targets[0].triple} and one for {target.triple}: all must be for one")
        for better in targets[:index]:
            if better.features.isa <= target.features.isa:
                raise TargetError(f"no machine would choose {target.cpu}: what can run it runs {better.cpu}, before it")
    return targets


def _for_llvm(target: Target, llvm: int) -> tuple[str, str]:
    return target.llvm_cpu(llvm), target.llvm_features(llvm)


def _helpers(
    targets: Sequence[Target], how: Mechanism | Literal[""], runtime_override: bool, guarded: bool | str, name: str
) -> tuple[str, ...]:
    """Return what is linked with the module: the guard, before all else, and what picks one of several targets."""
    parts = []
    if how:
        parts.append(selector(targets, dispatch=how, runtime_override=runtime_override))
    if guarded:
        mode: Mode = "ask" if guarded == "ask" else "exit"
        parts.append(guard_of(targets, name or "program", mode=mode, beside_selector=bool(how)))
    return tuple(filter(None, ("\n".join(parts), INITIALIZER if how == "pointer" else "")))


def _several(job: Job, targets: Sequence[Target], how: Mechanism, llvm: int) -> Job:
    """Return a job for several targets. What is compiled once, and what dispatches, must run on any machine."""
    arch = targets[0].arch
    cpu, features = _for_llvm(reduce(and_, targets, Target.parse(baseline(arch), job.triple)), llvm)
    return job.replace(
        cpu=cpu,
        features=features,
        clones=tuple(
            Clones(label, *_for_llvm(target, llvm)) for label, target in zip(labels(targets), targets, strict=True)
        ),
        lowest_runs=targets[-1].features.isa <= level_features(arch, baseline(arch)),
        mechanism=how,
        resolver_parameters=resolver_parameters(targets[0]) if how == "ifunc" else "",
    )


def _emit_here(make_job: Callable[[int], Job], content: bytes) -> tuple[Emitted, tuple[int, ...]]:
    from cpufeat.aot.worker import codegen

    llvm = llvm_version()
    return codegen.emit(make_job(llvm[0]), content), llvm


def _lowered(emitted: Emitted, target: Target, llvm: int, on_missing: OnMissing) -> tuple[Decision, ...]:
    excess = target_attributes.lowered(emitted.asks, target, llvm)
    decisions = tuple(target_attributes.decision(beyond, functions, target) for beyond, functions in excess.items())
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
