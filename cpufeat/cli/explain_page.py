"""Render an explanation as a page of text: sections of labelled rows, the most important first."""

from __future__ import annotations

import re

from cpufeat.cli.layout import fixed, row, section_heading, wrapped
from cpufeat.cpus import stand_in
from cpufeat.decisions import STAND_IN, Withheld
from cpufeat.detection import unreported
from cpufeat.detection.arch.identity import described
from cpufeat.explanation import OF_ANY_MACHINE, OTHERS, PRIVILEGED, Explanation, groups, heading, verdict
from cpufeat.features import HARDWARE, FeatureSet, family, table
from cpufeat.levels import ladder, level_features, levels
from cpufeat.llvm_tables import newest
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cpufeat.cli.layout import Block
    from cpufeat.decisions import Decision
    from cpufeat.detection.host import Host
    from cpufeat.target import Target

_HEADINGS = {"source": "What was read", STAND_IN: "Stand-in"}
"""The headings over decisions about a machine that are not about its model."""
_MAX_LACKING = 8
"""The number of features named that a level still lacks."""
_MAX_BESIDE = 56
"""The greatest length, in characters, of evidence in brackets behind its reason."""


def page(explanation: Explanation) -> list[Block]:
    """Return the page of an explanation."""
    sections = (_summary, _target, _decisions, _contradiction, _name, _withheld, _disagreements, _machine, _features)
    blocks: list[Block] = []
    for section in sections:
        of_section = list(section(explanation))
        if of_section:
            blocks += [*([fixed()] if blocks else []), *of_section]
    return blocks


def page_of_target(request: str, target: Target, decisions: Sequence[Decision]) -> list[Block]:
    """Return the page of a target that does not depend on a machine."""
    changes = [section_heading("Changes to the request"), *_decision_rows(decisions, request), fixed()]
    return [
        wrapped(f"{request} for {target.triple}", "title"),
        wrapped(OF_ANY_MACHINE, "good"),
        fixed(),
        *_compile_for(request, target),
        fixed(),
        *(changes if decisions else []),
        section_heading("Features", f"{len(target.features)}, all that the code may use"),
        *_by_level(target.features),
    ]


# --- sections


def _summary(explanation: Explanation) -> Iterator[Block]:
    host = explanation.host
    sentence, style = verdict(explanation)
    guest = f", a guest of {host.hypervisor}" if host.hypervisor else ""
    yield wrapped(f"{host.brand or host.name or described(host.arch, vars(host))}{guest}", "title")
    yield wrapped(sentence, style)


def _target(explanation: Explanation) -> Iterator[Block]:
    yield from _compile_for(explanation.resolution.request, explanation.resolution.target)


def _compile_for(request: str, target: Target) -> Iterator[Block]:
    arch = target.arch
    beyond = len(target.features) - len(level_features(arch, target.level)) if target.level else 0
    of_level = f"all of {target.level}" if target.level else f"less than {ladder(target.features)[1][0]}"
    yield section_heading("Compile for", f"request: {request}")
    known = stand_in(arch, target.cpu)
    stands_in = f"; {known} stands in for it: LLVM {newest(arch)} has none" if known != target.cpu else ""
    yield row("cpu", target.cpu, "title", f"LLVM's name, for tuning only{stands_in}")
    yield row("features", f"{len(target.features)}: {of_level}" + (f" and {beyond} more" if beyond else ""))
    if target.options:
        yield row("options", " ".join(target.options))
    yield row("triple", target.triple)


def _decisions(explanation: Explanation) -> Iterator[Block]:
    resolution = explanation.resolution
    decisions = resolution.decisions
    dropped = {step.subject: Withheld(step.reason, step.evidence) for step in decisions if step.kind == "dropped"}
    changes = [decision for decision in decisions if decision.kind != "dropped"]
    if dropped or changes:
        yield section_heading("Changes to the request")
    yield from _decision_rows(changes, resolution.request)
    if dropped:
        yield wrapped("Left out, because this machine cannot use them:", "", 2)
        yield from _by_reason(dropped, "warn")


def _contradiction(explanation: Explanation) -> Iterator[Block]:
    for decision in explanation.host.decisions:
        identity = "Contradiction" if explanation.host.named else "Unknown model"
        yield section_heading(_HEADINGS.get(decision.kind, identity))
        yield wrapped(f"{decision if decision.kind in _HEADINGS else decision.reason}.", "warn", 2)


def _name(explanation: Explanation) -> Iterator[Block]:
    host, faults = explanation.host, explanation.faults
    if faults or explanation.unseen or explanation.unused:
        yield section_heading(f"If code is compiled for {host.named} by name")
    if faults:
        yield wrapped("It may use these features, which fault here (SIGILL):", "", 2)
        yield from _by_reason(faults, "bad")
    if faults and explanation.unseen:
        yield wrapped("It may also use these, whose presence is unknown:", "", 2)
    if explanation.unseen:
        yield from _by_reason(explanation.unseen, "warn")
    if explanation.unused:
        yield row("would not use", " ".join(explanation.unused), "warn")


def _withheld(explanation: Explanation) -> Iterator[Block]:
    host = explanation.host
    shown_above = {*explanation.faults, *explanation.unseen}
    withheld = {name: why for name, why in host.withheld.items() if name not in shown_above}
    if withheld:
        yield section_heading("Also withheld" if shown_above else "Withheld")
        yield from _by_reason(withheld, "warn")


def _disagreements(explanation: Explanation) -> Iterator[Block]:
    if explanation.disagreements:
        yield section_heading("CPUID and the kernel disagree", "CPUID is used")
        yield from _decision_rows(explanation.disagreements)


def _machine(explanation: Explanation) -> Iterator[Block]:
    host = explanation.host
    several = len(host.cores) > 1
    cores = " + ".join(f"{core.count} {core.cpu}" if several else str(core.count) for core in host.cores)
    yield section_heading("Machine")
    if explanation.origin:
        yield row("recorded in", explanation.origin)
    if host.brand:
        yield row("brand", host.brand, "", _leaf(host, "80000002-80000004"))
    yield row("model", described(host.arch, vars(host), in_full=True), "", _leaf(host, "0, 1"))
    by_model = f"{host.named} by its model number; see above" if host.named else "unknown; see above"
    yield row("known as", host.name or by_model, "", f"data/{family(host.arch)}/models.tsv" if host.named else "")
    yield row("processors", cores)
    if host.hypervisor:
        yield row("guest of", host.hypervisor, "", _leaf(host, "40000000"))
    if host.states_evidence:
        yield row("register state", " ".join(host.states) or "SSE only", "", host.states_evidence)


def _features(explanation: Explanation) -> Iterator[Block]:
    host = explanation.host
    yield section_heading("Features", f"{len(host.features)} usable, read from {host.source}")
    yield from _by_level(host.features)


def _by_level(features: FeatureSet) -> Iterator[Block]:
    """Yield the features of each level, and what the next levels need; then all others, in groups."""
    arch = features.arch
    reached, above = ladder(features)
    shown = {level: FeatureSet(arch, levels(arch)[level]) for level in reached + above}
    for level, adds in shown.items():
        present, lacking = features & adds, list(adds - features)
        if present:
            yield row(level, " ".join(present), label_style="" if lacking else "good")
        if lacking:
            omitted = f" and {len(lacking) - _MAX_LACKING} more" if len(lacking) > _MAX_LACKING else ""
            yield row("" if present else level, f"lacks {' '.join(lacking[:_MAX_LACKING])}{omitted}", "note")
    in_levels = frozenset().union(*(adds.names for adds in shown.values()))
    for label, names in _grouped(features, in_levels).items():
        if names:
            yield row(label, " ".join(names))


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


def _decision_rows(decisions: Iterable[Decision], known: str = "") -> Iterator[Block]:
    """Yield a row for each kind and reason, with all subjects that share them; ``known`` evidence is left out."""
    groups: dict[tuple[str, str], list[Decision]] = {}
    for decision in decisions:
        groups.setdefault((decision.kind, decision.reason), []).append(decision)
    for (kind, reason), group in groups.items():
        evidence = ", ".join(dict.fromkeys(step.evidence for step in group if step.evidence not in ("", known)))
        why = f"{reason} ({evidence})" if evidence and len(evidence) < _MAX_BESIDE else reason
        yield row(kind, " ".join(decision.subject for decision in group), "warn", why)


def _by_reason(withheld: dict[str, Withheld], style: str) -> Iterator[Block]:
    """Yield a row for each reason and CPUID register, or other evidence, with all features that share them."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for name, why in withheld.items():
        place, bit = _place(why)
        groups.setdefault((why.reason, place), {})[name] = bit
    last = ""
    for (reason, place), bits in sorted(groups.items(), key=lambda group: group[0][0]):
        evidence = f"{place}[{','.join(dict.fromkeys(bits.values()))}]" if any(bits.values()) else place
        yield row(reason if reason != last else "", " ".join(bits), style, evidence)
        last = reason


def _place(why: Withheld) -> tuple[str, str]:
    """Return the word in which a feature would be reported and its bit there, or the evidence and no bit."""
    bit = re.fullmatch(r"(\w+(?: key \d+| [\w.]+:\w+)?)(?: bit |\[)(\d+)\]? is 0", why.evidence)
    if bit:
        return bit[1], bit[2]
    word = re.fullmatch(r"(.+) has no (flag|facility) .+", why.evidence)
    return (f"no such {word[2]} in {word[1]}" if word else why.evidence), ""
