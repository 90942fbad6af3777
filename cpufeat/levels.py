"""Look up architecture levels (x86-64-v3, rva22u64): the sets of features that distributions and compilers build for.

The rows are those of ``data/<family>/levels.tsv``, lowest first (x86: the x86-64 psABI, section 3.1.1).
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.features import FeatureSet, family
from cpufeat.tables import architecture

_rows: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {}


def _levels(arch: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return each level, the one that it extends, and what it adds: the lowest one and all that extend it."""
    if arch not in _rows:
        rows: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        for level, below, adds in tables.rows(f"{family(arch)}/levels.tsv"):
            if below in rows or level == architecture(arch).level:
                rows[level] = level, below, tuple(adds.split())
        _rows[arch] = list(rows.values())
    return _rows[arch]


def levels(arch: str) -> dict[str, tuple[str, ...]]:
    """Return an architecture's levels, lowest first, and what each adds to the one that it extends."""
    return {level: adds for level, _, adds in _levels(arch)}


def baseline(arch: str) -> str:
    """Return the lowest level."""
    return next(iter(levels(arch)))


def level_features(arch: str, level: str) -> FeatureSet:
    """Return all features of a level. Raises KeyError for an unknown level."""
    extends = {name: (below, adds) for name, below, adds in _levels(arch)}
    names: list[str] = []
    while level:
        level, adds = extends[level]
        names.extend(adds)
    return FeatureSet(arch, names).completed()


def required_features(arch: str) -> FeatureSet:
    """Return the features without which LLVM cannot generate code for an architecture.

    For most 64-bit code they are the lowest level; RISC-V can do without floating point, and 32-bit code needs none.
    """
    row = architecture(arch)
    return level_features(arch, row.assumes) if row.assumes else FeatureSet(arch, row.requires.split())


def ladder(features: FeatureSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the levels up to the highest that the features reach, lowest first, and the levels that extend that one.

    If they reach none, the second part is the lowest level of which fewest features are missing.
    """
    extends = {name: below for name, below, _ in _levels(features.arch)}
    top = level_of(features)
    reached = [top] if top else []
    while reached and extends[reached[0]]:
        reached.insert(0, extends[reached[0]])
    above = [name for name, below in extends.items() if below == top]
    if not top:
        above = sorted(above, key=lambda name: len(level_features(features.arch, name) - features))[:1]
    return tuple(reached), tuple(above)


def level_of(features: FeatureSet) -> str:
    """Return the last level of the table that the features reach, empty if not even the lowest."""
    reached = {""}
    last = ""
    for name, below, adds in _levels(features.arch):
        if below in reached and features.names.issuperset(adds):
            reached.add(name)
            last = name
    return last
