"""Predict whether a file runs on a machine or CPU, without running it: compare needed features with those there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.artifact import Artifact
from cpufeat.aot.runtime.guard_table import demanded
from cpufeat.auditing.auditor import audit_content
from cpufeat.auditing.formats.loader import content_of, loads
from cpufeat.detection.detect import detect
from cpufeat.detection.host import Host
from cpufeat.errors import ArtifactError, AuditError, TargetError, UnknownNameError, expect
from cpufeat.features import FeatureSet
from cpufeat.levels import level_features, level_of
from cpufeat.support.value import Value
from cpufeat.tables import architecture, has_tables, rows
from cpufeat.target import Target

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from cpufeat.auditing.report import Audit, FunctionNeeds


class Lack(Value):
    """A feature that a file uses and that the machine or CPU lacks."""

    feature: str
    why: str
    """The reason why the machine lacks it, empty if unknown."""
    function: str
    """The first function that uses it."""
    place: str
    """The address of the first instruction that uses it, in an object as section and offset: ``.text+0x40``."""
    address: int
    """The same address as a number; in an object, it was made up by the audit."""
    instruction: str
    """That instruction as assembly."""
    certain: bool
    """False where the instruction may be data that looks like code."""


class Check(Value):
    """The answer whether a file runs on a machine or CPU, and why not."""

    file: str
    on: str
    """The machine's name, or the request for a CPU."""
    runs: bool
    certain: bool = True
    """False if the file may run in spite of :attr:`runs`: it uses a missing feature, but the audit may have missed a
    run-time check (``docs/explanation/audit.md`` says which)."""
    reasons: tuple[str, ...] = ()
    """The reasons why it does not run: ``its guard refuses to run without avx2, fma``."""
    lacks: tuple[Lack, ...] = ()
    """The missing features that it uses without a run-time check that the audit saw."""
    guarded: tuple[str, ...] = ()
    """The missing features that it uses only behind run-time checks."""
    variants: tuple[str, ...] = ()
    """The variant that is selected there, of each artifact with variants in the file."""
    rebuild: tuple[tuple[str, ...], ...] = ()
    """The targets to compile the file for instead, best first: each item is one target, or a list of variants."""


def check(file: str | os.PathLike[str], on: Host | str | None = None) -> Check:
    """Return whether a file runs on a machine (by default this one), or on the CPU or level of a request.

    The file is judged by the instructions that are reached without a run-time check of the CPU (:func:`cpufeat.audit`).
    Raises AuditError for a file that is no binary, or that has members of several architectures where ``on`` is a
    request; OSError; UnknownNameError and TargetError for a bad request.
    """
    expect("on", on, (Host, str, type(None)), "a Host, a level or CPU as a str, or None")
    content, name = content_of(file)
    audit = audit_content(content, name)
    return _check_request(audit, content, on) if isinstance(on, str) else _check_host(audit, content, on or detect())


def _check_request(audit: Audit, content: bytes, request: str) -> Check:
    if not audit.arch:
        raise AuditError(f"{audit.name}: has code for several architectures: check one of its members, or on a machine")
    try:
        target = Target.parse(request, _triple(audit.arch))
    except UnknownNameError:
        family = _family_with(request)
        if not family:
            raise
        return _wrong_architecture(audit, request, family)
    return _compare(audit, target.features, content, request, None)


def _check_host(audit: Audit, content: bytes, host: Host) -> Check:
    member = _member_for(audit, host.arch)
    if member is None:
        return _wrong_architecture(audit, called(host), host.arch)
    return _compare(member, FeatureSet(member.arch, host.features.names), content, called(host), host)


def called(host: Host) -> str:
    """Return a machine's name or brand and, in brackets, its CPU as LLVM names it."""
    name = host.name or host.brand
    return f"{name} ({host.cpu})" if name else host.cpu


def _triple(arch: str) -> str:
    return f"{architecture(arch).triple}-unknown-linux-gnu"


def _family_with(request: str) -> str:
    """Return the first family of architectures that has the CPU or level of a request, empty if there is none."""
    for arch, *_ in rows("architectures.tsv"):
        try:
            Target.parse(request, _triple(arch))
        except (TargetError, UnknownNameError):
            continue
        return architecture(arch).family
    return ""


def _wrong_architecture(audit: Audit, on: str, arch: str) -> Check:
    archs = dict.fromkeys(member.arch for member in (audit, *audit.members) if member.arch)
    reason = f"its code is for {', '.join(archs)}, but the CPU is {arch}"
    return Check(audit.name, on, runs=False, reasons=(reason,))


def _member_for(audit: Audit, arch: str) -> Audit | None:
    """Return the audit of the code that CPUs of an architecture run: the file, or the best member of a container."""
    runnable = (arch, *(architecture(arch).also_runs.split() if has_tables(arch) else ()))
    candidates = [member for member in (audit, *audit.members) if member.arch in runnable]
    return min(candidates, key=lambda member: runnable.index(member.arch), default=None)


def _compare(audit: Audit, available: FeatureSet, content: bytes, on: str, host: Host | None) -> Check:
    artifacts = _artifacts(content)
    lacks = tuple(_lacks(audit, artifacts, available, host))
    missing = (audit.needs or available) - available
    refusals = (
        _refused_by_loader(audit, available),
        *([_no_variant(artifact, available) for artifact in artifacts] or [_refused_by_guard(content, missing)]),
    )
    unchecked = _unchecked(lacks)
    certain = tuple(filter(None, (_other_system(audit, host), *refusals)))
    reasons = (*certain, unchecked) if unchecked else certain
    return Check(
        file=audit.name,
        on=on,
        runs=not reasons,
        certain=bool(certain) or not reasons,
        reasons=reasons,
        lacks=lacks,
        guarded=tuple(missing - FeatureSet(available.arch, (lack.feature for lack in lacks))),
        variants=tuple(variant for artifact in artifacts for variant in _selected(artifact, available)),
        rebuild=_rebuild(audit, available) if any(refusals) or unchecked else (),
    )


def _other_system(audit: Audit, host: Host | None) -> str:
    if host is None or loads(host.system, audit.format):
        return ""
    return f"it is {audit.format}, which {host.system} does not load"


def _lacks(audit: Audit, artifacts: tuple[Artifact, ...], available: FeatureSet, host: Host | None) -> Iterator[Lack]:
    """Yield each missing feature with its first use, if possible in what is certain to be code.

    Clones and the code that selects among them are left out: a clone runs only where it can (:func:`_no_variant`).
    """
    clones = tuple(f".{label}" for artifact in artifacts for label in artifact.labels)
    beyond = [
        function for function in audit.beyond(available) if not artifacts or not _is_dispatched(function.name, clones)
    ]
    first: dict[str, FunctionNeeds] = {}
    for function in sorted(beyond, key=lambda function: not function.certain):
        for feature in function.bare - available:
            first.setdefault(feature, function)
    lacking = FeatureSet(available.arch, first)
    reasons = host.missing(lacking) if host else {}
    for feature in lacking:
        function, use = first[feature], first[feature].uses[feature][0]
        why = str(reasons.get(feature, ""))
        yield Lack(feature, why, function.name, use.place, use.address, use.instruction, function.certain)


def _unchecked(lacks: tuple[Lack, ...]) -> str:
    """Return why it may not run, empty for no reason: the audit may have missed a check, so this is not certain."""
    features = [lack.feature for lack in lacks if lack.certain]
    return f"it uses {', '.join(features)}, and the audit saw no run-time check of that" if features else ""


def _refused_by_guard(content: bytes, missing: FeatureSet) -> str:
    without = [feature for feature in missing if feature in demanded(content)]
    return f"its guard refuses to run without {', '.join(without)}" if without else ""


def _refused_by_loader(audit: Audit, available: FeatureSet) -> str:
    """Return why glibc's loader refuses a linked file, empty if it does not: it compares the level in the ISA note."""
    level = audit.note.needed if audit.note and audit.kind != "object" else ""
    if not level or level_features(available.arch, level) <= available:
        return ""
    return f"glibc's loader refuses it, because its ISA note requires {level}"


# --- artifacts of cpufeat


def _artifacts(content: bytes) -> tuple[Artifact, ...]:
    """Return the artifacts with variants that a file was linked from."""
    try:
        return tuple(artifact for artifact in Artifact.all_in(content) if artifact.dispatch)
    except ArtifactError:
        return ()


def _is_dispatched(function: str, clones: tuple[str, ...]) -> bool:
    return function.endswith(clones) or function.startswith("__cpufeat_")


def _selected(artifact: Artifact, available: FeatureSet) -> list[str]:
    """Return the label of the variant that is selected; none if the CPU runs no variant."""
    pairs = zip(artifact.labels, artifact.variants, strict=True)
    return [label for label, variant in pairs if variant.target.features.isa <= available][:1]


def _no_variant(artifact: Artifact, available: FeatureSet) -> str:
    """Return which features the CPU lacks for the variant that needs fewest of them, empty if one is selected."""
    missing = [variant.target.features.isa - available for variant in artifact.variants]
    nearest = min(range(len(missing)), key=lambda index: len(missing[index]))
    if not missing[nearest]:
        return ""
    return f"the CPU runs none of its variants: {artifact.labels[nearest]} needs {', '.join(missing[nearest])}"


def _rebuild(audit: Audit, available: FeatureSet) -> tuple[tuple[str, ...], ...]:
    """Return the CPU's level, and the variants of the file's own level and that one."""
    level = level_of(available)
    return tuple(filter(None, ((level,) if level else (), (audit.level, level) if level and audit.level else ())))
