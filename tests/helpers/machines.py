"""Machines made up for tests: CPUID words that report just what a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.detection.recording import Recording
from cpufeat.features import FeatureSet, implied, table

if TYPE_CHECKING:
    import random

    from cpufeat.detection.machine import Leaves

EVERY_STATE = 0xE00E7  # x87, SSE, AVX, AVX-512, AMX, APX
_REGISTERS = ["EAX", "EBX", "ECX", "EDX"]


def leaves(vendor: str, family: int, model: int, stepping: int, features: set[str], *, core_type: int = 0) -> Leaves:
    """CPUID of an x86-64 processor that reports ``features`` and all that they depend on."""
    words: dict[tuple[int, int], list[int]] = {
        (0, 0): [0x24, *(int.from_bytes(vendor.encode()[at : at + 4], "little") for at in (0, 8, 4))],
        (1, 0): [_signature(family, model, stepping), 0, 1 << 27, 0],
        (7, 0): [2, 0, 0, bool(core_type) << 15],
        (0x1A, 0): [core_type << 24, 0, 0, 0],
        (0x80000000, 0): [0x80000021, 0, 0, 0],
    }
    rows = table("x86_64")
    for name in {base for feature in features for base in implied("x86_64", feature)}:
        for term in next(iter(rows[name].condition.alternatives), ()):
            leaf, register = term.word.split(":")
            key = tuple(int(part, 16) for part in leaf.split("."))
            words.setdefault((key[0], key[1]), [0] * 4)[_REGISTERS.index(register)] |= term.least << term.low
    return {key: (a, b, c, d) for key, (a, b, c, d) in words.items()}


def machine(
    vendor: str, family: int, model: int, features: set[str], *, stepping: int = 0, xcr0: int = EVERY_STATE
) -> Recording:
    """A Linux machine with one such processor."""
    return Recording(leaves={0: leaves(vendor, family, model, stepping, features)}, xcr0=xcr0)


def _signature(family: int, model: int, stepping: int) -> int:
    extended = max(family - 15, 0)
    return extended << 20 | (model >> 4) << 16 | min(family, 15) << 8 | (model & 15) << 4 | stepping


INTEL, AMD = "GenuineIntel", "AuthenticAMD"


EAX, EBX, ECX, EDX = range(4)


HYBRID = 1 << 15
"""7.0:EDX: the CPU has several kinds of core."""


WITH_FEATURES = [
    (1, 0, (ECX, EDX)),
    (7, 0, (EBX, ECX, EDX)),
    (7, 1, (EAX, ECX, EDX)),
    (0xD, 1, (EAX,)),
    (0x14, 0, (EBX,)),
    (0x19, 0, (EBX,)),
    (0x1E, 1, (EAX,)),
    (0x24, 0, (EBX,)),
    (0x29, 0, (EBX,)),
    (0x80000001, 0, (ECX, EDX)),
    (0x80000008, 0, (EBX,)),
    (0x80000021, 0, (EAX,)),
]
"""The registers of CPUID that announce features."""


def made_up(generator: random.Random) -> Recording:
    """A machine with some features, all that they depend on, stray bits, and some state enabled."""
    share = generator.choice((0.05, 0.3, 0.7, 0.95))
    names = {name for name, feature in table("x86_64").items() if feature.bit and generator.random() < share}
    if generator.random() < 0.1:
        names = set(FeatureSet("x86_64", names).closed().without(["avx"]))
    words = {key: list(registers) for key, registers in leaves("GenuineIntel", 6, 60, 3, names).items()}
    words[0, 0][0] = 0x29
    for leaf, subleaf, registers in WITH_FEATURES:
        values = words.setdefault((leaf, subleaf), [0] * 4)
        for register in registers:
            values[register] |= generator.getrandbits(32) & generator.getrandbits(32)
    words[7, 0][EDX] &= ~HYBRID
    xcr0 = generator.choice((0x3, 0x7, 0xE7, 0x200E7, 0x600E7, 0xE0067, 0xE0007, 0xE00E7))
    return Recording(leaves={0: {key: (a, b, c, d) for key, (a, b, c, d) in words.items()}}, xcr0=xcr0)
