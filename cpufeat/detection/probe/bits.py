"""Find the features whose conditions hold for the bits that a kernel or an instruction reports.

Bits that are set are a dictionary from their names in ``features.tsv`` (``hwcap2[31]``) to the evidence for each.
"""

from __future__ import annotations

from cpufeat.features import family, implied, sums, table
from cpufeat.support.conditions import Term
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cpufeat.detection.machine import Machine
    from cpufeat.support.conditions import Condition

_AUXILIARY = {"hwcap": (16, "AT_HWCAP"), "hwcap2": (26, "AT_HWCAP2"), "hwcap3": (29, "AT_HWCAP3")}
"""Types of entry in the auxiliary vector (Linux ``include/uapi/linux/auxvec.h``)."""
_AFTER_HWCAP2 = {"aarch64": 32, "arm": 22}
"""The bit of AT_HWCAP from which on Linux numbered them after AT_HWCAP2's (the history of its ``uapi/asm/hwcap.h``)."""


def auxiliary(machine: Machine) -> dict[str, str]:
    """Return the bits of AT_HWCAP, AT_HWCAP2 and AT_HWCAP3 that are set, with ``AT_HWCAP2 bit 31`` as the evidence."""
    set_bits: dict[str, str] = {}
    for word, (kind, name) in _AUXILIARY.items():
        value = machine.getauxval(kind) or 0
        set_bits |= {f"{word}[{bit}]": f"{name} bit {bit}" for bit in range(value.bit_length()) if value >> bit & 1}
    return set_bits


def spelled(term: Term) -> str:
    """Return ``AT_HWCAP2 bit 31`` for ``hwcap2[31]``; what has no number as it is."""
    word, number = term.word, term.low
    if word in _AUXILIARY:
        return f"{_AUXILIARY[word][1]} bit {number}"
    if word.startswith("hwprobe"):
        return f"riscv_hwprobe key {word.removeprefix('hwprobe')} bit {number}"
    return f"{word} {number}" if "[" in term.text else term.text.replace(">=", " ")


def evidence(condition: Condition, set_bits: Mapping[str, str]) -> str:
    """Return the evidence of the first alternative whose bits are all held, empty where there is none."""
    for terms in condition.alternatives:
        if all(term.text in set_bits for term in terms):
            return " and ".join(set_bits[term.text] for term in terms)
    return ""


def undetermined(arch: str, set_bits: Iterable[str]) -> frozenset[str]:
    """Return the features of Arm with a bit that is newer than all that are set: the kernel may not know it.

    Linux numbers the bits as it learns of them, so it knows those before the last one that is set.
    """
    newest = max((_age(arch, Term(bit)) for bit in set_bits), default=0)
    ages = {
        feature.name: [max(_age(arch, term) for term in terms) for terms in feature.condition.alternatives]
        for feature in table(arch).values()
    }
    return frozenset(name for name, of_alternatives in ages.items() if min(of_alternatives, default=0) > newest)


def _age(arch: str, term: Term) -> int:
    """Return a number that is the higher the later Linux numbered a bit; 0 for what is not in the auxiliary vector."""
    word = term.word
    if word not in _AUXILIARY:
        return 0
    is_late = word == "hwcap" and term.low >= _AFTER_HWCAP2[family(arch)]
    return 1 + term.low + 64 * ("hwcap", "hwcap2", "late", "hwcap3").index("late" if is_late else word)


def reported(arch: str, set_bits: Mapping[str, str]) -> dict[str, str]:
    """Return the features whose bits are held, each with the evidence."""
    known = {feature.name: evidence(feature.condition, set_bits) for feature in table(arch).values()}
    return {name: why for name, why in known.items() if why}


def with_sums(arch: str, reported: Mapping[str, str]) -> dict[str, str]:
    """Return reported features, and those that are nothing but several of them, each with the evidence."""
    features = dict(reported)
    for name, parts in sums(arch).items():
        if parts <= features.keys():
            features.setdefault(name, " and ".join(features[part] for part in sorted(parts)))
    return features


def closed(arch: str, set_bits: Mapping[str, str], words: Mapping[str, str]) -> dict[str, str]:
    """Return the features whose bits are held, or that the kernel names, each with all that it depends on.

    ``words`` are the kernel's, with the evidence for each. A row's bit may be the name of a row above: ``zba&zbb&zbs``.
    """
    set_bits = dict(set_bits)
    features: dict[str, str] = {}
    for feature in table(arch).values():
        spelled = feature.spellings.get("kernel", (feature.name,))
        why = evidence(feature.condition, set_bits) or next((words[word] for word in spelled if word in words), "")
        for base in implied(arch, feature.name) if why else ():
            set_bits[base] = features.setdefault(base, why if base == feature.name else f"{feature.name} by {why}")
    return features
