"""Compile a module to an artifact: run the steps of a compilation, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot import fallback, provenance
from cpufeat.aot.artifact import Artifact, Variant
from cpufeat.aot.cache import memo
from cpufeat.aot.frontend.module import read
from cpufeat.aot.options import MEMORY_LIMIT, TIME_LIMIT, Options
from cpufeat.aot.passes import target_attributes
from cpufeat.aot.runtime.dispatcher import mechanism
from cpufeat.aot.runtime.guard_table import level_to_state, narrow
from cpufeat.aot.unit import Unit
from cpufeat.detection.detect import detect
from cpufeat.errors import ArtifactError, CompileError, TargetError, expect, warn
from cpufeat.resolution import resolve
from cpufeat.support.deadline import Deadline
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.aot.cache.memo import Compiled
    from cpufeat.aot.llvm.job import Emitted
    from cpufeat.aot.options import Guard, Isolation
    from cpufeat.aot.runtime.dispatcher import Mechanism
    from cpufeat.decisions import Decision
    from cpufeat.features import FeatureSet
    from cpufeat.resolution import OnMissing


def compile(  # noqa: A001, PLR0913
    module: object,
    target: Target | str | None = None,
    *,
    targets: Sequence[Target | str] | None = None,
    dispatch: Mechanism | None = None,
    runtime_override: bool = False,
    guard: Guard = True,
    opt: int = 2,
    on_missing: OnMissing = "fallback",
    files: bool = True,
    isolation: Isolation = "process",
    time_limit: float | None = TIME_LIMIT,
    memory_limit: int | None = MEMORY_LIMIT,
) -> Artifact:
    """Compile a module to a position-independent object for one target, or for each of several.

    ``module``
        IR text, bitcode, the path of either, or an llvmlite module, which is not changed
        (:func:`cpufeat.aot.frontend.module.read`). Its triple and data layout must be the target's, or empty.
    ``target``
        A Target, or a request to :func:`cpufeat.resolve` on this machine; None is the default request. To compile for
        another machine, pass ``Target.parse(request)``. It applies to every function, whatever ``target-cpu`` and
        ``target-features`` the function itself has.
    ``targets``
        Instead of ``target``: several, best first, each a Target or a request that :meth:`Target.parse` reads, for this
        machine's triple; the one for this machine is :func:`~cpufeat.target_for_host`'s, not ``"native"``. Every
        function is compiled once per target (:mod:`cpufeat.aot.passes.cloning`); at load time the first target that the
        CPU fully supports is selected.
    ``dispatch``
        How calls reach the selected variant (:mod:`cpufeat.aot.runtime.dispatcher`): ``"ifunc"``, as fast as a direct
        call, on systems whose loader supports it; ``"pointer"`` on every system. None is ``"ifunc"`` where that works.
    ``runtime_override``
        Whether selection skips variants that use features listed in ``CPUFEAT_DISABLE``; not with ``"ifunc"``.
    ``guard``
        Whether code that needs more than the baseline checks for it (:mod:`cpufeat.aot.runtime.guard`). True: at load
        time, if no variant can run, it prints the missing features and exits with 126. ``"ask"``: whoever loads it
        calls ``cpufeat_supported``. False: there is no check.
    ``opt``
        0 to 3: LLVM's default pipeline of that level, vectorizing from 2 upward, and the code generator's effort.
    ``on_missing``
        ``"fallback"``: if LLVM fails at a target, each lower level is tried in turn, and a function that requests more
        than the target permits is compiled for the target. Each is a decision of the artifact, and all together are
        one CpufeatWarning. ``"error"``: each is an error.
    ``files``
        Whether assembly in the module may read files: ``.incbin`` and ``.include`` copy any file that this process can
        read into the object. False refuses a module that might, also one in which macros could spell these directives.
        The result of such a module is not kept in the cache.
    ``isolation``
        ``"process"``: LLVM runs in a worker process that is kept for the next call.
        ``"none"``: LLVM runs in this process without limits, and a crash in LLVM crashes the process.
    ``time_limit``, ``memory_limit``
        Seconds of the whole call (600), and bytes beyond those of the idle worker, where the system has RLIMIT_AS (half
        of this machine's memory); None is no limit. While there is a lower target to try, an attempt gets half of the
        time that is left.

    Raises OptionError for an invalid option; OSError, such as FileNotFoundError, for a file that cannot be read;
    CompileError for a module that LLVM rejects, that makes LLVM abort, hang or run out of memory, or of which no
    variants can be made; TargetError for a module made for another target, for targets of several systems, and for a
    target that no machine would select; and what :func:`cpufeat.resolve` raises.
    """
    options = Options(
        dispatch=dispatch,
        runtime_override=runtime_override,
        guard=guard,
        opt=opt,
        on_missing=on_missing,
        files=files,
        isolation=isolation,
        time_limit=time_limit,
        memory_limit=memory_limit,
    )
    deadline = Deadline(time_limit)
    source = read(module)
    wanted, decisions = _targets(target, targets, options)
    unit = Unit(source, wanted, options.replace(dispatch=_dispatch(wanted, options)))
    entry = memo.entry(unit, decisions)
    compiled = entry.read()
    if compiled is None:
        compiled = _compile(unit, decisions, deadline)
        entry.write(compiled)
    provenance.remember(compiled.artifact.object, compiled.artifact.variants)
    _warn(source.name, compiled)
    return compiled.artifact


def _compile(unit: Unit, decisions: tuple[Decision, ...], deadline: Deadline) -> Compiled:
    """Compile a unit. ``decisions`` are those that led to its targets."""
    from cpufeat.aot.used_features import used  # loads decoders, which takes longer than a cache hit

    unit, fallbacks, emitted = fallback.emit(unit, deadline)
    changes = fallbacks + _lowered_functions(unit, emitted)
    limit = f"the time limit of {deadline.seconds:g} s" if deadline.seconds else ""
    stop = deadline.stop(lambda: CompileError(f"{unit.source.name}: decoding LLVM's output exceeded {limit}"))
    used_features = used(unit.source.name, emitted.object, unit.targets, unit.labels, stop)
    code, isa_level = _narrowed(emitted.object, used_features[-1])
    artifact = Artifact(
        object=code,
        variants=tuple(map(Variant, unit.targets, used_features)),
        decisions=decisions + changes,
        llvm=".".join(map(str, emitted.llvm)),
        dispatch=unit.dispatch or "",
        runtime_override=unit.options.runtime_override and unit.dispatch is not None,
        name=unit.source.stem,
    )
    is_reproducible = not fallbacks and not emitted.reads_files
    return memo.Compiled(_finished(artifact, isa_level), changes, emitted.stderr, is_reproducible)


def _targets(
    target: Target | str | None, targets: Sequence[Target | str] | None, options: Options
) -> tuple[tuple[Target, ...], tuple[Decision, ...]]:
    """Return the targets to compile for, best first, and the decisions that led to them."""
    expect("target", target, (Target, str, type(None)), "a Target, a level or CPU as a str, or None")
    if targets is not None:
        if target is not None:
            raise TargetError("pass either target or targets, not both")
        return _distinct(targets), ()
    if isinstance(target, Target):
        return (target,), ()
    resolution = resolve(target, on_missing=options.on_missing)
    return (resolution.target,), resolution.decisions


def _distinct(requests: Sequence[Target | str]) -> tuple[Target, ...]:
    """Return the targets. Raises TargetError unless for each there can be a machine that selects it."""
    if isinstance(requests, str) or not requests:
        raise TargetError(f"targets must be a list of targets, not {requests!r}")
    if not all(isinstance(request, (str, Target)) for request in requests):
        raise TargetError(f"targets must be Targets, or requests that Target.parse reads, not {list(requests)!r}")
    host_triple = detect().triple if any(isinstance(request, str) for request in requests) else ""
    targets = tuple(Target.parse(request, host_triple) if isinstance(request, str) else request for request in requests)
    for index, target in enumerate(targets):
        if target.triple != targets[0].triple:
            raise TargetError(f"targets must all have one triple, not {targets[0].triple} and {target.triple}")
        for better in targets[:index]:
            if better.features.isa <= target.features.isa:
                why = f"every machine that can run it runs {better.cpu}, which comes first"
                raise TargetError(f"no machine would select {target.cpu}: {why}")
    return targets


def _dispatch(targets: Sequence[Target], options: Options) -> Mechanism | None:
    """Return how functions are dispatched, None for a single target."""
    if len(targets) == 1:
        return None
    return mechanism(targets[0], options.dispatch, runtime_override=options.runtime_override)


def _lowered_functions(unit: Unit, emitted: Emitted) -> tuple[Decision, ...]:
    """Return a decision for each set of features that functions request beyond the target, and did not get.

    With ``on_missing="error"`` raises CompileError instead.
    """
    target = unit.targets[0]
    excess = target_attributes.lowered(emitted.requested_targets, target, emitted.llvm[0])
    decisions = tuple(target_attributes.decision(beyond, functions, target) for beyond, functions in excess.items())
    if decisions and unit.options.on_missing == "error":
        raise CompileError(f"function {decisions[0]}", next(iter(excess.values()))[0])
    return decisions


def _narrowed(code: bytes, used: FeatureSet | None) -> tuple[bytes, str]:
    """Return an object whose guard tests only the features used, and the psABI level that they amount to."""
    if used is None:
        return code, ""
    narrowed = narrow(code, used)
    return narrowed, level_to_state(narrowed, used)


def _finished(artifact: Artifact, isa_level: str) -> Artifact:
    try:
        return artifact.finished(isa_level=isa_level)
    except ArtifactError as error:
        raise TargetError(f"{artifact.target.triple}: LLVM's output cannot hold cpufeat's note: {error}") from None


def _warn(name: str, compiled: Compiled) -> None:
    stderr = compiled.stderr.strip()
    lines = [str(decision) for decision in compiled.decisions] + ([f"LLVM wrote: {stderr}"] if stderr else [])
    if lines:
        warn(f"{name}: {'; '.join(lines)}")
