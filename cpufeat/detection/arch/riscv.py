"""Read RISC-V machines: ``riscv_hwprobe``, the auxiliary vector and ``/proc/cpuinfo``, for each kind of hart.

Their answers are added up: each version of Linux knows more keys and names than the one before. What the kernel must
save or open for user code counts only as far as the kernel says that it does (``state`` in the table).

Sources: Linux ``Documentation/arch/riscv/hwprobe.rst`` and ``uabi.rst``, ``arch/riscv/kernel/cpu.c``.
The facts are in ``data/riscv``; nothing here knows a feature or a model by name, but for T-Head's vectors.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.decisions import STATE_OFF, UNSEEN, Withheld
from cpufeat.detection.arch import Reading
from cpufeat.detection.arch.identity import biggest_first
from cpufeat.detection.machine import AT_HWCAP
from cpufeat.detection.probe import bits, lscpu, lscpu_or_pycpuinfo, proc_cpuinfo
from cpufeat.detection.probe.isa_string import extensions
from cpufeat.features import table
from cpufeat.support.conditions import Condition
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.detection.machine import Machine

_IDENTITY_KEYS = (0, 1, 2)
"""mvendorid, marchid, mimpid: their values are numbers, all ones where the harts differ."""
_EXTENSION_KEYS = (3, 4, 11, 13, 14, 16)
"""BASE_BEHAVIOR, IMA_EXT_0, VENDOR_EXT_THEAD_0, _SIFIVE_0, _MIPS_0, IMA_EXT_1: their values are bits."""
_DIFFERENT = 0xFFFFFFFFFFFFFFFF
_IDENTITY_FIELDS = ("mvendorid", "marchid", "mimpid")
_LSCPU_LABELS = {
    "isa": "ISA",
    "mvendorid": "Vendor ID",
    "marchid": "CPU family",
    "mimpid": "Model",
    "uarch": "Model name",
}
"""The names that lscpu (2.40) has for the values of ``/proc/cpuinfo``."""
_THEAD = ("0x5b7", "thead")


def read(machine: Machine) -> list[Reading]:
    """Return one reading for each kind of hart, the biggest first."""
    probed = machine.hwprobe(_IDENTITY_KEYS + _EXTENSION_KEYS)
    kernel = _probed_bits(probed) | bits.auxiliary(machine)
    answers = bool(probed) or machine.getauxval(AT_HWCAP) is not None
    kinds, source = _described(machine)
    if not kinds and kernel:
        kinds, source = [({}, max(1, len(machine.online_cpus())))], "AT_HWCAP"
    set_bits = {**kernel, machine.arch: f"runs {machine.arch}"}
    readings = []
    for hart, count in kinds:
        vendor, model, stepping = _identity(hart, probed)
        reported = bits.closed(machine.arch, set_bits, _named(hart, source, (vendor, _designer(hart)), model))
        readings.append(
            Reading(
                source="riscv_hwprobe" if probed else source,
                vendor=vendor,
                model=model,
                stepping=stepping,
                brand=hart.get("model name", hart.get("uarch", "")),
                core=hart.get("uarch", ""),
                count=count,
                reported=reported,
                withheld=_withheld(machine.arch, reported, kernel, answers=answers),
                undetermined=_undetermined(machine.arch, hart, probed),
            )
        )
    return biggest_first(machine.arch, readings)


def _probed_bits(probed: dict[int, int]) -> dict[str, str]:
    return {
        f"hwprobe{key}[{bit}]": f"riscv_hwprobe key {key} bit {bit}"
        for key in _EXTENSION_KEYS
        for bit in range(64)
        if probed.get(key, 0) >> bit & 1
    }


def _described(machine: Machine) -> tuple[list[tuple[dict[str, str], int]], str]:
    """Return the kinds of hart, values by the kernel's names, how many there are of each, and where that was read."""
    content = machine.read_file("/proc/cpuinfo")
    if content:
        return _kinds(_without_half_a_name(content)), "/proc/cpuinfo"
    (fields, *_), source = lscpu_or_pycpuinfo.described(machine)
    hart = {name: fields[label] for name, label in _LSCPU_LABELS.items() if fields.get(label, "-") != "-"}
    return [(hart, lscpu.online(fields))] if "isa" in hart or "uarch" in hart else [], source


def _without_half_a_name(content: bytes) -> bytes:
    """Leave out the last name where the text ends in it: ``zfh`` is more than the ``zfhmin`` that was cut off."""
    last_line = content[content.rfind(b"\n") + 1 :]
    is_cut = b"_" in last_line and last_line.lstrip().startswith((b"isa", b"hart isa"))
    return content[: content.rfind(b"_")] if is_cut else content


def _kinds(content: bytes) -> list[tuple[dict[str, str], int]]:
    """Return the harts of ``/proc/cpuinfo`` that differ in more than their number, and how many there are of each."""
    harts = [block for block in proc_cpuinfo.blocks(content) if "isa" in block or "hart isa" in block]
    counts: dict[tuple[tuple[str, str], ...], int] = {}
    for hart in harts:
        kind = tuple((key, value) for key, value in hart.items() if key not in ("processor", "hart"))
        counts[kind] = counts.get(kind, 0) + 1
    return [(dict(kind), count) for kind, count in counts.items()]


def _identity(hart: dict[str, str], probed: dict[int, int]) -> tuple[str, int | None, int | None]:
    """Return mvendorid (else the device tree's word), marchid and mimpid: the hart's, else those of all harts."""
    identity = [_hexadecimal(hart.get(field, "")) for field in _IDENTITY_FIELDS]
    common = [probed.get(key) for key in _IDENTITY_KEYS]
    vendor, model, stepping = (
        shared if number is None and shared != _DIFFERENT else number
        for number, shared in zip(identity, common, strict=True)
    )
    return _designer(hart) if vendor is None else hex(vendor), model, stepping


def _designer(hart: Mapping[str, str]) -> str:
    """Return who made the core, by its name (``sifive,u54-mc``); mvendorid may be the maker of the chip."""
    return hart.get("uarch", "").partition(",")[0]


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _named(hart: dict[str, str], source: str, makers: tuple[str, str], model: int | None) -> dict[str, str]:
    """Return the extensions in the hart's ISA string, less the draft of V that T-Head's first cores have.

    The ``marchid`` of those is 0, as Linux has it (``arch/riscv/kernel/cpufeature.c``).
    """
    field = "hart isa" if "hart isa" in hart else "isa"
    names = extensions(hart.get(field, ""))
    has_draft = not model and any(maker in _THEAD for maker in makers)
    return {name: f"{source} {field} {name}" for name in names if not (has_draft and name == "v")}


def _undetermined(arch: str, hart: Mapping[str, str], probed: Mapping[int, int]) -> frozenset[str]:
    """Return the features that the kernel may not know: it shows every letter, and the longer names that it knows."""
    shows_letters = "isa" in hart or "hart isa" in hart
    return frozenset(
        feature.name
        for feature in table(arch).values()
        if not (shows_letters and any(len(flag) == 1 for flag in feature.kernel_flags))
        and not (probed and "hwprobe" in feature.bit)
    )


def _withheld(
    arch: str, reported: Mapping[str, str], kernel: Mapping[str, str], *, answers: bool
) -> dict[str, Withheld]:
    """Return the features that the kernel (which ``answers``, or was not asked) may not save or open for user code."""
    states = {state: (bit, unknown) for state, bit, unknown, *_ in tables.rows("riscv/states.tsv")}
    withheld = {}
    for name in reported:
        bit, unknown = states.get(table(arch)[name].state, ("", "on"))
        enabled = Condition(bit)
        if bit and not bits.evidence(enabled, kernel) and (answers or unknown == "off"):
            shown = ", ".join(map(bits.spelled, enabled.terms))
            withheld[name] = Withheld(STATE_OFF, f"{shown} not set") if answers else Withheld(UNSEEN, f"needs {shown}")
    return withheld
