"""A request against a host: the target granted, and a decision for each thing that was changed."""

from __future__ import annotations

import os

from cpufeat.cpus import NATIVE, base_features
from cpufeat.decisions import DISABLED, NEEDS_PERMISSION, Decision, Withheld
from cpufeat.detection.host import Host, detect
from cpufeat.errors import CpufeatWarning, MissingFeaturesError, TargetError
from cpufeat.features import FeatureSet, find, implied
from cpufeat.request import Request, parse
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.target import Target, options, wanted

if TYPE_CHECKING:
    from typing import Literal

    OnMissing = Literal["fallback", "error"]

TARGET_VARIABLE = "CPUFEAT_TARGET"
DISABLE_VARIABLE = "CPUFEAT_DISABLE"


class Resolution(Value):
    """What was asked, of which host, what is granted, and why it differs."""

    request: str
    host: Host
    target: Target
    decisions: tuple[Decision, ...] = ()

    @property
    def dropped(self) -> dict[str, str]:
        """The features asked for that the host cannot run, and why."""
        return {decision.subject: decision.reason for decision in self.decisions if decision.kind == "dropped"}


_granted: dict[str | None, Target] = {}


def target_for_host(request: str | None = None, *, on_missing: OnMissing = "fallback") -> Target:
    """Return what to compile for on this machine.

    ``request`` is ``native``, a level, a CPU, with changes (:mod:`cpufeat.request`); None is ``CPUFEAT_TARGET`` or
    else ``native``. The machine and the environment are read once; an answer that left nothing out is kept for the
    next call. What the host lacks is left out with a CpufeatWarning, or with ``on_missing="error"`` raised as
    MissingFeaturesError. Raises UnknownNameError and TargetError for a request that makes no sense.
    """
    if request in _granted:
        return _granted[request]
    resolution = resolve(request, on_missing=on_missing)
    if not resolution.dropped:
        _granted[request] = resolution.target
    return resolution.target


def resolve(request: str | None = None, *, host: Host | None = None, on_missing: OnMissing = "fallback") -> Resolution:
    """Return the target that a request comes to on a host (this machine, if None), with the decisions made.

    Requests, fallback and errors are those of :func:`target_for_host`.
    """
    if on_missing not in ("fallback", "error"):
        raise TargetError(f'on_missing is {on_missing!r}, not "fallback" or "error"')
    decisions: list[Decision] = []
    host = disable(host or detect(), decisions)
    parsed = parse(_requested(request, decisions), host.arch)
    base = host.features if parsed.base == NATIVE else base_features(host.arch, parsed.base)
    asked = wanted(parsed, base)
    decisions.extend(_also_removed(parsed, base))
    permitted = _permitted(parsed, host, decisions)
    usable = FeatureSet(host.arch, host.features.names | permitted)
    missing = {name: host.why_missing(name) for name in (asked - usable).isa}
    if missing and on_missing == "error":
        raise MissingFeaturesError(parsed.text, {name: str(why) for name, why in missing.items()})
    decisions.extend(Decision("dropped", name, why.reason, why.evidence) for name, why in missing.items())
    cpu = host.cpu if parsed.base == NATIVE else parsed.base
    target = Target(host.triple, cpu, asked & usable, options(parsed))
    if missing:
        _warn(parsed, missing)
    return Resolution(parsed.text, host, target, tuple(decisions))


def _requested(request: str | None, decisions: list[Decision]) -> str:
    if request is not None:
        return request
    named = os.environ.get(TARGET_VARIABLE, "").strip()
    if named:
        decisions.append(Decision("environment", named, "is the target, since nothing else was asked", TARGET_VARIABLE))
    return named or NATIVE


def disable(host: Host, decisions: list[Decision]) -> Host:
    """Return the host without what ``CPUFEAT_DISABLE`` lists, and what rests on it; each is one more of the decisions.

    Names stand between commas or spaces. Raises UnknownNameError.
    """
    spellings = os.environ.get(DISABLE_VARIABLE, "").replace(",", " ").split()
    if not spellings:
        return host
    names = [find(host.arch, spelling).name for spelling in spellings]
    left = host.features.without(names)
    gone = host.features - left
    for name in gone:
        listed = ", ".join(sorted(implied(host.arch, name).intersection(names)))
        reason = DISABLED if name in names else f"{DISABLED}, it rests on {listed}"
        decisions.append(Decision("environment", name, reason, DISABLE_VARIABLE))
    if not gone:
        return host
    withheld = {**host.withheld_reported, **{name: Withheld(DISABLED, DISABLE_VARIABLE) for name in gone}}
    return host.replace(features=left, withheld_reported=withheld)


def _also_removed(request: Request, base: FeatureSet) -> list[Decision]:
    """What a ``-f`` took along."""
    removed = {feature.name for sign, feature in request.changes if sign == "-"}
    if not removed:
        return []
    return [
        Decision("removed", name, f"rests on {', '.join(sorted(rests_on))}, which was removed", request.text)
        for name in wanted(request.replace(changes=_additions(request)), base) - wanted(request, base)
        if name not in removed and (rests_on := implied(base.arch, name) & removed)
    ]


def _additions(request: Request) -> tuple[tuple[str, object], ...]:
    return tuple(change for change in request.changes if change[0] == "+")


def _permitted(request: Request, host: Host, decisions: list[Decision]) -> frozenset[str]:
    """What may be used after asking the system, and was asked for by name."""
    named = [implied(host.arch, feature.name) for sign, feature in request.changes if sign == "+"]
    withheld = host.withheld_reported
    granted = frozenset(
        name for names in named for name in names if name in withheld and withheld[name].reason == NEEDS_PERMISSION
    )
    for name in FeatureSet(host.arch, granted):
        reason = "granted as asked; the process must get the permission before it runs such code"
        decisions.append(Decision("permission", name, reason, withheld[name].evidence))
    return granted


def _warn(request: Request, missing: dict[str, Withheld]) -> None:
    import warnings

    listed = "; ".join(f"{name}: {why}" for name, why in missing.items())
    message = f"{request.text}: left out what this host cannot run ({listed})"
    package = os.path.dirname(__file__)
    warnings.warn(message, CpufeatWarning, stacklevel=_frames_inside(package))


def _frames_inside(package: str) -> int:
    """The stack level of the first caller outside this package: the line that a person can change."""
    import sys

    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level
