"""C programs that print what emitted detection finds and the registers it read, and recorded machines to compare."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cpufeat.detection import dumps
from cpufeat.detection.cpuid import Cpuid
from cpufeat.detection.recording import Recording
from helpers.paths import CORPUS, MACHINES
from helpers.run_emitted_ir import selectable_features

if TYPE_CHECKING:
    from collections.abc import Iterator


MAC, MAC_ON_INTEL = "arm64-apple-macosx14.0.0", "x86_64-apple-macosx14.0.0"
WINDOWS, WINDOWS_ON_ARM = "x86_64-pc-windows-msvc", "aarch64-pc-windows-msvc"


def recorded_machines() -> Iterator[Recording]:
    for path in (*sorted(MACHINES.glob("*.json")), *sorted(CORPUS.glob("*/*.cpuid"))):
        whole = dumps.load(str(path))[1]
        first = min(whole.leaves, default=None)
        if whole.arch in ("x86_64", "i686") and first is not None:
            yield whole.replace(xcr0=Cpuid(whole, first).xcr0()[0])


EXTENDED_LEAVES = [(0x80000001, 0), (0x80000008, 0), (0x80000021, 0)]


def detection_program(leaves: list[tuple[int, int]], count: int) -> str:
    """C code that prints what is found, then CPUID leaves and XCR0, by the compiler's intrinsics."""
    queries = "".join(f"leaf({leaf:#x}u, {subleaf});" for leaf, subleaf in leaves)
    return f"""
#include <cpuid.h>
#include <stdio.h>
void features(unsigned char *);
static unsigned leaf(unsigned number, unsigned sub) {{
    unsigned a, b, c, d;
    __cpuid_count(number, sub, a, b, c, d);
    printf("%x.%x %x %x %x %x\\n", number, sub, a, b, c, d);
    return c;
}}
int main(void) {{
    unsigned char found[{count}];
    features(found);
    for (int i = 0; i < {count}; i++) putchar('0' + found[i]);
    putchar('\\n');
    {queries}
    unsigned low = 0, high = 0;
    if (leaf(1, 0) >> 27 & 1) __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    printf("%x\\n", low);
}}
"""


PRINTED_LEAVES = [
    (0, 0),
    (7, 0),
    (7, 1),
    (0xD, 1),
    (0x14, 0),
    (0x19, 0),
    (0x1E, 1),
    (0x24, 0),
    (0x29, 0),
    *((0x80000000, 0), *EXTENDED_LEAVES),
]


def parsed_output(output: str, triple: str) -> tuple[set[str], Recording]:
    first, *leaves, xcr0 = output.splitlines()
    features = {name for name, bit in zip(selectable_features(triple), first, strict=True) if bit == "1"}
    words = {}
    for line in leaves:
        place, *registers = line.split()
        leaf, subleaf = place.split(".")
        a, b, c, d = (int(word, 16) for word in registers)
        words[int(leaf, 16), int(subleaf, 16)] = (a, b, c, d)
    return features, Recording(arch=triple.split("-", maxsplit=1)[0], leaves={0: words}, xcr0=int(xcr0, 16))


ZIG = (sys.executable, "-m", "ziglang", "cc", "-static", "-target")
