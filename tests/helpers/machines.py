"""Machines made up for tests: CPUID words that report just what a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.features import implied, table
from cpufeat.recording import Recording

if TYPE_CHECKING:
    from cpufeat.machine import Leaves

EVERY_STATE = 0xE00E7  # x87, SSE, AVX, AVX-512, AMX, APX
_REGISTERS = ["EAX", "EBX", "ECX", "EDX"]


def leaves(vendor: str, family: int, model: int, stepping: int, features: set[str], *, core_type: int = 0) -> Leaves:
    """CPUID of an x86-64 processor that reports ``features`` and all that they rest on."""
    words: dict[tuple[int, int], list[int]] = {
        (0, 0): [0x24, *(int.from_bytes(vendor.encode()[at : at + 4], "little") for at in (0, 8, 4))],
        (1, 0): [_signature(family, model, stepping), 0, 1 << 27, 0],
        (7, 0): [2, 0, 0, bool(core_type) << 15],
        (0x1A, 0): [core_type << 24, 0, 0, 0],
        (0x80000000, 0): [0x80000021, 0, 0, 0],
    }
    rows = table("x86_64")
    for name in {base for feature in features for base in implied("x86_64", feature)}:
        for field in filter(None, rows[name].bit.split("|")[0].split("&")):
            place, _, number = field.partition(">=")
            where, _, bits = place.rstrip("]").partition("[")
            leaf, register = where.split(":")
            key = tuple(int(part, 16) for part in leaf.split("."))
            words.setdefault((key[0], key[1]), [0] * 4)[_REGISTERS.index(register)] |= int(number or 1) << int(
                bits.split("-")[0]
            )
    return {key: (a, b, c, d) for key, (a, b, c, d) in words.items()}


def machine(
    vendor: str, family: int, model: int, features: set[str], *, stepping: int = 0, xcr0: int = EVERY_STATE
) -> Recording:
    """A Linux machine with one such processor."""
    return Recording(leaves={0: leaves(vendor, family, model, stepping, features)}, xcr0=xcr0)


def _signature(family: int, model: int, stepping: int) -> int:
    extended = max(family - 15, 0)
    return extended << 20 | (model >> 4) << 16 | min(family, 15) << 8 | (model & 15) << 4 | stepping
