"""Make a ``Recording`` of saved CPUID leaves: from ``cpuid -r`` (Todd Allen), InstLatx64, AIDA64 or Everest."""

from __future__ import annotations

import re

from cpufeat.detection.dumps.paste import repeated, several_machines
from cpufeat.detection.dumps.text import check_processors
from cpufeat.detection.probe import proc_cpuinfo
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.instructions import Registers
    from cpufeat.detection.machine import Leaves

_BEGINNING = re.compile(r"\s*(?:0x|CPUID\s+[0-9A-Fa-f]{1,8}(?:[\s:]|$))")
_LEAF, _EAX, _EBX, _ECX, _EDX = (f"(?P<{word}>[0-9A-Fa-f]{{8}})" for word in ("leaf", "eax", "ebx", "ecx", "edx"))
_SUBLEAF = "(?P<subleaf>[0-9A-Fa-f]{1,8})"
_SHAPES = {
    "0x00000007 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000": re.compile(
        rf"\s*0x{_LEAF}(?:\s+0x{_SUBLEAF})?\s*:\s*eax=0x{_EAX}\s+ebx=0x{_EBX}\s+ecx=0x{_ECX}\s+edx=0x{_EDX}\s*$"
    ),
    "CPUID 00000007: 00000000-00000000-00000000-00000000 [SL 00]": re.compile(
        rf"\s*CPUID\s+{_LEAF}[:\s]\s*:?\s*{_EAX}[-\s]+{_EBX}[-\s]+{_ECX}[-\s]+{_EDX}"
        rf"(?:\s*\[SL {_SUBLEAF}\].*|\s+(?!\[SL).*)?$"
    ),
}
"""A line of each shape, by an example; old versions of the second leave out the colon, or write spaces or tabs."""
_LONG_MODE = 0x80000001, 0


def read(text: str, path: str) -> Recording:
    """Return the machine with these leaves. Raises DumpError, naming the line that is damaged."""
    cpus: dict[int, Leaves] = {}
    repeats: dict[tuple[int, int], int] = {}
    headings: list[str] = []
    cpu, unused, is_headed, xcr0 = 0, 0, False, None
    for number, line in enumerate(text.splitlines(), 1):
        if not is_leaf(line):
            numbered = _cpu_number(line)
            cpu, is_headed = (cpu, is_headed) if numbered is None else (numbered, True)
            key, _, value = (part.strip() for part in line.partition(":"))
            xcr0 = _number(value.replace("-", ""), 16) if key.upper() == "XCR0" else xcr0
            continue
        leaf, subleaf, registers = _leaf(line, f"{path}:{number}")
        if (leaf, subleaf or 0) == (0, 0):
            headings += [str(cpu)] if is_headed else []
            cpu, is_headed = unused if (0, 0) in cpus.get(cpu, {}) else cpu, False
        unused = max(unused, cpu + 1)
        repeats[cpu, leaf] = repeats.get((cpu, leaf), -1) + 1
        if subleaf is None:
            subleaf = repeats[cpu, leaf]
        cpus.setdefault(cpu, {}).setdefault((leaf, subleaf), registers)
    check_processors(len(cpus), path)
    is_64bit = all(leaves.get(_LONG_MODE, (0,) * 4)[3] >> 29 & 1 for leaves in cpus.values())
    return Recording(
        arch="x86_64" if is_64bit else "i686",
        leaves=cpus,
        xcr0=xcr0,
        remarks=several_machines("CPU", repeated(headings)),
    )


def is_leaf(line: str) -> bool:
    """Whether a line begins like one of :data:`_SHAPES`."""
    return _BEGINNING.match(line) is not None


def _leaf(line: str, place: str) -> tuple[int, int | None, Registers]:
    """Parse a line that :func:`is_leaf` confirmed: the leaf, the subleaf if it is named, and the registers."""
    example = next(example for example in _SHAPES if example[0] == line.lstrip()[0])
    match = _SHAPES[example].match(line)
    if match is None:
        raise DumpError(f"{place}: damaged or cut off; expected a line like {example!r}")
    eax, ebx, ecx, edx = (int(match[register], 16) for register in ("eax", "ebx", "ecx", "edx"))
    subleaf = match["subleaf"]
    return int(match["leaf"], 16), None if subleaf is None else int(subleaf, 16), (eax, ebx, ecx, edx)


def _number(word: str, most: int) -> int | None:
    """Return a hexadecimal number of up to ``most`` digits, or None for any other word."""
    digits = word.removeprefix("0x")
    return int(digits, 16) if re.fullmatch(f"[0-9A-Fa-f]{{1,{most}}}", digits) else None


def _cpu_number(line: str) -> int | None:
    """Return the number in a heading: ``CPU 3:``, ``CPU#003 AffMask: 0x8``, ``------[ Logical CPU #3 ]------``."""
    rest = line.partition("CPU")[2].lstrip(" #\t")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return proc_cpuinfo.number(digits)
