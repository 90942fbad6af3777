"""What each 32-bit word of AArch64 code says of the CPU that runs it: the tables of ``data/aarch64``."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cpufeat import tables
from cpufeat.auditing.decoding.opcodes import Meaning
from cpufeat.features import HARDWARE, table
from cpufeat.llvm_tables import cpu_features
from cpufeat.tables import architecture

_ARCH = "aarch64"
_UNALLOCATED = "unallocated"
NO_CODE = Meaning()
"""Of words that are no instruction."""


class _Row(NamedTuple):
    mask: int
    value: int
    meaning: Meaning


def meaning(word: int) -> Meaning | None:
    """Return what a word means; None for one that any CPU runs."""
    return next((row.meaning for row in _rows().get(word >> 24, ()) if word & row.mask == row.value), None)


@cache
def _rows() -> dict[int, list[_Row]]:
    """Return the rows by the first byte of what they are about, which every mask has."""
    found: dict[int, list[_Row]] = {}
    for value, mask, mnemonic, _ in tables.rows("aarch64/harmless.tsv"):
        found.setdefault(int(value[:2], 16), []).append(_row(value, mask, Meaning(harmless=mnemonic)))
    for name in ("encodings", "system"):
        for value, mask, needs, example in tables.rows(f"aarch64/{name}.tsv"):
            known = _needed(needs.split(), example.partition(" ")[0])
            if known is not None:
                found.setdefault(int(value[:2], 16), []).append(_row(value, mask, known))
    return found


def _row(value: str, mask: str, known: Meaning) -> _Row:
    return _Row(int(mask, 16), int(value, 16), known)


def _needed(names: list[str], mnemonic: str) -> Meaning | None:
    if names == [_UNALLOCATED]:
        return NO_CODE
    above = [name for name in names if name not in _baseline()]
    known = table(_ARCH)
    features = frozenset(name for name in above if name in known and known[name].kind == "isa")
    other = mnemonic if len(features) < len(above) else ""
    return Meaning(features, other=other) if above else None


@cache
def _baseline() -> frozenset[str]:
    features = cpu_features(_ARCH, architecture(_ARCH).cpu)
    return features.of_kind(*HARDWARE).names if features else frozenset()
