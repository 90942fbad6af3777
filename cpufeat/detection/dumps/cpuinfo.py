"""Make a ``Recording`` of a saved ``/proc/cpuinfo``; :mod:`cpufeat.detection.probe.proc_cpuinfo` parses it."""

from __future__ import annotations

from cpufeat.detection.dumps.text import check_processors
from cpufeat.detection.probe import proc_cpuinfo
from cpufeat.detection.recording import Recording

KEYS = (
    *("processor", "processor 0", "Processor", "vendor_id", "cpu family", "flags"),  # x86 and most others
    *("CPU implementer", "Features", "isa", "ISA", "cpu", "cpu model"),  # Arm, RISC-V, LoongArch, POWER, MIPS
)
"""Keys by which it is recognized."""
_ARCHITECTURES = (
    ("flags", " lm ", "x86_64"),
    ("flags", " ", "i686"),
    ("isa", "rv64", "riscv64"),
    ("isa", "rv32", "riscv32"),
    ("isa", "loongarch64", "loongarch64"),
    ("ISA", "loongarch64", "loongarch64"),
    ("isa", "mips64", "mips64"),
    ("isa", "mips", "mips"),
    ("cpu model", "mips", "mips"),
    ("Features", "asimd", "aarch64"),
    ("Features", " thumb ", "arm"),
    ("Processor", "aarch64", "aarch64"),
    ("CPU architecture", "aarch64", "aarch64"),
    ("CPU implementer", " ", "arm"),
    ("Processor", "arm", "arm"),
    ("vendor_id", "ibm/s390", "s390x"),
    ("cpu", "power8", "ppc64le"),
    ("cpu", "power9", "ppc64le"),
    ("cpu", "power1", "ppc64le"),
    ("cpu", "power", "ppc64"),
    ("cpu", "ppc", "ppc64"),
)
"""A key, a part of its value in lower case between spaces, and the architecture that they show."""


def read(text: str, path: str) -> Recording:
    """Return the machine with this file. Raises DumpError for more processors than any machine has."""
    content = text.encode()
    blocks = proc_cpuinfo.blocks(content)
    check_processors(len(blocks), path)
    values: dict[str, str] = {}
    for block in reversed(blocks):
        values.update(block)
    return Recording(arch=infer_arch(values), files={"/proc/cpuinfo": content})


def infer_arch(values: dict[str, str]) -> str:
    """Infer the architecture of ``/proc/cpuinfo`` from what only its kernel prints; empty where nothing tells."""
    padded = {key: f" {value} ".lower() for key, value in values.items()}
    return next((arch for key, part, arch in _ARCHITECTURES if part in padded.get(key, "")), "")
