"""Why a source does not report a feature: the bit that is 0, or the word that is missing.

The facts are the columns ``bit`` and ``spellings`` of ``features.tsv``.
"""

from __future__ import annotations

from cpufeat.features import family, table

_BITS = ("AT_HWCAP", "riscv_hwprobe")
"""Sources that answer in bits, besides CPUID."""
_ASKED = {"sysctl": "darwin", "IsProcessorFeaturePresent": "windows"}
"""Sources that are asked for one name or number each, and the system whose those are."""
_BY_NAME = ("x86", "riscv", "loongarch")
"""Families for which Linux names features in ``/proc/cpuinfo``; for the others it names bits."""


def evidence(arch: str, source: str, name: str) -> str:
    """Return the evidence that ``source`` does not report a feature; empty if it could not, whatever the CPU has."""
    feature, folder = table(arch)[name], family(arch)
    if source == "CPUID":
        return f"CPUID {feature.bit} is 0" if feature.bit else ""
    if source in _ASKED:
        has_names = folder == "x86" or _ASKED[source] in feature.spellings
        return _without(source, feature.flags(_ASKED[source]) if has_names else ())
    if source in _BITS and (feature.bit or folder != "riscv"):
        numbered = [" and ".join(map(_numbered, one.split("&"))) for one in feature.bit.split("|")]
        return f"{' or '.join(numbered)} is 0" if feature.bit else ""
    if folder in _BY_NAME:
        return _without(source, feature.kernel_flags)
    words = _words(arch)
    alternatives = (one.split("&") for one in feature.bit.split("|") if feature.bit)
    spelled = ([words.get(bit) or _numbered(bit) for bit in bits] for bits in alternatives)
    return next((_without(source, one) for one in spelled if not any("AT_HWCAP" in word for word in one)), "")


def _without(source: str, flags: tuple[str, ...] | list[str]) -> str:
    kind = "" if " " in "".join(flags) else "flag "
    return f"{source} has no {kind}{', '.join(flags)}" if flags else ""


def _numbered(bit: str) -> str:
    """Return ``AT_HWCAP2 bit 7`` for ``hwcap2[7]``; what is no numbered bit as it is."""
    word, _, number = bit.rstrip("]").partition("[")
    if word.startswith("hwprobe"):
        return f"riscv_hwprobe key {word.removeprefix('hwprobe')} bit {number}"
    names = {"hwcap": "AT_HWCAP bit", "hwcap2": "AT_HWCAP2 bit", "hwcap3": "AT_HWCAP3 bit", "facility": "facility bit"}
    return f"{names[word]} {number}" if word in names else bit.replace(">=", " ")


def _words(arch: str) -> dict[str, str]:
    """Return the words of ``/proc/cpuinfo`` that stand for bits of AT_HWCAP: a row's, in the same order."""
    words: dict[str, str] = {}
    for feature in table(arch).values():
        words |= zip(feature.bit.replace("|", "&").split("&"), feature.kernel_flags, strict=False)
    return {bit: word for bit, word in words.items() if bit.startswith("hwcap")}
