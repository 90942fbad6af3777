"""Look up the requirement of an x86 opcode, from ``decoder.tsv``, ``harmless.tsv`` and ``features.tsv``."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from cpufeat import tables
from cpufeat.auditing.decoding.requirements import Requirement
from cpufeat.features import HARDWARE, find, table
from cpufeat.llvm_tables import cpu_features
from cpufeat.support.extras import extra
from cpufeat.tables import architecture

with extra("audit"):
    from iced_x86 import CpuidFeature, Instruction, Mnemonic

_MNEMONICS = {value: name.lower() for name, value in vars(Mnemonic).items() if isinstance(value, int)}
_CPUID_FEATURES = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}
_BASELINE, _OTHER = "baseline", "other"


def requirement(arch: str, code: int) -> Requirement | None:
    """Return the requirement of an opcode (iced-x86's ``Code``), None for one that any CPU runs."""
    instruction = Instruction()
    instruction.code = cast("Any", code)
    mnemonic = _MNEMONICS[instruction.mnemonic]
    if mnemonic in _harmless(arch):
        return Requirement(harmless=mnemonic)
    needs = _rule(arch, mnemonic) or [
        name for feature in instruction.cpuid_features() for name in of_cpuid_feature(arch, _CPUID_FEATURES[feature])
    ]
    known = table(arch)
    above = {name for name in needs if name not in (_BASELINE, _OTHER) and name not in baseline(arch)}
    features = frozenset(name for name in above if known[name].kind == "isa")
    unnamed = mnemonic if _OTHER in needs or above - features else ""
    return Requirement(features, other=unnamed) if features or unnamed else None


@cache
def of_cpuid_feature(arch: str, name: str) -> tuple[str, ...]:
    """Return the meaning of iced-x86's CpuidFeature: features, ``baseline`` or ``other``. Raises UnknownNameError."""
    return _rule(arch, name) or (find(arch, name).name,)


@cache
def baseline(arch: str) -> frozenset[str]:
    """Return the features that every CPU of an architecture has."""
    features = cpu_features(arch, architecture(arch).cpu)
    return features.of_kind(*HARDWARE).names if features else frozenset()


def _rule(arch: str, subject: str) -> tuple[str, ...]:
    return _rules(arch).get(subject, ())


@cache
def _rules(arch: str) -> dict[str, tuple[str, ...]]:
    rows = tables.rows("x86/decoder.tsv")
    return {subject: tuple(means.split()) for subject, archs, means, _ in rows if archs in ("*", arch)}


@cache
def _harmless(arch: str) -> frozenset[str]:
    return frozenset(mnemonic for mnemonic, archs, *_ in tables.rows("x86/harmless.tsv") if archs in ("*", arch))
