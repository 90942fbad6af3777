"""Read identity and features of an x86 processor from the variables ``machdep.cpu`` of macOS.

Source: XNU ``osfmk/i386/cpuid.c``, which prints what CPUID reports, enabled or not.
"""

from __future__ import annotations

from cpufeat.detection.cpuid import AVX512_STATE
from cpufeat.detection.probe.proc_cpuinfo import brand
from cpufeat.detection.probe.x86_flags import X86Processor
from cpufeat.features import normalize
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine

_FLAGS = ("features", "leaf7_features", "extfeatures")
_AVX_STATE = 0b111
_INTEL_MACS = {"GenuineIntel": 6}
"""The family of every Intel CPU that macOS was made for; people leave it out of dumps."""


def processor(machine: Machine) -> X86Processor | None:
    """Return the processor, its flags in the spelling of cpufeat's names; None where sysctl tells no flags."""
    words = " ".join(_text(machine, name) for name in _FLAGS).split()
    if not words:
        return None
    return X86Processor(
        vendor=_text(machine, "vendor"),
        family=_number(machine, "family") or _INTEL_MACS.get(_text(machine, "vendor")),
        model=_number(machine, "model"),
        stepping=_number(machine, "stepping"),
        brand=brand(_text(machine, "brand_string")),
        flags=frozenset(map(normalize, words)),
    )


def enabled(machine: Machine, flags: frozenset[str]) -> int:
    """Return the states that macOS keeps, as in XCR0: AVX's where it uses XSAVE, and AVX-512's where it says so."""
    if "osxsave" not in flags:
        return 0
    return _AVX_STATE | (AVX512_STATE if machine.sysctl("hw.optional.avx512f") == 1 else 0)


def _text(machine: Machine, name: str) -> str:
    return str(machine.sysctl(f"machdep.cpu.{name}") or "")


def _number(machine: Machine, name: str) -> int | None:
    value = machine.sysctl(f"machdep.cpu.{name}")
    return value if isinstance(value, int) else None
