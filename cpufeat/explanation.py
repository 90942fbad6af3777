"""Explain a detection and a resolution: a verdict in one sentence, and every fact with its evidence.

:mod:`cpufeat.cli.explain_page` lays it out for a terminal.
"""

from __future__ import annotations

from functools import cache

from cpufeat import llvm_tables, tables
from cpufeat.cpus import cpu_features
from cpufeat.decisions import DISABLED, UNSEEN
from cpufeat.detection.crosscheck import disagreements
from cpufeat.detection.detect import default_machine, detect
from cpufeat.detection.machine import Machine
from cpufeat.detection.probe import bits
from cpufeat.errors import expect
from cpufeat.features import FeatureSet, family, implied, table
from cpufeat.levels import levels
from cpufeat.request import NATIVE
from cpufeat.resolution import Resolution, resolve
from cpufeat.support.conditions import Condition
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from cpufeat.decisions import Decision, Withheld
    from cpufeat.detection.host import Host
    from cpufeat.features import Feature
    from cpufeat.resolution import OnMissing

GOOD, WARN, BAD = "good", "warn", "bad"
OTHERS, PRIVILEGED = "others", "privileged"
GENERIC = "generic"
"""A CPU that every LLVM backend knows."""


class Explanation(Value):
    """A resolution with the evidence for it."""

    origin: str
    """The recording that was read, empty for this machine."""
    resolution: Resolution
    """The request, the host, the target, and the decisions that led to it."""
    disagreements: tuple[Decision, ...]
    """The differences between the kernel's account and CPUID."""

    @property
    def verdict(self) -> str:
        """The explanation in one sentence, such as "Compile for znver4: all that the name implies runs here."."""
        return verdict(self)[0]

    def to_json(self) -> str:
        """Return every fact with its evidence as JSON text, as ``cpufeat explain --json`` prints it.

        ``docs/schemas/1/explain.json`` is its schema.
        """
        import json

        return json.dumps(to_json(self), indent=2)

    @property
    def host(self) -> Host:
        """The machine."""
        return self.resolution.host

    @property
    def faults(self) -> dict[str, Withheld]:
        """Feature -> reason, for each ISA feature that LLVM gives the CPU of the model number and that faults here."""
        return {name: why for name, why in self._missing.items() if why.reason != UNSEEN}

    @property
    def unseen(self) -> dict[str, Withheld]:
        """Feature -> reason, for each ISA feature that LLVM gives that CPU and that the source cannot show."""
        return {name: why for name, why in self._missing.items() if why.reason == UNSEEN}

    @property
    def unused(self) -> FeatureSet:
        """The ISA features usable here that the CPU of the model number lacks.

        A feature that only combines others does not count if the CPU has those: AArch64's ``crypto`` is ``aes`` and
        ``sha2``.
        """
        host, named = self.host, self._named
        if not host.named:
            return named
        known = table(host.arch)
        set_bits = {bit: name for name in named for bit in (name, *_proven(known[name]))}
        unimplied = (
            name
            for name in host.features.isa - named
            if not bits.evidence(Condition(known[name].bit or name), set_bits)
        )
        return FeatureSet(host.arch, unimplied)

    @property
    def _missing(self) -> dict[str, Withheld]:
        return {name: why for name, why in self.host.missing(self._named).items() if why.reason != DISABLED}

    @property
    def _named(self) -> FeatureSet:
        arch, named = self.host.arch, self.host.named
        if not named:
            return FeatureSet(arch)
        return (llvm_tables.cpu_features(arch, named) or cpu_features(arch, named)).isa


def _proven(feature: Feature) -> list[str]:
    """Return the bits that must be set where a feature is reported: none if several alternatives report it."""
    alternatives = feature.condition.alternatives
    return [term.text for term in alternatives[0]] if len(alternatives) == 1 else []


def explain(
    request: str | None = None, *, machine: Machine | None = None, on_missing: OnMissing = "fallback", origin: str = ""
) -> Explanation:
    """Return how a request resolves on a machine (None: this one, or that of ``CPUFEAT_MACHINE``), with all evidence.

    ``request`` and ``on_missing`` are those of :func:`~cpufeat.resolve`; ``origin`` names the file that the machine was
    read from. Raises UnknownNameError and TargetError for an invalid request, OptionError for another ``on_missing``,
    MissingFeaturesError with ``on_missing="error"``, and the errors of :func:`~cpufeat.detect`.
    """
    expect("origin", origin, str, "the name of a file, a str")
    expect("machine", machine, (Machine, type(None)), "a Machine, such as load_machine() returns, or None")
    machine = machine or default_machine()
    host = detect(machine)
    resolution = resolve(request, host=host, on_missing=on_missing)
    return Explanation(origin, resolution, disagreements(machine, host))


def verdict_without_tables(arch: str) -> str:
    """Return the verdict on a machine whose architecture has no tables."""
    return f"No tables are known for {arch}: compile for {GENERIC}, nothing can be told of the features."


OF_ANY_MACHINE = "Runs on every CPU that has these features; this machine was not looked at."
"""The verdict on a target that does not depend on a machine."""


def verdict(explanation: Explanation) -> tuple[str, str]:
    """Return the explanation in one sentence, and its severity: ``good``, ``warn`` or ``bad``."""
    host, resolution = explanation.host, explanation.resolution
    if resolution.request != NATIVE:
        return _verdict_on_request(resolution)
    if host.named not in ("", host.cpu):
        return f"Trust its features, not its model number, which says {host.named}: compile for {host.cpu}.", BAD
    if not host.named:
        return f"Its model is not known: compile for {host.cpu}, with the features that it reports.", WARN
    missing = explanation.faults or explanation.unseen
    if not missing:
        stand_in = f", a stand-in for {host.stands_for}" if host.stands_for else ""
        return f"Compile for {host.cpu}{stand_in}: all that the name implies runs here.", GOOD
    less, is_used = _most_basic(host.arch, missing), any(used_unasked(host.arch, name) for name in missing)
    if not explanation.faults:
        return f"Compile for {host.cpu}, less {less}, which {host.source} does not show.", WARN if is_used else GOOD
    dies, style = ("dies", BAD) if is_used else ("may die", WARN)
    return f"Compile for {host.cpu}, less {less}: by name alone, code {dies} here.", style


def _verdict_on_request(resolution: Resolution) -> tuple[str, str]:
    request, dropped = resolution.request, resolution.dropped
    if dropped:
        return f"{request}: granted, less {_most_basic(resolution.host.arch, dropped)}, not usable here.", WARN
    if any(decision.kind == "permission" for decision in resolution.decisions):
        return f"{request}: granted, but the process has to ask the system for a permission first.", WARN
    distrusted = [decision.subject for decision in resolution.decisions if decision.kind == "added"]
    if distrusted:
        return f"{request}: granted as asked, although {', '.join(distrusted)} cannot be trusted here.", WARN
    return f"{request}: runs here, as asked.", GOOD


def _most_basic(arch: str, names: Collection[str]) -> str:
    """Name the two features that most others imply, preferably not those that the kernel shows under another name."""
    known = table(arch)

    def rank(name: str) -> tuple[bool, int]:
        has_foreign_flag = any(flag in known for flag in known[name].spellings.get("kernel", ()))
        return has_foreign_flag, -sum(name in implied(arch, dependent) for dependent in names)

    first = sorted(names, key=rank)[:2]
    return ", ".join(first) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def used_unasked(arch: str, name: str) -> bool:
    """Whether compilers use a feature on their own (AVX), rather than only where a program calls it by name (PKU).

    They do so with what a level adds to the baseline, and with the groups that say so.
    """
    _, *above = levels(arch).values()
    return any(name in adds for adds in above) or _group(arch, name).unasked == "yes"


class Group(Value):
    """A row of ``groups.tsv``, whose header says what each column means."""

    name: str
    members: str
    unasked: str

    def has(self, name: str, implies: frozenset[str]) -> bool:
        """Whether a feature belongs to the group, by its name and all that it implies."""
        starts = tuple(member[:-1] for member in self.members.split() if member.endswith("*"))
        return not implies.isdisjoint(self.members.split()) or name.startswith(starts)


@cache
def groups(arch: str) -> tuple[Group, ...]:
    """Return the groups of features that belong to no level."""
    return tuple(Group(*row) for row in tables.rows(f"{family(arch)}/groups.tsv"))


def _group(arch: str, name: str) -> Group:
    implies = implied(arch, name)
    return next((group for group in reversed(groups(arch)) if group.has(name, implies)), Group(OTHERS, "", ""))


def heading(arch: str, name: str) -> str:
    """Return the heading for a feature that belongs to no level."""
    return PRIVILEGED if table(arch)[name].kind == PRIVILEGED else _group(arch, name).name


# --- JSON


def to_json(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation as a value for :func:`json.dumps`: every fact with its evidence, nothing grouped."""
    host, target = explanation.host, explanation.resolution.target
    return {
        "verdict": verdict(explanation)[0],
        "origin": explanation.origin,
        "source": host.source,
        "states": {"enabled": list(host.states), "evidence": host.states_evidence},
        **identity(host),
        "features": {name: host.evidence[name] for name in host.features},
        "withheld": {name: {"reason": why.reason, "evidence": why.evidence} for name, why in host.withheld.items()},
        "request": explanation.resolution.request,
        "target": {
            "triple": target.triple,
            "cpu": target.cpu,
            "features": list(target.features),
            "options": list(target.options),
            "level": target.level,
        },
        "decisions": [
            {key: getattr(decision, key) for key in ("kind", "subject", "reason", "evidence")}
            for decision in (*host.decisions, *explanation.resolution.decisions, *explanation.disagreements)
        ],
        "trusting_the_name": {
            "cpu": host.named,
            "faults": list(explanation.faults),
            "unseen": list(explanation.unseen),
            "unused": list(explanation.unused),
        },
    }


def identity(host: Host) -> dict[str, Any]:
    """Return a machine's identity, without its features."""
    about = ("arch", "system", "libc", "vendor", "family", "model", "stepping", "brand", "name", "hypervisor")
    keys = (*about, "cpu", "stands_for")
    cores = [{"cpu": core.cpu, "count": core.count, "stands_for": core.stands_for} for core in host.cores]
    return {**{key: getattr(host, key) for key in keys}, "cores": cores, "level": host.level}
