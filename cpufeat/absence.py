"""Why a source does not report a feature: the bit that is 0, or the word that is missing.

The facts are the columns ``bit`` and ``spellings`` of ``features.tsv``.
"""

from __future__ import annotations

from cpufeat.features import family, table

BITS = ("AT_HWCAP", "riscv_hwprobe")
"""Sources that answer in bits, besides CPUID."""
_ASKED = {"sysctl": "darwin", "IsProcessorFeaturePresent": "windows"}
"""Sources that are asked for one name or number each, and the system whose those are."""
_BY_NAME = ("x86", "riscv", "loongarch")
"""Families for which Linux names features in ``/proc/cpuinfo``; for the others it names bits."""
_INFERRED = "arm"
"""The family in which what has no word is inferred from what has one; its absence is not."""


def evidence(arch: str, source: str, name: str) -> str:
    """Return the evidence that ``source`` does not report a feature; empty if it could not, whatever the CPU has."""
    feature, folder = table(arch)[name], family(arch)
    if source == "CPUID":
        return f"CPUID {feature.bit} is 0" if feature.bit else ""
    if source in _ASKED:
        is_named = folder == "x86" or _ASKED[source] in feature.spellings
        return _without(source, feature.flags(_ASKED[source]) if is_named else ())
    from cpufeat.probe import bits

    if folder == _INFERRED and not feature.kernel_flags:
        return ""
    if source in BITS and feature.bit:
        numbered = [" and ".join(map(bits.spelled, one.split("&"))) for one in feature.bit.split("|")]
        return f"{' or '.join(numbered)} is 0"
    if feature.bit.startswith("facility"):
        return f"{source} has no {bits.spelled(feature.bit.partition('|')[0])}"
    has_word = feature.bit if folder not in _BY_NAME else source not in BITS or folder == "riscv"
    return _without(source, feature.kernel_flags if has_word else ())


def _without(source: str, flags: tuple[str, ...]) -> str:
    return f"{source} has no flag {', '.join(flags)}" if flags else ""
