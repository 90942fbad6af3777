"""Look up the requirement of an AArch64 instruction word, from the tables of ``data/aarch64``."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cpufeat import tables
from cpufeat.auditing.decoding.requirements import NO_INSTRUCTION, Requirement
from cpufeat.features import HARDWARE, table
from cpufeat.llvm_tables import cpu_features
from cpufeat.tables import architecture

_ARCH = "aarch64"
_UNALLOCATED = "unallocated"


class _Row(NamedTuple):
    mask: int
    value: int
    requirement: Requirement


def requirement(word: int) -> Requirement | None:
    """Return the requirement of an instruction word, None for one that any CPU runs."""
    return next((row.requirement for row in _rows().get(word >> 24, ()) if word & row.mask == row.value), None)


@cache
def _rows() -> dict[int, list[_Row]]:
    """Return the rows by the first byte of their value, all of whose bits are in every mask."""
    by_first_byte: dict[int, list[_Row]] = {}
    for value, mask, mnemonic, _ in tables.rows("aarch64/harmless.tsv"):
        by_first_byte.setdefault(int(value[:2], 16), []).append(_row(value, mask, Requirement(harmless=mnemonic)))
    for name in ("encodings", "system"):
        for value, mask, needs, example in tables.rows(f"aarch64/{name}.tsv"):
            requirement = _requirement(needs.split(), example.partition(" ")[0])
            if requirement is not None:
                by_first_byte.setdefault(int(value[:2], 16), []).append(_row(value, mask, requirement))
    return by_first_byte


def _row(value: str, mask: str, requirement: Requirement) -> _Row:
    return _Row(int(mask, 16), int(value, 16), requirement)


def _requirement(names: list[str], mnemonic: str) -> Requirement | None:
    if names == [_UNALLOCATED]:
        return NO_INSTRUCTION
    above = [name for name in names if name not in _baseline()]
    known = table(_ARCH)
    features = frozenset(name for name in above if name in known and known[name].kind == "isa")
    unnamed = mnemonic if len(features) < len(above) else ""
    return Requirement(features, other=unnamed) if above else None


@cache
def _baseline() -> frozenset[str]:
    features = cpu_features(_ARCH, architecture(_ARCH).cpu)
    return features.of_kind(*HARDWARE).names if features else frozenset()
