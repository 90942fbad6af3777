"""Render an audit as a page of text: the verdict, features by level, functions, then everything else."""

from __future__ import annotations

from cpufeat.auditing.report import AT_LOAD, UNREFERRED, UNUSED, lowest_level
from cpufeat.cli.layout import cut, fixed, labelled, row, section_heading, wrapped
from cpufeat.features import FeatureSet
from cpufeat.levels import baseline, levels
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cpufeat.auditing.report import Audit, FunctionNeeds, Unknown
    from cpufeat.cli.layout import Block

_MAX_SHOWN = 8
"""The number of functions, members or places shown of each kind; JSON has them all."""


def page(
    audit: Audit, limit: str | None, beyond: Sequence[FunctionNeeds], unknown: Sequence[Unknown] = ()
) -> list[Block]:
    """Return the page of an audit.

    ``beyond`` are the functions that need more than the request ``limit``, and ``unknown`` the code of which that
    cannot be told.
    """
    blocks = list(_summary(audit, limit, beyond, unknown))
    shown = beyond if limit is not None else audit.functions
    sections = [_needs(audit), *_functions(shown, limit), _unknown(audit, unknown), _members(audit)]
    sections += [_misaligned(audit), _note(audit)]
    sections += [_others(audit), _harmless(audit), _undecoded(audit)]
    for section in sections:
        of_section = list(section)
        blocks += [fixed(), *of_section] if of_section else []
    return blocks


# --- sections


def _summary(
    audit: Audit, limit: str | None, beyond: Sequence[FunctionNeeds], unknown: Sequence[Unknown]
) -> Iterator[Block]:
    described = " ".join(filter(None, (audit.format, audit.arch, audit.kind)))
    yield wrapped(audit.name, "title")
    if limit is not None:
        yield wrapped(_compared(limit, beyond, unknown), "bad" if beyond else "warn" if unknown else "good")
    yield wrapped(_verdict(audit), "" if limit is not None else "warn" if audit.bare else "good")
    yield wrapped(f"{described}, {audit.instructions:,} instructions decoded", "note")


def _compared(limit: str, beyond: Sequence[FunctionNeeds], unknown: Sequence[Unknown]) -> str:
    if beyond:
        return f"Needs more than {limit}, in {_count(len(beyond), 'function')}."
    if unknown:
        return f"Cannot tell whether it needs more than {limit}: not all of the code that is reached is known."
    return f"Needs no more than {limit}."


def _verdict(audit: Audit) -> str:
    """Return the result in one sentence."""
    if audit.needs is None or audit.bare is None:
        return "Contains code of several architectures."
    lowest = baseline(audit.arch)
    if not audit.needs:
        return f"Needs nothing above the baseline{_of(audit, lowest)}."
    if not audit.bare:
        return f"Runs on the baseline{_of(audit, lowest)}: everything that needs more is {_unreached(audit)}."
    known = [function for function in audit.functions if function.reached != UNREFERRED]
    reached = FeatureSet(audit.arch, {name for function in known for name in function.bare})
    if audit.functions and reached != audit.bare:
        seen = f"Needs {_summed(reached)}" if reached else f"Runs on the baseline{_of(audit, lowest)}"
        return f"{seen}, but {_summed(audit.bare - reached)} if a function runs to which nothing is seen to refer."
    return f"Needs {_summed(audit.bare)}{'.' if audit.bare == audit.needs else ', and more behind run-time checks.'}"


def _unreached(audit: Audit) -> str:
    """Say why what needs more than the baseline does not run."""
    reached = {function.reached for function in audit.functions}
    return " or ".join(["behind a run-time check"] * (reached != {UNUSED}) + ["unused"] * (UNUSED in reached))


def _of(audit: Audit, lowest: str) -> str:
    return f" ({lowest})" if audit.arch in ("x86_64", "aarch64") else f" of {audit.arch}"


def _needs(audit: Audit) -> Iterator[Block]:
    if not audit.needs or audit.bare is None:
        return
    yield section_heading("Features", "needed by its instructions, without the features that these imply")
    yield from _by_level(audit.bare, "", "warn")
    yield from _by_level(audit.needs - audit.bare, " (checked)", "")


def _by_level(features: FeatureSet, suffix: str, style: str) -> Iterator[Block]:
    remaining = features
    for level, adds in levels(features.arch).items():
        of_level = remaining & FeatureSet(features.arch, adds)
        remaining = remaining - of_level
        if of_level:
            yield row(level + suffix, " ".join(of_level), style)
    if remaining:
        yield row(f"in no level{suffix}", " ".join(remaining), style)


def _functions(functions: Sequence[FunctionNeeds], limit: str | None) -> Iterator[Iterator[Block]]:
    """Yield a section for what runs at load, one for the rest, and one for what nothing is seen to refer to."""
    at_load = [function for function in functions if function.reached == AT_LOAD]
    unreferred = [function for function in functions if function.reached == UNREFERRED]
    rest = [function for function in functions if function.reached not in (AT_LOAD, UNREFERRED)]
    title = f"Functions beyond {limit}" if limit is not None else "Functions above the baseline"
    yield _listed("Run when the file is loaded", at_load)
    yield _listed(title, sorted(rest, key=lambda function: not function.bare))
    yield _listed("Neither used nor checked, as far as is seen", unreferred)


def _listed(title: str, functions: Sequence[FunctionNeeds]) -> Iterator[Block]:
    if not functions:
        return
    yield section_heading(title, f"{len(functions)}" + (", the first are" if len(functions) > _MAX_SHOWN else ""))
    reasons = {function.why for function in functions if function.bare}
    common_reason = reasons.pop() if len(reasons) == 1 else ""
    if common_reason:
        yield wrapped(f"Without a run-time check: {common_reason}.", "note", 2)
    for function in functions[:_MAX_SHOWN]:
        yield from _function(function, common_reason)
    yield from _omitted(len(functions))


def _function(function: FunctionNeeds, common_reason: str) -> Iterator[Block]:
    """Show a function, and why it is bare or guarded, unless that is the reason that heads the section."""
    yield cut(function.name, "name", 2)
    names = sorted(function.uses, key=lambda name: function.uses[name][0].address)
    for name in names:
        use = function.uses[name][0]
        style = "" if name in function.bare else "note"
        yield labelled(name, (f"{use.place} ", "note"), (use.instruction, ""), indent=4, label_style=style)
    if function.why and (not function.bare or function.why != common_reason):
        yield wrapped(f"{'checked: ' if function.guarded else ''}{function.why}", "note", 4)
    if not function.certain:
        yield wrapped("this may be data, not code", "note", 4)


def _unknown(audit: Audit, of_limit: Sequence[Unknown]) -> Iterator[Block]:
    shown = of_limit or audit.unknown
    if not shown:
        return
    yield section_heading("Unknown code", f"{_count(len(shown), 'place')} that is no known instruction")
    for code in sorted(shown, key=lambda code: not code.certain)[:_MAX_SHOWN]:
        yield cut(code.function, "name", 2)
        yield labelled(code.least or "?", (f"{code.place} ", "note"), (code.bytes, ""), indent=4, label_style="warn")
        yield wrapped(code.reason + ("" if code.certain else "; this may be data, not code"), "note", 4)
    yield from _omitted(len(shown))


def _members(audit: Audit) -> Iterator[Block]:
    if not audit.members and not audit.skipped:
        return
    yield section_heading("Members", f"{len(audit.members)}, the most demanding first")
    ordered = sorted(audit.members, key=lambda member: (not member.bare, -len(member.bare or ())))
    for member in ordered[:_MAX_SHOWN]:
        yield cut(member.name, "name", 2)
        yield wrapped(_verdict(member), "warn" if member.bare else "", 4)
    yield from _omitted(len(ordered))
    if audit.skipped:
        yield row("not binaries", " ".join(audit.skipped[:_MAX_SHOWN]), "", f"{len(audit.skipped)} in all")


def _misaligned(audit: Audit) -> Iterator[Block]:
    if not audit.misaligned:
        return
    yield section_heading("Misaligned operands", "these instructions fault")
    for operand in audit.misaligned[:_MAX_SHOWN]:
        yield cut(operand.function, "name", 2)
        yield wrapped(f"{operand.address:#x} {operand.instruction}", "bad", 4)
        yield wrapped(f"needs an alignment of {operand.needs} bytes; {operand.symbol} has {operand.has}", "", 4)
    yield from _omitted(len(audit.misaligned))


def _note(audit: Audit) -> Iterator[Block]:
    if audit.note is None:
        return
    yield section_heading("ISA note", ".note.gnu.property, which the loader checks")
    yield row("needed", audit.note.needed or "not stated")
    yield row("used", audit.note.used or "not stated")
    for fault in audit.note.faults:
        yield wrapped(fault, "bad", 2)


def _others(audit: Audit) -> Iterator[Block]:
    yield from _mnemonics("No feature", "used by operating systems, or without a compiler option", audit.others)


def _harmless(audit: Audit) -> Iterator[Block]:
    yield from _mnemonics("Harmless", "older CPUs run these encodings as harmless instructions", audit.harmless)


def _mnemonics(title: str, note: str, mnemonics: Iterable[str]) -> Iterator[Block]:
    if mnemonics:
        yield section_heading(title, note)
        yield wrapped(" ".join(mnemonics), "", 2)


def _undecoded(audit: Audit) -> Iterator[Block]:
    if not audit.undecoded:
        return
    total = sum(region.size for region in audit.undecoded)
    yield section_heading("Not decoded", f"{total:,} bytes in {_count(len(audit.undecoded), 'place')}")
    for region in sorted(audit.undecoded, key=lambda region: -region.size)[:_MAX_SHOWN]:
        yield row(region.place, f"{region.size:,} bytes: {region.reason}", "warn")


# --- shared by the sections


def _omitted(count: int) -> Iterator[Block]:
    """Say how many of a section's entries are not shown."""
    if count > _MAX_SHOWN:
        yield wrapped(f"and {count - _MAX_SHOWN} more: see --json", "note", 2)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _summed(features: FeatureSet) -> str:
    """Return the lowest level that has all features that belong to levels, and the names of the others."""
    in_any_level = {name for adds in levels(features.arch).values() for name in adds}
    of_levels = features & FeatureSet(features.arch, in_any_level)
    rest = list(features - of_levels)
    omitted = [f"{len(rest) - _MAX_SHOWN} more"] if len(rest) > _MAX_SHOWN else []
    level = [lowest_level(of_levels)] if of_levels else []
    return " and ".join([*level, *([" ".join(rest[:_MAX_SHOWN])] if rest else []), *omitted])
