"""Hold what cpufeat says of a place against what its instructions did there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from cpufeat.decisions import CLEARED, ERRATUM

if TYPE_CHECKING:
    from tools.execute_features.program import Executed

TOO_MUCH, TOO_LITTLE, GUARD = "too much", "too little", "guard"
_BY_ANSWER = {
    "it depends on": "what lacks its base is in no target, as LLVM has it",
    CLEARED: "the kernel does not want it to be used; nothing makes it fault",
    ERRATUM: "models of the CPU have it broken, or lack what they report; nothing makes it fault here",
}
"""Why something that runs is missing all the same, by a part of what cpufeat says."""
_ASKS_THE_CPU = "a program asks the CPU alone, where this still runs"


class Found(TypedDict):
    """What ``detect.py`` prints."""

    usable: list[str]
    missing: dict[str, str]
    """Why each other feature is not usable."""


class Difference(NamedTuple):
    """A feature of which cpufeat says one thing and the CPU another."""

    kind: str
    """``too much``, ``too little``, or ``guard``: detection in a program differs from that in Python."""
    feature: str
    says: str
    """What cpufeat says: ``usable``, or why not."""
    does: str
    """What the instructions did."""
    reason: str
    """Why that is no fault of cpufeat; empty: it is one."""


def differences(arch: str, where: str, executed: Executed, found: Found) -> list[Difference]:
    """Return every difference in a place."""
    usable = frozenset(found["usable"])
    says = {feature: found["missing"].get(feature, "usable") for feature in {*executed.ran, *executed.guard}}
    differ = []
    for feature, ran in executed.ran.items():
        if ran != (feature in usable):
            kind = TOO_LITTLE if ran else TOO_MUCH
            reason = _reason(arch, feature, where, kind, says[feature])
            differ.append(Difference(kind, feature, says[feature], executed.how[feature], reason))
    for feature, guard in executed.guard.items():
        if guard != (feature in usable):
            still_runs = (
                guard and executed.ran.get(feature) and any(word in says[feature] for word in (CLEARED, ERRATUM))
            )
            reason = _ASKS_THE_CPU if still_runs else ""
            differ.append(Difference(GUARD, feature, says[feature], f"a program finds {guard}", reason))
    return differ


def _reason(arch: str, feature: str, where: str, kind: str, says: str) -> str:
    if kind == TOO_LITTLE and any(part in says for part in _BY_ANSWER):
        return next(reason for part, reason in _BY_ANSWER.items() if part in says)
    rows = (row for row in explained() if row[:2] == (arch, feature) and row[3] == kind)
    return next((reason for _, _, place, _, reason in rows if where.startswith(place)), "")


def explained() -> list[tuple[str, ...]]:
    """Return the rows of ``explained.tsv``."""
    lines = Path(__file__).with_name("explained.tsv").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")][1:]
