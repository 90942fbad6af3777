"""Files in which somebody wrote a machine down: cpufeat's own, CPUID leaves, ``/proc/cpuinfo``, lscpu, macOS' sysctl.

CPUID leaves come in two forms: that of ``cpuid -r`` (Todd Allen), and that of InstLatx64's and AIDA64's collections.
"""

from __future__ import annotations

from pathlib import Path

from cpufeat.detection.machine import LARGEST_FILE, Leaves
from cpufeat.detection.probe import lscpu, procfs
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.instructions import Registers

_BINARY = frozenset(map(chr, range(32))) - frozenset("\t\n\v\f\r")
_HEX = frozenset("0123456789abcdefABCDEF")
_LONG_MODE = 0x80000001, 0
_MOST_PROCESSORS = 8192
_LSCPU_LABELS = ("Architecture", "CPU op-mode(s)", "Byte Order", "On-line CPU(s) list")
_CPUINFO_KEYS = (
    *("processor", "processor 0", "Processor", "vendor_id", "cpu family", "flags"),  # x86 and most others
    *("CPU implementer", "Features", "isa", "ISA", "cpu", "cpu model"),  # Arm, RISC-V, LoongArch, POWER, MIPS
)
_SYSCTL_KEYS = ("hw.", "machdep.cpu.")
_FORMATS = "a recording of cpufeat, CPUID leaves (cpuid -r, InstLatx64), /proc/cpuinfo, lscpu (LC_ALL=C), macOS' sysctl"


def load(path: str) -> tuple[str, Recording]:
    """Return a dump's format (``recording``, ``cpuid``, ``cpuinfo``, ``lscpu``, ``sysctl``) and the machine in it.

    ``/proc/cpuinfo`` is kept under its path, lscpu's output as the file ``lscpu``, CPUID leaves by processor.
    Raises DumpError, naming the path and, where there is one, the line, for a file that cannot be read, is empty,
    binary, larger than 16 MiB, damaged, or in none of these formats.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise DumpError(files.failure(path, error)) from None
    return parse(content, path)


def parse(content: bytes, path: str) -> tuple[str, Recording]:
    """Do what :func:`load` does, with bytes that were read earlier; ``path`` is for messages."""
    if len(content) > LARGEST_FILE:
        raise DumpError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, so no dump of a machine")
    text = _text(content, path)
    name = _format(text)
    if name == "recording":
        return name, Recording.from_json(text, path)
    if name == "cpuid":
        return name, _from_leaves(text, path)
    if name == "cpuinfo":
        return name, _from_cpuinfo(text.encode(), path)
    if name == "lscpu":
        return name, _from_lscpu(text.encode(), path)
    if name == "sysctl":
        return name, _from_sysctl(text)
    raise DumpError(f"{path}: in no known format; expected {_FORMATS}")


def _text(content: bytes, path: str) -> str:
    """Decode UTF-8, UTF-16 as Windows writes it, or else Latin-1."""
    encoding = _encoding(content)
    try:
        text = content.decode(encoding).lstrip("\ufeff").rstrip("\x1a")
    except UnicodeDecodeError as error:
        raise DumpError(f"{path}: not {encoding.upper()} as it begins: byte {error.start} is wrong") from None
    if not text.strip():
        raise DumpError(f"{path}: empty; expected {_FORMATS}")
    binary = _BINARY.intersection(text)
    if binary:
        line = 1 + text.count("\n", 0, min(map(text.index, binary)))
        raise DumpError(f"{path}:{line}: binary; expected text: {_FORMATS}")
    return text


def _encoding(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if content[1:2] == b"\0":
        return "utf-16-le"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _format(text: str) -> str:
    if text.lstrip().startswith("{"):
        return "recording" if '"lscpu"' not in text or '"cpufeat"' in text else "lscpu"
    for line in text.splitlines():
        key = line.partition(":")[0].strip()
        if _is_leaf(key):
            return "cpuid"
        if key in _LSCPU_LABELS:
            return "lscpu"
        if key in _CPUINFO_KEYS:
            return "cpuinfo"
        if key.startswith(_SYSCTL_KEYS):
            return "sysctl"
    return ""


# --- CPUID leaves


def _from_leaves(text: str, path: str) -> Recording:
    cpus: dict[int, Leaves] = {}
    repeats: dict[tuple[int, int], int] = {}
    cpu, unused, xcr0 = 0, 0, None
    for number, line in enumerate(text.splitlines(), 1):
        key, _, value = (part.strip() for part in line.partition(":"))
        if not _is_leaf(key):
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
    _check_count(len(cpus), path)
    is_64bit = all(leaves.get(_LONG_MODE, (0,) * 4)[3] >> 29 & 1 for leaves in cpus.values())
    return Recording(arch="x86_64" if is_64bit else "i686", leaves=cpus, xcr0=xcr0)


def _check_count(count: int, path: str) -> None:
    if count > _MOST_PROCESSORS:
        raise DumpError(f"{path}: {count} processors, which no machine has (Linux: {_MOST_PROCESSORS} at the most)")


def _is_leaf(key: str) -> bool:
    """Whether a line begins like one of :func:`_leaf`."""
    return key.startswith("0x") or (key.startswith("CPUID ") and _number(key[6:], 8) is not None)


def _leaf(key: str, value: str, where: str) -> tuple[int, int | None, Registers]:
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
        raise DumpError(f"{where}: damaged or cut off; expected a line like {example!r}")
    eax, ebx, ecx, edx = (register or 0 for register in registers)
    return numbers[0] or 0, numbers[1] if len(numbers) == 2 else None, (eax, ebx, ecx, edx)


_REGISTERS = ["eax", "ebx", "ecx", "edx"]


def _number(word: str, most: int, least: int = 1) -> int | None:
    """Return a hexadecimal number of ``least`` to ``most`` digits, or None for any other word."""
    digits = word.removeprefix("0x")
    return int(digits, 16) if least <= len(digits) <= most and _HEX.issuperset(digits) else None


def _cpu_number(line: str, current: int) -> int:
    """Return the number in a heading: ``CPU 3:``, ``CPU#003 AffMask: 0x8``, ``------[ Logical CPU #3 ]------``."""
    rest = line.partition("CPU")[2].lstrip(" #\t")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    number = procfs.number(digits)
    return current if number is None else number


# --- the kernel's accounts


def _from_cpuinfo(content: bytes, path: str) -> Recording:
    blocks = procfs.blocks(content)
    _check_count(len(blocks), path)
    values: dict[str, str] = {}
    for block in reversed(blocks):
        values.update(block)
    return Recording(arch=_arch(values), files={"/proc/cpuinfo": content})


def _arch(values: dict[str, str]) -> str:
    """Infer the architecture of ``/proc/cpuinfo`` from what only its kernel prints; empty where nothing tells."""
    padded = {key: f" {value} ".lower() for key, value in values.items()}
    return next((arch for key, part, arch in _ARCHITECTURES if part in padded.get(key, "")), "")


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


def _from_lscpu(content: bytes, path: str) -> Recording:
    try:
        fields = lscpu.fields(content)
    except ValueError as error:
        raise DumpError(f"{path}: {error}") from None
    arch = fields.get("Architecture") or _arch({"flags": fields.get("Flags", "")})
    return Recording(arch="i686" if arch in ("i386", "i486", "i586") else arch, files={"lscpu": content})


# --- macOS


def _from_sysctl(text: str) -> Recording:
    """Read what ``sysctl hw machdep.cpu`` prints: ``hw.ncpu: 8``."""
    pairs = [line.partition(":")[::2] for line in text.splitlines() if line.strip().startswith(_SYSCTL_KEYS)]
    values = {key.strip(): _variable(value.strip()) for key, value in pairs}
    count = values.get("hw.activecpu") or values.get("machdep.cpu.thread_count") or 1
    return Recording(
        system="darwin",
        arch="aarch64" if values.get("hw.optional.arm64") == 1 else "x86_64",
        libc="",
        sysctls=values,
        online=tuple(range(min(count, _MOST_PROCESSORS))) if isinstance(count, int) else (),
    )


def _variable(value: str) -> int | str:
    return int(value) if value.removeprefix("-").isdecimal() and len(value) <= 20 else value
