"""Look up the requirement of an AArch64 instruction word, from the tables of ``data/aarch64``."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cpufeat import tables
from cpufeat.auditing.decoding.requirements import NO_INSTRUCTION, Requirement
from cpufeat.features import HARDWARE, table
from cpufeat.llvm_tables import cpu_features
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import architecture

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARCH = "aarch64"
_UNALLOCATED = "unallocated"
_WORD, _SHIFT = 32, 21
"""Bits of a word, and of those of its end by which rows are not looked up."""


class _Row(NamedTuple):
    mask: int
    value: int
    requirement: Requirement


def requirement(word: int) -> Requirement | None:
    """Return the requirement of an instruction word, None for one that any CPU runs."""
    return next((row.requirement for row in _rows().get(word >> _SHIFT, ()) if word & row.mask == row.value), None)


@cache
def _rows() -> dict[int, list[_Row]]:
    """Return the rows by the first bits of the words that they are for."""
    by_first_bits: dict[int, list[_Row]] = {}
    for row in _table():
        free = ~row.mask >> _SHIFT & (1 << _WORD - _SHIFT) - 1
        first_bits = free
        while True:  # every subset of the bits that the mask leaves free
            by_first_bits.setdefault(row.value >> _SHIFT | first_bits, []).append(row)
            if not first_bits:
                break
            first_bits = first_bits - 1 & free
    return by_first_bits


def _table() -> Iterator[_Row]:
    for value, mask, mnemonic, _ in tables.rows("aarch64/harmless.tsv"):
        yield _Row(int(mask, 16), int(value, 16), Requirement(harmless=mnemonic))
    for name in ("encodings", "system"):
        for value, mask, needs, example in tables.rows(f"aarch64/{name}.tsv"):
            requirement = _requirement(needs, example.partition(" ")[0])
            if requirement is not None:
                yield _Row(int(mask, 16), int(value, 16), requirement)


def _requirement(needs: str, mnemonic: str) -> Requirement | None:
    if needs == _UNALLOCATED:
        return NO_INSTRUCTION
    above, features = _above_baseline(needs)
    return Requirement(features, other=mnemonic if len(features) < len(above) else "") if above else None


@cache
def _above_baseline(needs: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names in a cell that are not of the baseline, and which of them are features that user code has."""
    above = frozenset(needs.split()) - _baseline()
    known = table(_ARCH)
    return above, frozenset(name for name in above if name in known and known[name].kind == "isa")


@cache
def _baseline() -> frozenset[str]:
    features = cpu_features(_ARCH, architecture(_ARCH).cpu)
    return features.of_kind(*HARDWARE).names if features else frozenset()
