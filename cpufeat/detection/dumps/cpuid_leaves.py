"""Make a ``Recording`` of saved CPUID leaves: from ``cpuid -r`` (Todd Allen), InstLatx64 or AIDA64."""

from __future__ import annotations

from cpufeat.detection.dumps.text import check_processors
from cpufeat.detection.probe import proc_cpuinfo
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.instructions import Registers
    from cpufeat.detection.machine import Leaves

_HEX = frozenset("0123456789abcdefABCDEF")
_REGISTERS = ["eax", "ebx", "ecx", "edx"]
_LONG_MODE = 0x80000001, 0


def read(text: str, path: str) -> Recording:
    """Return the machine with these leaves. Raises DumpError, naming the line that is damaged."""
    cpus: dict[int, Leaves] = {}
    repeats: dict[tuple[int, int], int] = {}
    cpu, unused, xcr0 = 0, 0, None
    for number, line in enumerate(text.splitlines(), 1):
        key, _, value = (part.strip() for part in line.partition(":"))
        if not is_leaf(key):
            cpu = _cpu_number(line, cpu)
            xcr0 = _number(value.replace("-", ""), 16) if key.upper() == "XCR0" else xcr0
            continue
        leaf, subleaf, registers = _leaf(key, value, f"{path}:{number}")
        if (leaf, subleaf or 0) == (0, 0) and (0, 0) in cpus.get(cpu, {}):
            cpu = unused
        unused = max(unused, cpu + 1)
        repeats[cpu, leaf] = repeats.get((cpu, leaf), -1) + 1
        if subleaf is None:
            subleaf = repeats[cpu, leaf]
        cpus.setdefault(cpu, {}).setdefault((leaf, subleaf), registers)
    check_processors(len(cpus), path)
    is_64bit = all(leaves.get(_LONG_MODE, (0,) * 4)[3] >> 29 & 1 for leaves in cpus.values())
    return Recording(arch="x86_64" if is_64bit else "i686", leaves=cpus, xcr0=xcr0)


def is_leaf(key: str) -> bool:
    """Whether a line begins like one of :func:`_leaf`."""
    return key.startswith("0x") or (key.startswith("CPUID ") and _number(key[6:], 8) is not None)


def _leaf(key: str, value: str, place: str) -> tuple[int, int | None, Registers]:
    """Parse ``0x00000007 0x00: eax=0x... ...`` or ``CPUID 00000007: ...-...-...-... [SL 00]``."""
    if key.startswith("0x"):
        numbers = [_number(word, 8) for word in key.split()]
        words = [word.partition("=") for word in value.split()]
        registers = [_number(word, 8, least=8) for name, _, word in words]
        names = [name for name, _, _ in words]
        example = "0x00000007 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000"
    else:
        values, _, note = value.partition(" ")
        subleaf = note.partition("[SL ")[2].partition("]")[0]
        numbers = [_number(key[6:], 8), *([_number(subleaf, 8)] if subleaf else [])]
        registers = [_number(word, 8, least=8) for word in values.split("-")]
        names = _REGISTERS if len(registers) == 4 else []
        example = "CPUID 00000007: 00000000-00000000-00000000-00000000 [SL 00]"
    if names != _REGISTERS or None in registers or None in numbers or len(numbers) > 2:
        raise DumpError(f"{place}: damaged or cut off; expected a line like {example!r}")
    eax, ebx, ecx, edx = (register or 0 for register in registers)
    return numbers[0] or 0, numbers[1] if len(numbers) == 2 else None, (eax, ebx, ecx, edx)


def _number(word: str, most: int, least: int = 1) -> int | None:
    """Return a hexadecimal number of ``least`` to ``most`` digits, or None for any other word."""
    digits = word.removeprefix("0x")
    return int(digits, 16) if least <= len(digits) <= most and _HEX.issuperset(digits) else None


def _cpu_number(line: str, current: int) -> int:
    """Return the number in a heading: ``CPU 3:``, ``CPU#003 AffMask: 0x8``, ``------[ Logical CPU #3 ]------``."""
    rest = line.partition("CPU")[2].lstrip(" #\t")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    number = proc_cpuinfo.number(digits)
    return current if number is None else number
