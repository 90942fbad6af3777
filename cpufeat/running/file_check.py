"""Judge one file by itself: compare what its code needs with the features of a machine or CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.artifact import Artifact
from cpufeat.aot.runtime.guard_table import demanded
from cpufeat.auditing.checks.exposure import UNREFERRED as NOT_REFERRED
from cpufeat.auditing.formats.loader import loads
from cpufeat.auditing.report import AT_LOAD, UNREFERRED, UNUSED
from cpufeat.errors import ArtifactError
from cpufeat.features import FeatureSet
from cpufeat.levels import level_features, level_of
from cpufeat.running.payloads import payloads
from cpufeat.support.value import Value
from cpufeat.support.verdict import CANNOT_TELL, MAY_NOT_RUN, RUNS, WILL_NOT_RUN, worst

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.auditing.report import Audit, FunctionNeeds
    from cpufeat.detection.host import Host

_MAX_NAMED = 3
"""Members or places that a reason names."""


class Lack(Value):
    """A feature that a file uses and that the machine or CPU lacks."""

    feature: str
    """Its name (``avx512vnni``)."""
    why: str
    """The reason why the machine lacks it, empty if unknown."""
    function: str
    """The first function that uses it."""
    reached: str
    """How that function is reached: ``the entry point``, ``exported``, ``nothing is seen to refer to it``."""
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
    """The path as given; for a member of an archive or universal binary, ``FILE(MEMBER)``."""
    on: str
    """The machine's name, or the request for a CPU."""
    verdict: str
    """``runs``: every byte of code that can be reached was decoded, and nothing missing is used. ``will not run``: a
    guard, the loader or the system is known to refuse it. ``may not run``: it uses a missing feature, and no run-time
    check of that was seen; the audit may have missed one (``docs/explanation/audit.md`` says which). ``cannot tell``:
    something that matters could not be looked at."""
    reasons: tuple[str, ...] = ()
    """The reasons for any verdict but ``runs``: ``its guard refuses to run without avx2, fma``."""
    lacks: tuple[Lack, ...] = ()
    """The missing features that it uses without a run-time check that the audit saw."""
    guarded: tuple[str, ...] = ()
    """The missing features that it uses only behind run-time checks."""
    variants: tuple[str, ...] = ()
    """The variant that is selected there, of each artifact with variants in the file."""
    rebuild: tuple[tuple[str, ...], ...] = ()
    """The targets to compile the file for instead, best first: each item is one target, or a list of variants."""
    libraries: tuple[Check, ...] | None = None
    """The check of each file that it loads, in the order of loading; None if those were not looked at."""
    system_libraries: tuple[str, ...] = ()
    """The parts of Windows or macOS that it loads. They are not looked at: they run wherever the system does."""
    may_load: tuple[str, ...] = ()
    """The names of libraries in constants of files that call ``dlopen``: it may load these too; not looked at."""


def check_file(audit: Audit, content: bytes, available: FeatureSet, on: str, host: Host | None) -> Check:
    """Return whether the code of a file, or of a member of it, runs where those features are ``available``.

    ``content`` is that of the whole file; ``on`` is the name of the machine or CPU; ``host`` is None for a CPU.
    """
    artifacts = _artifacts(content)
    lacks = tuple(_lacks(audit, artifacts, available, host))
    missing = (audit.needs or available) - available
    refusals = (
        _refused_by_loader(audit, available),
        *([_no_variant(artifact, available) for artifact in artifacts] or [_refused_by_guard(content, missing)]),
    )
    findings = [
        *((WILL_NOT_RUN, reason) for reason in (_other_system(audit, host), *refusals)),
        (MAY_NOT_RUN, _unchecked(lacks)),
        *((CANNOT_TELL, reason) for reason in (*_not_seen(audit, available.arch, lacks), *payloads(content))),
    ]
    reasons = [(verdict, reason) for verdict, reason in findings if reason]
    is_refused = any(refusals) or any(verdict == MAY_NOT_RUN for verdict, _ in reasons)
    return Check(
        file=audit.name,
        on=on,
        verdict=worst([RUNS, *(verdict for verdict, _ in reasons)]),
        reasons=tuple(reason for _, reason in reasons),
        lacks=lacks,
        guarded=tuple((missing & _checked(audit)) - FeatureSet(available.arch, (lack.feature for lack in lacks))),
        variants=tuple(variant for artifact in artifacts for variant in _selected(artifact, available)),
        rebuild=_rebuild(audit, available) if is_refused else (),
    )


def _checked(audit: Audit) -> FeatureSet:
    """Return the features that functions, in members too, use behind run-time checks."""
    functions = [function for part in (audit, *audit.members) for function in part.functions]
    return FeatureSet(audit.arch, {name for each in functions if each.reached != UNUSED for name in each.uses})


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
    for function in sorted(beyond, key=_doubt):
        for feature in function.bare - available:
            first.setdefault(feature, function)
    lacking = FeatureSet(available.arch, first)
    reasons = host.missing(lacking) if host else {}
    for feature in lacking:
        function, use = first[feature], first[feature].uses[feature][0]
        why = str(reasons.get(feature, ""))
        yield Lack(feature, why, function.name, function.why, use.place, use.address, use.instruction, function.certain)


def _doubt(function: FunctionNeeds) -> tuple[bool, bool, bool]:
    """Return a key that sorts functions: what is certain to be code, and to run, comes first."""
    return not function.certain, function.reached == UNREFERRED, function.reached != AT_LOAD


def _unchecked(lacks: tuple[Lack, ...]) -> str:
    """Return why it may not run, empty for no reason: the audit may have missed a check, so this is not certain."""
    certain = [lack for lack in lacks if lack.certain]
    unreferred = [lack.feature for lack in certain if NOT_REFERRED.how in lack.reached]
    used = [lack.feature for lack in certain if lack.feature not in unreferred]
    reasons = [f"it uses {', '.join(used)}, and the audit saw no run-time check of that"] if used else []
    if unreferred:
        reasons.append(f"it has functions that use {', '.join(unreferred)}, to which nothing is seen to refer")
    return "; ".join(reasons)


def _not_seen(audit: Audit, arch: str, lacks: tuple[Lack, ...]) -> Iterator[str]:
    """Yield what of a file's code for an architecture could not be judged."""
    if not audit.instructions:
        yield "there is no code in it"
    if audit.skipped:
        yield f"members of it are no binaries: {_named(audit.skipped)}"
    unknown = audit.reached_unknown(arch)
    if unknown:
        yield f"the code that is reached at {_named([code.place for code in unknown])} is not known"
    features = [lack.feature for lack in lacks if not lack.certain]
    if features:
        yield f"parts of it may be data, or code that uses {', '.join(features)}"


def _named(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


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
