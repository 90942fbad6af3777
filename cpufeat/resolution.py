"""Resolve a request against a host: the target that is granted, and a decision for everything that was changed."""

from __future__ import annotations

import os

from cpufeat.decisions import CLEARED, DISABLED, ERRATUM, NEEDS_PERMISSION, Decision, Withheld
from cpufeat.detection.detect import detect
from cpufeat.detection.host import Host
from cpufeat.errors import FromVariable, MissingFeaturesError, expect, one_of, warn
from cpufeat.features import FeatureSet, find, implied
from cpufeat.request import NATIVE, parse, wanted
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from cpufeat.request import Request, Wanted

    OnMissing = Literal["fallback", "error"]

ON_MISSING = ("fallback", "error")
TARGET_VARIABLE = "CPUFEAT_TARGET"
DISABLE_VARIABLE = "CPUFEAT_DISABLE"
_ON_REQUEST = {
    NEEDS_PERMISSION: ("permission", "granted as asked; the process must get the permission before it runs such code"),
    CLEARED: ("added", "granted as asked, although the kernel cleared it"),
    ERRATUM: ("added", "granted as asked, in spite of an erratum"),
}
"""The reasons for which a feature is withheld unless a request names it: the decision's kind and its reason."""


class Resolution(Value):
    """A request, the host, the target granted, and why that differs from the request."""

    request: str
    """The request as given, or its default."""
    host: Host
    """The machine, without the features in ``CPUFEAT_DISABLE``."""
    target: Target
    """The target to compile for: it runs on the host."""
    decisions: tuple[Decision, ...] = ()
    """What was changed about the request, each change with its reason and evidence."""

    @property
    def dropped(self) -> dict[str, str]:
        """Feature -> the reason, for each requested feature that the host cannot run."""
        return {decision.subject: decision.reason for decision in self.decisions if decision.kind == "dropped"}


_granted: dict[tuple[str | None, str], Target] = {}


def target_for_host(request: str | None = None, *, on_missing: OnMissing = "fallback") -> Target:
    """Return the target to compile for on this machine.

    ``request`` is ``native``, a level or a CPU, with changes (:mod:`cpufeat.request`); None is the request in
    ``CPUFEAT_TARGET``, or else ``native``. Features that the host lacks are left out with a CpufeatWarning, or raise
    MissingFeaturesError with ``on_missing="error"``. A target that left nothing out is kept for the next call, so that
    the machine and the environment are read once; after a change of either (of ``CPUFEAT_MACHINE``, say),
    ``resolve(request).target`` is the new one. Raises UnknownNameError and TargetError for an invalid request,
    OptionError for another ``on_missing``, and the errors of :func:`~cpufeat.detect`.
    """
    try:
        kept = _granted.get((request, on_missing))
    except TypeError:  # a list, say: resolve() tells what is wrong with it
        kept = None
    if kept is not None:
        return kept
    resolution = resolve(request, on_missing=on_missing)
    if not resolution.dropped:
        _granted[request, on_missing] = resolution.target
    return resolution.target


def resolve(request: str | None = None, *, host: Host | None = None, on_missing: OnMissing = "fallback") -> Resolution:
    """Return the target that a request resolves to on a host (None: this machine), with the decisions made.

    ``request`` and ``on_missing`` are those of :func:`~cpufeat.target_for_host`. Raises UnknownNameError and
    TargetError for an invalid request, OptionError for another ``on_missing``, MissingFeaturesError with
    ``on_missing="error"``, and without ``host`` the errors of :func:`~cpufeat.detect`.
    """
    one_of("on_missing", on_missing, ON_MISSING)
    expect("request", request, (str, type(None)), "a level or a CPU with +feature and -feature, a str, or None")
    expect("host", host, (Host, type(None)), "a Host or None")
    host, disabled = disable(host or detect())
    text, from_environment = _text(request)
    with FromVariable(TARGET_VARIABLE if from_environment else ""):
        parsed = parse(text, host.arch)
        cpu, base = _base(parsed, host)
        requested = wanted(parsed, base)
    permitted = _permitted(parsed, host)
    usable = host.features | permitted
    missing = host.missing((requested.features - usable).isa)
    asked = f"{TARGET_VARIABLE}={text}" if from_environment else text
    if missing and on_missing == "error":
        raise MissingFeaturesError(asked, {name: str(why) for name, why in missing.items()})
    target = Target(host.triple, cpu, requested.features & usable, parsed.options)
    if missing:
        _warn(asked, missing)
    changed = (
        *corrections(parsed, requested),
        *removals(text, requested),
        *_permissions(host, permitted),
        *_drops(missing),
    )
    return Resolution(text, host, target, (*disabled, *from_environment, *changed))


def _base(request: Request, host: Host) -> tuple[str, FeatureSet]:
    """Return the CPU that a request starts from, and its features."""
    if request.is_native:
        return host.cpu, host.features
    from cpufeat.cpus import base_features

    return request.base, base_features(host.arch, request.base)


def disable(host: Host) -> tuple[Host, tuple[Decision, ...]]:
    """Return the host without the features in ``CPUFEAT_DISABLE`` and all that depend on them, and a decision for each.

    Commas or spaces separate the names. Raises UnknownNameError.
    """
    spellings = os.environ.get(DISABLE_VARIABLE, "").replace(",", " ").split()
    with FromVariable(DISABLE_VARIABLE):
        names = {find(host.arch, spelling).name for spelling in spellings}
    remaining = host.features.without(names) if names else host.features
    removed = host.features - remaining
    if not removed:
        return host, ()
    withheld = {**host.withheld_reported, **{name: Withheld(DISABLED, DISABLE_VARIABLE) for name in removed}}
    return host.replace(features=remaining, withheld_reported=withheld), tuple(_disablements(removed, names))


def _disablements(removed: FeatureSet, names: set[str]) -> Iterator[Decision]:
    for name in removed:
        causes = ", ".join(sorted(implied(removed.arch, name) & names))
        reason = DISABLED if name in names else f"{DISABLED}, it depends on {causes}"
        yield Decision("environment", name, reason, DISABLE_VARIABLE)


def _text(request: str | None) -> tuple[str, tuple[Decision, ...]]:
    """Return the request or its default, with a decision if the environment provided it."""
    if request is not None:
        return request, ()
    named = os.environ.get(TARGET_VARIABLE, "").strip()
    if not named:
        return NATIVE, ()
    return named, (Decision("environment", named, "is the target, since nothing else was asked", TARGET_VARIABLE),)


def _permitted(request: Request, host: Host) -> FeatureSet:
    """Return the features named in a request that would not fault: distrusted, or usable once the system is asked."""
    named = [name for sign, feature in request.changes if sign == "+" for name in implied(host.arch, feature.name)]
    withheld = host.withheld_reported
    return FeatureSet(host.arch, [name for name in named if name in withheld and withheld[name].reason in _ON_REQUEST])


def corrections(request: Request, requested: Wanted) -> Iterator[Decision]:
    """Yield a decision for each feature that LLVM gives the CPU of a request and that this counts as lacking."""
    if request.is_native:
        return
    from cpufeat.cpus import correction

    row = correction(requested.features.arch, request.base)
    for name in row.lacks.split():
        if name not in requested.features.names:
            yield Decision("removed", name, f"{request.base} counts as lacking it, to which LLVM gives it", row.source)


def removals(text: str, requested: Wanted) -> Iterator[Decision]:
    """Yield a decision for each feature that a request loses with one that it removes."""
    for name, causes in requested.also_removed.items():
        yield Decision("removed", name, f"depends on {', '.join(causes)}, which was removed", text)


def _permissions(host: Host, permitted: FeatureSet) -> Iterator[Decision]:
    for name in permitted:
        why = host.withheld_reported[name]
        kind, reason = _ON_REQUEST[why.reason]
        yield Decision(kind, name, reason, why.evidence)


def _drops(missing: dict[str, Withheld]) -> Iterator[Decision]:
    for name, why in missing.items():
        yield Decision("dropped", name, why.reason, why.evidence)


def _warn(text: str, missing: dict[str, Withheld]) -> None:
    listed = "; ".join(f"{name}: {why}" for name, why in missing.items())
    warn(f"{text}: left out what this host cannot run ({listed})")
