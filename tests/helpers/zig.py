"""What the package ziglang brings along: the kernel's headers, and Zig's own table of Arm cores."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path


def _lib() -> Path:
    spec = importlib.util.find_spec("ziglang")
    assert spec, "the package ziglang is among the test dependencies"
    assert spec.origin
    return Path(spec.origin).parent / "lib"


def capabilities(arch: str) -> list[tuple[str, str, int]]:
    """Return the kernel's <asm/hwcap.h>: word (``HWCAP2``), name and bit of each capability."""
    text = (_lib() / "libc" / "include" / f"{arch}-linux-any" / "asm" / "hwcap.h").read_text()
    matches = re.findall(r"^#define (HWCAP\d?)_(\w+)\s+\(1(?:UL)? << (\d+)\)", text, re.M)
    return [(word, name, int(bit)) for word, name, bit in matches]


def arm_cores(bits: int) -> dict[tuple[str, int], str]:
    """Return the LLVM CPU of each implementer and part number to programs of 32 or 64 bits."""
    text = (_lib() / "std" / "zig" / "system" / "arm.zig").read_text()
    tables = re.findall(r"// implementer = (0x\w+)\s+const \w+ = \[_\]E\{(.*?)\n    \};", text, re.S)
    entries = [(vendor.lower(), line) for vendor, lines in tables for line in lines.splitlines()]
    matches = ((vendor, re.search(rf"\.part = (0x\w+).*\.m{bits} = &A{bits}\.(\w+)", line)) for vendor, line in entries)
    return {(vendor, int(match[1], 16)): match[2].replace("_", "-") for vendor, match in matches if match}
