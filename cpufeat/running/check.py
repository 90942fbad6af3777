"""Will a file run there: what its instructions use against what a machine, or a CPU, has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.artifact import Artifact
from cpufeat.aot.runtime.guard_table import demanded
from cpufeat.auditing.auditor import audit_content
from cpufeat.auditing.formats.loader import content_of, loads
from cpufeat.detection.host import detect
from cpufeat.errors import ArtifactError, AuditError, TargetError, UnknownNameError
from cpufeat.features import FeatureSet
from cpufeat.levels import level_features, level_of
from cpufeat.support.value import Value
from cpufeat.tables import architecture, rows
from cpufeat.target import Target

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from cpufeat.auditing.report import Audit, FunctionNeeds
    from cpufeat.detection.host import Host

_ALSO_RUNS = {"x86_64": ("i686",)}
"""Architectures whose CPUs run the code of another one as well."""


class Lack(Value):
    """A feature that a file uses, and that is not there."""

    feature: str
    why: str
    """Why it is not there, empty if nothing can be said."""
    function: str
    """The first that uses it."""
    place: str
    """Of the first instruction that does: section and offset, ``.text+0x40``."""
    address: int
    """The same; in an object, one that the audit made up."""
    instruction: str
    certain: bool
    """False where that may be data, by its looks."""


class Check(Value):
    """Whether a file runs on a machine or CPU, and why not."""

    file: str
    on: str
    runs: bool
    certain: bool = True
    """False where it may run all the same: it uses what is not there, and all that is known is that no check was seen
    (``docs/audit.md`` says what an audit cannot see)."""
    reasons: tuple[str, ...] = ()
    """Why it does not: ``its guard lets nothing run without avx2, fma``."""
    lacks: tuple[Lack, ...] = ()
    """What it uses there with no run-time check that was seen, and each first use."""
    guarded: tuple[str, ...] = ()
    """Features that are not there and that it uses, but only behind run-time checks."""
    variants: tuple[str, ...] = ()
    """Of each artifact with variants that it was linked from, the one that is chosen there."""
    rebuild: tuple[tuple[str, ...], ...] = ()
    """What to compile it for instead: each a single target, or variants, best first."""


def check(file: str | os.PathLike[str], on: Host | str | None = None) -> Check:
    """Return whether a file runs on a machine (this one, if None), or on a CPU or level that a request names.

    It is judged by its instructions (:func:`cpufeat.audit`), by those that are reached without a run-time check of the
    CPU. Raises AuditError for what is no binary or has members of several architectures where only a CPU is given,
    OSError, and UnknownNameError and TargetError for a request that makes no sense.
    """
    content, name = content_of(file)
    audited = audit_content(content, name)
    if isinstance(on, str):
        if not audited.arch:
            raise AuditError(f"{audited.name}: of several architectures: which one is meant?")
        try:
            target = Target.parse(on, _triple(audited.arch))
        except UnknownNameError:
            elsewhere = _family_with(on)
            if not elsewhere:
                raise
            return _of_another_architecture(audited, on, elsewhere)
        return _judged(audited, target.features, content, on, None)
    host = on or detect()
    member = _of_architecture(audited, host.arch)
    if member is None:
        return _of_another_architecture(audited, called(host), host.arch)
    return _judged(member, FeatureSet(member.arch, host.features.names), content, called(host), host)


def called(host: Host) -> str:
    """Return what people call a machine, and its CPU's name to LLVM."""
    known_as = host.name or host.brand
    return f"{known_as} ({host.cpu})" if known_as else host.cpu


def _triple(arch: str) -> str:
    return f"{architecture(arch).triple}-unknown-linux-gnu"


def _family_with(request: str) -> str:
    """Return the first family of architectures that has the CPU or level of a request, empty if none has."""
    for arch, *_ in rows("architectures.tsv"):
        try:
            Target.parse(request, _triple(arch))
        except (TargetError, UnknownNameError):
            continue
        return architecture(arch).family
    return ""


def _of_another_architecture(audited: Audit, on: str, there: str) -> Check:
    archs = dict.fromkeys(one.arch for one in (audited, *audited.members) if one.arch)
    return Check(audited.name, on, runs=False, reasons=(f"it is for {', '.join(archs)}, and that is {there}",))


def _of_architecture(audited: Audit, arch: str) -> Audit | None:
    """Return the audit of what is for an architecture: the file's, or of a universal binary the member's."""
    wanted = (arch, *_ALSO_RUNS.get(arch, ()))
    candidates = [one for one in (audited, *audited.members) if one.arch in wanted]
    return min(candidates, key=lambda one: wanted.index(one.arch), default=None)


def _judged(audited: Audit, there: FeatureSet, content: bytes, on: str, host: Host | None) -> Check:
    artifacts = _artifacts(content)
    lacks = tuple(_lacks(audited, artifacts, there, host))
    missing = (audited.needs or there) - there
    refusals = (
        _refused_by_loader(audited, there),
        *([_without_variant(artifact, there) for artifact in artifacts] or [_refused_by_guard(content, missing)]),
    )
    unchecked = _unchecked(lacks)
    certain = tuple(filter(None, (_other_system(audited, host), *refusals)))
    reasons = (*certain, unchecked) if unchecked else certain
    return Check(
        file=audited.name,
        on=on,
        runs=not reasons,
        certain=bool(certain) or not reasons,
        reasons=reasons,
        lacks=lacks,
        guarded=tuple(missing - FeatureSet(there.arch, (lack.feature for lack in lacks))),
        variants=tuple(variant for artifact in artifacts for variant in _chosen(artifact, there)),
        rebuild=_rebuild(audited, there) if any(refusals) or unchecked else (),
    )


def _other_system(audited: Audit, host: Host | None) -> str:
    if host is None or loads(host.system, audited.format):
        return ""
    return f"it is {audited.format}, which {host.system} does not load"


def _lacks(audited: Audit, artifacts: tuple[Artifact, ...], there: FeatureSet, host: Host | None) -> Iterator[Lack]:
    """Yield each feature that is missing, and its first use, in what is surely code if there is any.

    Clones are left out, and what chooses among them: they run where they can (:func:`_without_variant`).
    """
    clones = tuple(f".{label}" for artifact in artifacts for label in artifact.labels)
    beyond = [one for one in audited.beyond(there) if not artifacts or not _is_dispatched(one.name, clones)]
    first: dict[str, FunctionNeeds] = {}
    for function in sorted(beyond, key=lambda one: not one.certain):
        for feature in function.bare - there:
            first.setdefault(feature, function)
    for feature in FeatureSet(there.arch, first):
        function, use = first[feature], first[feature].uses[feature][0]
        why = str(host.why_missing(feature)) if host else ""
        yield Lack(feature, why, function.name, use.place, use.address, use.instruction, function.certain)


def _unchecked(lacks: tuple[Lack, ...]) -> str:
    """Return what may be against it: that no check was seen proves no more than that."""
    surely = [lack.feature for lack in lacks if lack.certain]
    return f"it uses {', '.join(surely)}, and no run-time check of that was seen" if surely else ""


def _refused_by_guard(content: bytes, missing: FeatureSet) -> str:
    without = [feature for feature in missing if feature in demanded(content)]
    return f"its guard lets nothing run without {', '.join(without)}" if without else ""


def _refused_by_loader(audited: Audit, there: FeatureSet) -> str:
    """Return what glibc's loader has against a linked file, which it judges by the level that a note says it needs."""
    level = audited.note.needed if audited.note and audited.kind != "object" else ""
    if not level or level_features(there.arch, level) <= there:
        return ""
    return f"glibc's loader refuses it, since its ISA note says that it needs {level}"


# --- cpufeat's own


def _artifacts(content: bytes) -> tuple[Artifact, ...]:
    """Return the artifacts with variants that a file was linked from."""
    try:
        return tuple(one for one in Artifact.all_in(content) if one.dispatch)
    except ArtifactError:
        return ()


def _is_dispatched(function: str, clones: tuple[str, ...]) -> bool:
    return function.endswith(clones) or function.startswith("__cpufeat_")


def _chosen(artifact: Artifact, there: FeatureSet) -> list[str]:
    """Return the label of the variant that is chosen, if one is."""
    pairs = zip(artifact.labels, artifact.variants, strict=True)
    return [label for label, variant in pairs if variant.target.features.isa <= there][:1]


def _without_variant(artifact: Artifact, there: FeatureSet) -> str:
    """Return what the variant that is nearest to being chosen lacks, empty if one is chosen."""
    missing = [variant.target.features.isa - there for variant in artifact.variants]
    least = min(range(len(missing)), key=lambda index: len(missing[index]))
    return f"it lacks {', '.join(missing[least])} for its variant {artifact.labels[least]}" if missing[least] else ""


def _rebuild(audited: Audit, there: FeatureSet) -> tuple[tuple[str, ...], ...]:
    """Return the level there, and that with the file's own level as the better variant."""
    level = level_of(there)
    return tuple(filter(None, ((level,) if level else (), (audited.level, level) if level and audited.level else ())))
