"""Find the Arm cores of a machine by the Main ID Register of each, from sysfs, ``/proc/cpuinfo`` or lscpu.

Sources: Arm ARM (DDI 0487) D24.2, MIDR_EL1; Linux Documentation/arch/arm64/cpu-feature-registers.rst (sysfs) and
arch/arm/kernel/setup.c and arch/arm64/kernel/cpuinfo.c (``/proc/cpuinfo``).
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.detection.probe import lscpu, proc_cpuinfo
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine

_REGISTER = "/sys/devices/system/cpu/cpu{}/regs/identification/midr_el1"
_LARGEST = 0xFFFFFFFF


class ArmCore(Value):
    """A core by its Main ID Register and flags; None or empty where a source does not tell."""

    implementer: str = ""
    """``0x41``: always two digits."""
    part: int | None = None
    stepping: int | None = None
    """Variant and revision: 0x21 is r2p1."""
    architecture: int | None = None
    """The version of the architecture, 4 to 8."""
    flags: frozenset[str] = frozenset()
    brand: str = ""


def from_sysfs(machine: Machine) -> dict[ArmCore, int]:
    """Return the processors by register with the number of each, empty unless every one that is online can be read."""
    contents = [machine.read_file(_REGISTER.format(cpu)) for cpu in machine.online_cpus()]
    registers = [_number((content or b"").decode("ascii", "replace").strip()) for content in contents]
    if None in registers:
        return {}
    return proc_cpuinfo.count_kinds(of_register(register) for register in registers if register is not None)


def of_register(midr: int) -> ArmCore:
    """Return the processor that a Main ID Register names."""
    return ArmCore(_implementer(midr >> 24 & 0xFF), midr >> 4 & 0xFFF, _stepping(midr >> 20 & 15, midr & 15))


def _implementer(number: int | None) -> str:
    return "" if number is None else f"{number:#04x}"


def _stepping(variant: int | None, revision: int | None) -> int | None:
    return None if variant is None or revision is None else variant << 4 | revision


# --- /proc/cpuinfo

_MIDR_KEYS = ("CPU part", "CPU variant", "CPU revision")
_KEYS = ("CPU implementer", "CPU architecture", "Features", *_MIDR_KEYS)


def from_cpuinfo(content: bytes) -> dict[ArmCore, int]:
    """Return the processors of ``/proc/cpuinfo`` with the number of each.

    Before Linux 3.8 the identity of one core stood for all, in a paragraph of its own.
    """
    blocks = proc_cpuinfo.blocks(content)
    whole = {key: value for block in reversed(blocks) for key, value in block.items()}
    identified = [block for block in blocks if "CPU implementer" in block or "CPU part" in block]
    anonymous = sum("processor" in block for block in blocks) - sum("processor" in block for block in identified)
    alike: dict[tuple[str | None, ...], int] = {}
    for block in identified:
        values = tuple(map(block.get, _KEYS))
        alike[values] = alike.get(values, 0) + (1 if "processor" in block else max(anonymous, 1))
    counts: dict[ArmCore, int] = {}
    for values, count in alike.items():
        kinds = _of_block({key: value for key, value in zip(_KEYS, values, strict=True) if value is not None}, whole)
        for kind in kinds:
            counts[kind] = counts.get(kind, 0) + max(count // len(kinds), 1)
    return counts


def _of_block(block: dict[str, str], whole: dict[str, str]) -> list[ArmCore]:
    """Return the processor of a paragraph, or of each kind where a vendor's kernel names several: ``0xc07 & 0xc0f``."""
    words = zip(*(block.get(key, "").split("&") for key in _MIDR_KEYS), strict=False)
    numbers = ([_number(word.strip()) for word in kind] for kind in words)
    return [
        ArmCore(
            _implementer(_number(block.get("CPU implementer", ""))),
            part,
            _stepping(variant, revision),
            _architecture(block.get("CPU architecture", ""), whole),
            frozenset(block.get("Features", whole.get("Features", "")).split()),
            proc_cpuinfo.brand(whole.get("Model", "") or whole.get("Hardware", "")),
        )
        for part, variant, revision in numbers
    ]


def _architecture(text: str, whole: dict[str, str]) -> int | None:
    """Return the number in ``7``, ``6TEJ`` or ``AArch64``, or the one in ``(v6l)`` where that is lower.

    For the ARM1176 the kernel prints 7 here: what that core says of itself is "see the feature registers". So 7 counts
    as 6 where no ``(v7l)`` confirms it.
    """
    if text == "AArch64":
        return 8
    named = whole.get("model name", "") or whole.get("Processor", "")
    number = version(text)
    confirmed = version(named.partition("(v")[2]) or (6 if number == 7 else number)
    return min((least for least in (number, confirmed) if least is not None), default=None)


def version(text: str) -> int | None:
    """Return the version of the architecture that a text begins with (``7``, ``6TEJ``), or None."""
    return int(text[0]) if text[:1].isdecimal() else None


def _number(text: str) -> int | None:
    """Return a number of up to 32 bits, decimal or hexadecimal, or None for any other text."""
    try:
        value = int(text, 0)
    except ValueError:
        return None
    return value if 0 <= value <= _LARGEST else None


# --- lscpu


def from_lscpu(kinds: list[dict[str, str]], models: list[list[str]]) -> dict[ArmCore, int]:
    """Return the processors that lscpu shows, by its labels, with the number of each.

    It shows names in place of the numbers; ``models`` are the rows of a ``models.tsv``, which lead back.
    """
    counts: dict[ArmCore, int] = {}
    for fields in kinds:
        count = lscpu.online(fields) if len(kinds) == 1 else lscpu.of_kind(fields)
        kind = _of_lscpu(fields, models)
        counts[kind] = counts.get(kind, 0) + count
    return counts


def _of_lscpu(fields: dict[str, str], models: list[list[str]]) -> ArmCore:
    vendor = fields.get("Vendor ID", "")
    named = (number for number, name in tables.rows("arm/implementers.tsv") if _alike(name, vendor))
    implementer = next(named, vendor)
    name = fields.get("Model name", "")
    rows = [row for row in models if _alike(row[7], name)]  # the core's own name tells more than who made the chip
    row = next((row for row in rows if row[0] == implementer), rows[0] if rows else [implementer, "", ""])
    return ArmCore(
        row[0] if row[0].startswith("0x") else "",
        _number(row[2].partition(",")[0].partition("-")[0]),
        _stepping(*_release(fields.get("Stepping", ""), fields.get("Model", ""))),
        version(fields.get("Architecture", "").removeprefix("armv")),
        frozenset(fields.get("Flags", "").split()),
        proc_cpuinfo.brand(name),
    )


def from_sysctl(model: str, count: int, models: list[list[str]]) -> dict[ArmCore, int]:
    """Return the processors of FreeBSD's ``hw.model``, which is that of the first: ``ARM Cortex-A72 r0p3``."""
    vendor, _, rest = model.partition(" ")
    name, _, stepping = rest.rpartition(" ")
    return {_of_lscpu({"Vendor ID": vendor, "Model name": name, "Stepping": stepping}, models): count}


def _release(stepping: str, revision: str) -> tuple[int | None, int | None]:
    """Return variant and revision, of ``r2p1`` or of ``0x2``, beside which the revision stands as lscpu's model."""
    if not stepping.startswith("r"):
        return _number(stepping), proc_cpuinfo.number(revision)
    variant, _, patch = stepping[1:].partition("p")
    return proc_cpuinfo.number(variant), proc_cpuinfo.number(patch)


def _alike(name: str, other: str) -> bool:
    return _letters(name) == _letters(other) != ""


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
