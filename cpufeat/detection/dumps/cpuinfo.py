"""Make a ``Recording`` of a saved ``/proc/cpuinfo``; :mod:`cpufeat.detection.probe.proc_cpuinfo` parses it."""

from __future__ import annotations

from cpufeat.detection.dumps.architecture import infer_arch
from cpufeat.detection.dumps.paste import CPUINFO_LISTS, mend, repeated, several_machines
from cpufeat.detection.dumps.text import check_processors
from cpufeat.detection.probe import proc_cpuinfo
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError

KEYS = (
    *("processor", "processor 0", "Processor", "vendor_id", "cpu family", "flags", "model name"),  # x86 and most others
    *("CPU implementer", "Features", "isa", "ISA", "cpu", "cpu model"),  # Arm, RISC-V, LoongArch, POWER, MIPS
)
"""Keys by which it is recognized."""


_TELL = (*CPUINFO_LISTS, "cpu", "cpu model", "Processor")
"""Keys that tell features, of which each architecture has one: lists, or on POWER, MIPS and old Arm a name."""
_ARM64 = ("8", "AArch64")
"""The versions of Arm's architecture that do not tell the features: a 64-bit kernel lists them."""


def read(text: str, path: str) -> Recording:
    """Return the machine with this file.

    Raises DumpError where nothing lists features, and for more processors than any machine has.
    """
    mended, decisions = mend(text)
    content = mended.encode()
    blocks = proc_cpuinfo.blocks(content)
    check_processors(len(blocks), path)
    values: dict[str, str] = {}
    for block in reversed(blocks):
        values.update(block)
    if not any(values.get(key) for key in _TELL) and values.get("CPU architecture", _ARM64[0]) in _ARM64:
        raise DumpError(f"{path}: no line lists features, such as flags: cut or filtered? Give all of /proc/cpuinfo")
    arch = infer_arch(values)
    if not arch:
        raise DumpError(f"{path}: nothing tells the architecture: cut or filtered? Give all of /proc/cpuinfo")
    numbers = [block["processor"] for block in blocks if "processor" in block]
    return Recording(
        arch=arch,
        files={"/proc/cpuinfo": content},
        remarks=(*decisions, *several_machines("processor", repeated(numbers))),
    )
