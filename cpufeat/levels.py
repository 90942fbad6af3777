"""Architecture levels: the sets of features that distributions and compilers build for.

The rows are those of ``data/<family>/levels.tsv``, lowest first (x86: the x86-64 psABI, section 3.1.1).
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.features import FeatureSet, family


def levels(arch: str) -> dict[str, tuple[str, ...]]:
    """Return an architecture's levels, lowest first, and what each adds to the one below."""
    return {level: tuple(adds.split()) for level, adds, *_ in tables.rows(f"{family(arch)}/levels.tsv")}


def baseline(arch: str) -> str:
    """Return the lowest level."""
    return next(iter(levels(arch)))


def level_features(arch: str, level: str) -> FeatureSet:
    """Return all that a level has. Raises KeyError for what is no level."""
    known = levels(arch)
    names = list(known[level])
    for below, adds in known.items():
        if below == level:
            break
        names.extend(adds)
    return FeatureSet(arch, names).closed()


def level_of(features: FeatureSet) -> str:
    """Return the highest level whose features are all there, empty if not even the lowest."""
    reached = ""
    for name, adds in levels(features.arch).items():
        if not features.names.issuperset(adds):
            break
        reached = name
    return reached
