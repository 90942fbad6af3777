"""Infer the architecture of a machine from what only the kernel of that architecture prints."""

from __future__ import annotations

_ARCHITECTURES = (
    ("flags", " thumb ", "arm"),
    ("flags", " asimd", "aarch64"),
    ("flags", " cpucfg ", "loongarch64"),
    ("flags", " esan3 ", "s390x"),
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
    ("cpu", " a2 ", "ppc64"),
    ("cpu", " cell ", "ppc64"),
    ("cpu", " e5500", "ppc64"),
    ("cpu", " e6500", "ppc64"),
    ("cpu", " pa6t", "ppc64"),
    ("cpu", " 970", "ppc64"),
    ("revision", "(pvr ", "ppc"),
)
"""A key, a part of its value in lower case between spaces, and the architecture that they show.

lscpu has ``flags`` for all architectures.
"""


def infer_arch(values: dict[str, str]) -> str:
    """Infer the architecture of ``/proc/cpuinfo`` from what only its kernel prints; empty where nothing tells."""
    padded = {key: f" {value} ".lower() for key, value in values.items()}
    return next((arch for key, part, arch in _ARCHITECTURES if part in padded.get(key, "")), "")
