"""Explain why a feature that a source does not report counts as off: the bit that is 0, or the word that is missing.

The facts are the columns ``bit`` and ``spellings`` of ``features.tsv``.
"""

from __future__ import annotations

from cpufeat.decisions import NOT_REPORTED, UNSEEN, Withheld
from cpufeat.detection.arch import PROCESS
from cpufeat.features import family, table
from cpufeat.support.conditions import written
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

BITS = ("AT_HWCAP", "riscv_hwprobe")
"""Sources that answer in bits, besides CPUID."""
_NAMED_QUESTIONS = {"sysctl": "darwin", "IsProcessorFeaturePresent": "windows"}
"""Sources that are asked for one name or number each, and the system whose those are."""
_BY_NAME = ("x86", "riscv", "loongarch")
"""Families for which Linux names features in ``/proc/cpuinfo``; for the others it names bits."""
_INFERRED = "arm"
"""The family in which a feature without a word of the kernel is inferred from one that has a word; its absence is not
inferred."""


def why(arch: str, source: str, name: str, undetermined: Container[str] = ()) -> Withheld:
    """Return why a feature that ``source`` does not report is off: what says so, or that nothing could have told.

    ``undetermined`` are features that this system's answer can neither confirm nor rule out.
    """
    if source == PROCESS:
        return Withheld(UNSEEN, "neither the processor nor the system answers")
    report = evidence(arch, source, name)
    if report and name not in undetermined:
        return Withheld(NOT_REPORTED, report)
    if report:
        return Withheld(UNSEEN, f"{source} may be too old to show it")
    some_show_it = _has_words(arch, source) and table(arch)[name].flags("kernel")
    return Withheld(UNSEEN, f"not every {source} shows it" if some_show_it else f"{source} never shows it")


def evidence(arch: str, source: str, name: str) -> str:
    """Return the evidence that ``source`` does not report a feature; empty if it could not, whatever the CPU has."""
    feature, folder = table(arch)[name], family(arch)
    if source == "CPUID":
        condition = " or ".join(map(written, feature.condition.alternatives))
        return f"CPUID {condition} is 0" if condition else ""
    if source in _NAMED_QUESTIONS:
        flags = feature.spellings.get(_NAMED_QUESTIONS[source], ())
        return _without(source, feature.flags(_NAMED_QUESTIONS[source])) if folder == "x86" else _denied(source, flags)
    from cpufeat.detection.probe import bits

    if folder == _INFERRED and not feature.kernel_flags:
        return ""
    if source in BITS and feature.bit:
        numbered = [" and ".join(map(bits.spelled, terms)) for terms in feature.condition.alternatives]
        return f"{' or '.join(numbered)} is 0"
    first = next(iter(feature.condition.terms), None)
    if first is not None and first.word == "facility":
        return f"{source} has no {bits.spelled(first)}"
    has_word = _has_words(arch, source) if folder in _BY_NAME else feature.bit
    return _without(source, feature.kernel_flags if has_word else ())


def _has_words(arch: str, source: str) -> bool:
    """Whether a source names features as ``/proc/cpuinfo`` does; on RISC-V that is read beside the bits."""
    folder = family(arch)
    return folder in _BY_NAME and (folder == "riscv" or source not in (*BITS, *_NAMED_QUESTIONS, "CPUID"))


def _denied(source: str, names: tuple[str, ...]) -> str:
    return f"{source} {', '.join(names)} is 0" if names else ""


def _without(source: str, flags: tuple[str, ...]) -> str:
    return f"{source} has no flag {', '.join(flags)}" if flags else ""
