"""How an audit reads: the answer first, then features by level, then functions, then what else was found."""

from __future__ import annotations

from cpufeat.auditing.report import lowest_level
from cpufeat.cli.layout import LABEL, WIDTH, row, section_heading, wrapped
from cpufeat.features import FeatureSet
from cpufeat.levels import baseline, levels
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cpufeat.auditing.report import Audit, FunctionNeeds, Use
    from cpufeat.cli.layout import Line

_MOST = 8
"""How many functions, members or places of a kind are shown; JSON has them all."""


def page(audit: Audit, limit: str | None, beyond: Sequence[FunctionNeeds]) -> list[Line]:
    """Return the lines of an audit; ``beyond`` are the functions that need more than the request ``limit``."""
    lines = list(_summary(audit, limit, beyond))
    sections = [_needs(audit), _functions(audit, limit, beyond), _members(audit), _misaligned(audit), _note(audit)]
    sections += [_others(audit), _harmless(audit), _undecoded(audit)]
    for section in sections:
        written = list(section)
        lines += [[], *written] if written else []
    return lines


# --- sections


def _summary(audit: Audit, limit: str | None, beyond: Sequence[FunctionNeeds]) -> Iterator[Line]:
    described = " ".join(filter(None, (audit.format, audit.arch, audit.kind)))
    yield from wrapped(audit.name, "title")
    if limit is not None:
        yield from wrapped(_against(limit, beyond), "bad" if beyond else "good")
    yield from wrapped(_verdict(audit), "" if limit is not None else "warn" if audit.bare else "good")
    yield [(f"{described}, {audit.instructions:,} instructions decoded", "note")]


def _against(limit: str, beyond: Sequence[FunctionNeeds]) -> str:
    if not beyond:
        return f"Needs no more than {limit}."
    return f"Needs more than {limit}, in {_count(len(beyond), 'function')}."


def _verdict(audit: Audit) -> str:
    """Return the answer in a sentence."""
    if audit.needs is None or audit.bare is None:
        return "Holds code of several architectures."
    lowest = baseline(audit.arch)
    if not audit.needs:
        return f"Needs nothing above the baseline{_of(audit, lowest)}."
    if not audit.bare:
        return f"Runs on the baseline{_of(audit, lowest)}: whatever needs more stands behind a run-time check."
    return f"Needs {_summed(audit.bare)}{'.' if audit.bare == audit.needs else ', and more behind run-time checks.'}"


def _of(audit: Audit, lowest: str) -> str:
    return f" ({lowest})" if audit.arch in ("x86_64", "aarch64") else f" of {audit.arch}"


def _needs(audit: Audit) -> Iterator[Line]:
    if not audit.needs or audit.bare is None:
        return
    yield from section_heading("Features", "needed by its instructions, themselves or by what they imply")
    yield from _by_level(audit.bare, "", "warn")
    yield from _by_level(audit.needs - audit.bare, " (checked)", "")


def _by_level(features: FeatureSet, suffix: str, style: str) -> Iterator[Line]:
    left = features
    for level, adds in levels(features.arch).items():
        here = left & FeatureSet(features.arch, adds)
        left = left - here
        if here:
            yield from row(level + suffix, " ".join(here), style)
    if left:
        yield from row(f"in no level{suffix}", " ".join(left), style)


def _functions(audit: Audit, limit: str | None, beyond: Sequence[FunctionNeeds]) -> Iterator[Line]:
    shown = beyond if limit is not None else sorted(audit.functions, key=lambda one: not one.bare)
    if not shown:
        return
    title = f"Functions beyond {limit}" if limit is not None else "Functions above the baseline"
    yield from section_heading(title, f"{len(shown)}" + (", the first of them" if len(shown) > _MOST else ""))
    reasons = {one.why for one in shown if not one.guarded}
    if len(reasons) == 1:
        yield from wrapped(f"Without a run-time check: {reasons.pop()}.", "note", 2)
    for function in shown[:_MOST]:
        yield from _function(function, told=len(reasons) == 0 and not function.guarded)
    if len(shown) > _MOST:
        yield [(f"  and {len(shown) - _MOST} more: see --json", "note")]


def _function(function: FunctionNeeds, *, told: bool) -> Iterator[Line]:
    """Show a function; ``told``: the reason has been said."""
    yield [("  ", ""), (_cut(function.name, WIDTH - 2), "name")]
    names = sorted(function.uses, key=lambda name: function.uses[name][0].address)
    for name in names:
        use = function.uses[name][0]
        yield [("    " + name.ljust(LABEL - 6), "" if name in function.bare else "note"), ("  ", ""), *_use(use)]
    if function.why and not told:
        yield from wrapped(f"{'checked: ' if function.guarded else ''}{function.why}", "note", 4)
    if not function.certain:
        yield from wrapped("perhaps data, not code", "note", 4)


def _members(audit: Audit) -> Iterator[Line]:
    if not audit.members and not audit.skipped:
        return
    yield from section_heading("Members", f"{len(audit.members)}, those that need most first")
    ordered = sorted(audit.members, key=lambda member: (not member.bare, -len(member.bare or ())))
    for member in ordered[:_MOST]:
        yield [("  ", ""), (_cut(member.name, WIDTH - 2), "name")]
        yield from wrapped(_verdict(member), "warn" if member.bare else "", 4)
    if len(ordered) > _MOST:
        yield [(f"  and {len(ordered) - _MOST} more: see --json", "note")]
    if audit.skipped:
        yield from row("no binaries", " ".join(audit.skipped[:_MOST]), "", f"{len(audit.skipped)} in all")


def _misaligned(audit: Audit) -> Iterator[Line]:
    if not audit.misaligned:
        return
    yield from section_heading("Misaligned operands", "these instructions fault")
    for one in audit.misaligned[:_MOST]:
        yield [("  ", ""), (_cut(one.function, WIDTH - 2), "name")]
        yield from wrapped(f"{one.address:#x} {one.instruction}", "bad", 4)
        yield from wrapped(f"needs {one.needs} bytes, {one.symbol} is at a multiple of {one.has}", "", 4)
    if len(audit.misaligned) > _MOST:
        yield [(f"  and {len(audit.misaligned) - _MOST} more: see --json", "note")]


def _note(audit: Audit) -> Iterator[Line]:
    if audit.note is None:
        return
    yield from section_heading("ISA note", ".note.gnu.property, which the loader obeys")
    yield from row("needed", audit.note.needed or "nothing stated")
    yield from row("used", audit.note.used or "nothing stated")
    for fault in audit.note.faults:
        yield from wrapped(fault, "bad", 2)


def _others(audit: Audit) -> Iterator[Line]:
    yield from _places("Of no feature", "the operating system's, and what compilers have no option for", audit.others)


def _harmless(audit: Audit) -> Iterator[Line]:
    yield from _places("Harmless", "older CPUs run these as something that does no damage", audit.harmless)


def _places(title: str, note: str, places: Iterable[str]) -> Iterator[Line]:
    if places:
        yield from section_heading(title, note)
        yield from wrapped(" ".join(places), "", 2)


def _undecoded(audit: Audit) -> Iterator[Line]:
    if not audit.undecoded:
        return
    total = sum(one.size for one in audit.undecoded)
    yield from section_heading("Not decoded", f"{total:,} bytes in {_count(len(audit.undecoded), 'place')}")
    for one in sorted(audit.undecoded, key=lambda one: -one.size)[:_MOST]:
        yield from row(one.place, f"{one.size:,} bytes: {one.reason}", "warn")


# --- what sections share


def _use(use: Use) -> Line:
    return [(f"{use.place}  ", "note"), (use.instruction, "")]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _summed(features: FeatureSet) -> str:
    """Return the lowest level that has what is of any level, and the rest by name."""
    every = {name for adds in levels(features.arch).values() for name in adds}
    of_levels = features & FeatureSet(features.arch, every)
    rest = list(features - of_levels)
    more = [f"{len(rest) - _MOST} more"] if len(rest) > _MOST else []
    level = [lowest_level(of_levels)] if of_levels else []
    return " and ".join([*level, *([" ".join(rest[:_MOST])] if rest else []), *more])
