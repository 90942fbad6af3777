"""Read identity and flags of an x86 processor as Linux describes it, in ``/proc/cpuinfo`` or by lscpu's labels.

Linux leaves out the flags of what it did not enable (Documentation/arch/x86/cpuinfo.rst).
"""

from __future__ import annotations

from cpufeat.detection.probe import proc_cpuinfo
from cpufeat.detection.probe.proc_cpuinfo import brand, number
from cpufeat.support.value import Value


class X86Processor(Value):
    """The kernel's description of an x86 processor; None or empty where it prints nothing."""

    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    brand: str
    flags: frozenset[str]
    microcode: int | None = None
    """Its revision."""


def from_cpuinfo(content: bytes) -> list[X86Processor]:
    """Return the processors of an x86 ``/proc/cpuinfo``, in its order."""
    return [_of_paragraph(block) for block in proc_cpuinfo.blocks(content) if "flags" in block or "cpu family" in block]


def _of_paragraph(block: dict[str, str]) -> X86Processor:
    return X86Processor(
        vendor=block.get("vendor_id", ""),
        family=number(block.get("cpu family", "")),
        model=number(block.get("model", "")),
        stepping=number(block.get("stepping", "")),
        brand=brand(block.get("model name", "")),
        flags=frozenset(block.get("flags", "").split()),
        microcode=revision(block.get("microcode", "")),
    )


def revision(text: str) -> int | None:
    """Return the revision of microcode that the kernel writes as ``0xb40401a``, None for any other text."""
    try:
        return int(text, 16) if len(text) <= len("0x12345678") else None
    except ValueError:
        return None


def from_lscpu(fields: dict[str, str]) -> X86Processor:
    """Return the processor that values by lscpu's labels describe."""
    return X86Processor(
        vendor=fields.get("Vendor ID", ""),
        family=number(fields.get("CPU family", "")),
        model=number(fields.get("Model", "")),
        stepping=number(fields.get("Stepping", "")),
        brand=brand(fields.get("Model name", "")),
        flags=frozenset(fields.get("Flags", "").split()),
    )
