"""Render an explanation as lines of text: sections of labelled rows, the most important first."""

from __future__ import annotations

import re

from cpufeat.cli.layout import LABEL, WIDTH, row, section_heading, wrapped
from cpufeat.decisions import Withheld
from cpufeat.detection import unreported
from cpufeat.detection.arch.identity import described
from cpufeat.explain import OTHERS, PRIVILEGED, Explanation, groups, heading, verdict
from cpufeat.features import HARDWARE, FeatureSet, family, table
from cpufeat.levels import ladder, level_features, levels
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cpufeat.cli.layout import Line
    from cpufeat.decisions import Decision
    from cpufeat.detection.host import Host

_MAX_LACKING = 8
"""The number of features named that a level still lacks."""


def page(explanation: Explanation) -> list[Line]:
    """Return the lines of an explanation."""
    sections = (_summary, _target, _decisions, _contradiction, _name, _withheld, _disagreements, _machine, _features)
    lines: list[Line] = []
    for section in sections:
        section_lines = list(section(explanation))
        if section_lines:
            lines += [*([[]] if lines else []), *section_lines]
    return lines


# --- sections


def _summary(explanation: Explanation) -> Iterator[Line]:
    host = explanation.host
    sentence, style = verdict(explanation)
    guest = f", a guest of {host.hypervisor}" if host.hypervisor else ""
    yield from wrapped(f"{host.brand or host.name or described(host.arch, vars(host))}{guest}", "title")
    yield from wrapped(sentence, style)


def _target(explanation: Explanation) -> Iterator[Line]:
    target, arch = explanation.resolution.target, explanation.host.arch
    beyond = len(target.features) - len(level_features(arch, target.level)) if target.level else 0
    of_level = f"all of {target.level}" if target.level else f"less than {ladder(target.features)[1][0]}"
    yield from section_heading("Compile for", f"request: {explanation.resolution.request}")
    yield from row("cpu", target.cpu, "title", "LLVM's name, for tuning only")
    yield from row("features", f"{len(target.features)}: {of_level}" + (f" and {beyond} more" if beyond else ""))
    if target.options:
        yield from row("options", " ".join(target.options))
    yield from row("triple", target.triple)


def _decisions(explanation: Explanation) -> Iterator[Line]:
    resolution = explanation.resolution
    decisions = resolution.decisions
    dropped = {step.subject: Withheld(step.reason, step.evidence) for step in decisions if step.kind == "dropped"}
    changes = [decision for decision in decisions if decision.kind != "dropped"]
    if dropped or changes:
        yield from section_heading("Changes to the request")
    yield from _decision_rows(changes, resolution.request)
    if dropped:
        yield from wrapped("Left out, because this machine cannot use them:", "", 2)
        yield from _by_reason(dropped, "warn")


def _contradiction(explanation: Explanation) -> Iterator[Line]:
    for decision in explanation.host.decisions:
        yield from section_heading("Contradiction" if explanation.host.named else "Unknown model")
        yield from wrapped(f"{decision.reason}.", "warn", 2)


def _name(explanation: Explanation) -> Iterator[Line]:
    host, faults = explanation.host, explanation.faults
    if faults or explanation.unseen or explanation.unused:
        yield from section_heading(f"If code is compiled for {host.named} by name")
    if faults:
        yield from wrapped("It may use these features, which fault here (SIGILL):", "", 2)
        yield from _by_reason(faults, "bad")
    if faults and explanation.unseen:
        yield from wrapped("It may also use these, whose presence is unknown:", "", 2)
    if explanation.unseen:
        yield from _by_reason(explanation.unseen, "warn")
    if explanation.unused:
        yield from row("would not use", " ".join(explanation.unused), "warn")


def _withheld(explanation: Explanation) -> Iterator[Line]:
    host = explanation.host
    shown_above = {*explanation.faults, *explanation.unseen}
    withheld = {name: why for name, why in host.withheld.items() if name not in shown_above}
    if withheld:
        yield from section_heading("Also withheld" if shown_above else "Withheld")
        yield from _by_reason(withheld, "warn")


def _disagreements(explanation: Explanation) -> Iterator[Line]:
    if explanation.disagreements:
        yield from section_heading("CPUID and the kernel disagree", "CPUID is used")
        yield from _decision_rows(explanation.disagreements)


def _machine(explanation: Explanation) -> Iterator[Line]:
    host = explanation.host
    several = len(host.cores) > 1
    cores = " + ".join(f"{core.count} {core.cpu}" if several else str(core.count) for core in host.cores)
    yield from section_heading("Machine")
    if explanation.origin:
        yield from row("recorded in", explanation.origin)
    if host.brand:
        yield from row("brand", host.brand, "", _leaf(host, "80000002-80000004"))
    yield from row("model", described(host.arch, vars(host), in_full=True), "", _leaf(host, "0, 1"))
    by_model = f"{host.named} by its model number; see above" if host.named else "unknown; see above"
    yield from row("known as", host.name or by_model, "", f"data/{family(host.arch)}/models.tsv" if host.named else "")
    yield from row("processors", cores)
    if host.hypervisor:
        yield from row("guest of", host.hypervisor, "", _leaf(host, "40000000"))
    if host.states_evidence:
        yield from row("register state", " ".join(host.states) or "SSE only", "", host.states_evidence)


def _features(explanation: Explanation) -> Iterator[Line]:
    host = explanation.host
    yield from section_heading("Features", f"{len(host.features)} usable, read from {host.source}")
    reached, above = ladder(host.features)
    shown = {level: FeatureSet(host.arch, levels(host.arch)[level]) for level in reached + above}
    for level, adds in shown.items():
        present, lacking = host.features & adds, list(adds - host.features)
        if present:
            yield from row(level, " ".join(present), label_style="" if lacking else "good")
        if lacking:
            omitted = f" and {len(lacking) - _MAX_LACKING} more" if len(lacking) > _MAX_LACKING else ""
            yield from row("" if present else level, f"lacks {' '.join(lacking[:_MAX_LACKING])}{omitted}", "note")
    in_levels = frozenset().union(*(adds.names for adds in shown.values()))
    for label, names in _grouped(host.features, in_levels).items():
        if names:
            yield from row(label, " ".join(names))


# --- shared by the sections


def _leaf(host: Host, leaf: str) -> str:
    """Return the source of the identity, empty if the source reports feature bits only."""
    if host.source in unreported.BITS:
        return ""
    return f"CPUID {leaf}" if host.source == "CPUID" else host.source


def _grouped(features: FeatureSet, in_levels: frozenset[str]) -> dict[str, list[str]]:
    """Return the features that no level has, by heading."""
    arch = features.arch
    grouped: dict[str, list[str]] = {name: [] for name in [*(group.name for group in groups(arch)), OTHERS, PRIVILEGED]}
    for name in features:
        if name not in in_levels and table(arch)[name].kind in HARDWARE:
            grouped[heading(arch, name)].append(name)
    return grouped


def _decision_rows(decisions: Iterable[Decision], known: str = "") -> Iterator[Line]:
    """Yield a row for each kind and reason, with all subjects that share them; ``known`` evidence is left out."""
    groups: dict[tuple[str, str], list[Decision]] = {}
    for decision in decisions:
        groups.setdefault((decision.kind, decision.reason), []).append(decision)
    for (kind, reason), group in groups.items():
        evidence = ", ".join(dict.fromkeys(step.evidence for step in group if step.evidence not in ("", known)))
        why = f"{reason} ({evidence})" if evidence and len(evidence) < WIDTH - LABEL else reason
        yield from row(kind, " ".join(decision.subject for decision in group), "warn", why)


def _by_reason(withheld: dict[str, Withheld], style: str) -> Iterator[Line]:
    """Yield a row for each reason and CPUID register, or other evidence, with all features that share them."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for name, why in withheld.items():
        place, bit = _place(why)
        groups.setdefault((why.reason, place), {})[name] = bit
    last = ""
    for (reason, place), bits in sorted(groups.items(), key=lambda group: group[0][0]):
        evidence = f"{place}[{','.join(dict.fromkeys(bits.values()))}]" if any(bits.values()) else place
        yield from row(reason if reason != last else "", " ".join(bits), style, evidence)
        last = reason


def _place(why: Withheld) -> tuple[str, str]:
    """Return the word in which a feature would be reported and its bit there, or the evidence and no bit."""
    bit = re.fullmatch(r"(\w+(?: key \d+| [\w.]+:\w+)?)(?: bit |\[)(\d+)\]? is 0", why.evidence)
    if bit:
        return bit[1], bit[2]
    word = re.fullmatch(r"(.+) has no (flag|facility) .+", why.evidence)
    return (f"no such {word[2]} in {word[1]}" if word else why.evidence), ""
