"""Read x86 machines: CPUID or the kernel's flags, for each kind of core.

Sources: Intel SDM volume 2A (CPUID), Linux ``arch/x86/include/asm/cpufeatures.h`` (flags).
The facts are in ``data/x86``; nothing here knows a feature or a model by name.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.decisions import CLEARED, NEEDS_PERMISSION, STATE_OFF, Withheld
from cpufeat.detection.arch import Reading
from cpufeat.detection.arch.identity import errata
from cpufeat.detection.cpuid import Cpuid
from cpufeat.detection.machine import AT_HWCAP, AT_HWCAP2
from cpufeat.features import Feature, normalize, table
from cpufeat.levels import baseline, level_features
from cpufeat.support.conditions import Term
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpufeat.detection.arch.identity import Erratum
    from cpufeat.detection.machine import Machine
    from cpufeat.detection.probe.x86_flags import X86Processor

_HYBRID = "7.0:EDX[15]"
_CORE_TYPE = "1A.0:EAX[24-31]"
_ATOM = 0x20
_CORE_KINDS = ("cpu_core", "cpu_atom", "cpu_lowpower")
_BRAND = (0x80000002, 0x80000003, 0x80000004)
_HYPERVISOR_VENDOR = 0x40000000


def read(machine: Machine) -> list[Reading]:
    """Return the reading of each kind of core by the best source that names features: CPUID, the kernel, py-cpuinfo.

    Of a machine without such a source, the first reading that tells anything is returned.
    """
    told: list[Reading] = []
    for source in (from_cpuid, from_kernel, from_sysctl, from_py_cpuinfo):
        readings = source(machine)
        if any(reading.reported for reading in readings):
            return readings
        told = told or readings
    return told


# --- CPUID


def from_cpuid(machine: Machine) -> list[Reading]:
    """Read CPUID: once, or on a hybrid part, and in a recording of several, on a processor of each kind.

    Efficiency cores, which say so themselves, come last.
    """
    cpuid = Cpuid(machine)
    if not cpuid.available:
        return []
    count = max(1, len(machine.online_cpus()))
    if not cpuid.holds(_HYBRID) and len(machine.leaves) < 2:
        return [_reading(machine, cpuid, count)]
    readings = (_reading(machine, Cpuid(machine, cpu), like) for cpu, like in _representatives(machine))
    kinds = _merge_like(reading for reading in readings if reading.reported) or [_reading(machine, cpuid, count)]
    return sorted(kinds, key=lambda kind: bool(kind.core))


def _representatives(machine: Machine) -> Iterable[tuple[int, int]]:
    """Return one processor of each kind, and how many there are, by the kernel's lists for performance counters.

    Source: Linux ``Documentation/ABI/testing/sysfs-bus-event_source-devices``. Without them, every processor.
    """
    online = machine.online_cpus()
    kinds = [_cpu_list(machine.read_file(f"/sys/devices/{kind}/cpus")) for kind in _CORE_KINDS]
    listed = [[cpu for cpu in kind if cpu in online] for kind in kinds]
    if sum(map(len, listed)) != len(online):
        return [(cpu, 1) for cpu in online]
    return [(kind[0], len(kind)) for kind in listed if kind]


def _cpu_list(content: bytes | None) -> list[int]:
    """Parse ``0-7,12`` (Linux ``Documentation/admin-guide/cputopology.rst``)."""
    cpus: list[int] = []
    for part in (content or b"").decode("ascii", "replace").strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            cpus.extend(range(int(first), min(int(last or first), int(first) + 0xFFFF) + 1))
    return cpus


def _merge_like(readings: Iterable[Reading]) -> list[Reading]:
    merged: list[Reading] = []
    for reading in readings:
        for index, earlier in enumerate(merged):
            if earlier.replace(count=reading.count) == reading:
                merged[index] = earlier.replace(count=earlier.count + reading.count)
                break
        else:
            merged.append(reading)
    return merged


def _reading(machine: Machine, cpuid: Cpuid, count: int) -> Reading:
    family, model, stepping = cpuid.signature()
    vendor, brand = cpuid.vendor(), cpuid.text(*_BRAND)
    rows = table(machine.arch).values()
    fields = {feature.name: cpuid.satisfied(feature.condition) for feature in rows if feature.bit}
    features = [feature for feature in rows if fields.get(feature.name)]
    (enabled, evidence), known = cpuid.xcr0(), states()
    reading = Reading(
        source="CPUID",
        vendor=vendor,
        family=family,
        model=model,
        stepping=stepping,
        brand=brand,
        hypervisor=machine.emulator or _named(brand.partition(" ")[0], vendor) or _hypervisor(cpuid),
        core="atom" if cpuid.value(_CORE_TYPE) == _ATOM else "",
        count=count,
        reported={feature.name: f"CPUID {fields[feature.name]}" for feature in features},
        withheld=_withheld(machine, features, known, enabled, evidence),
        states=tuple(name for name, state in known.items() if state.mask and enabled & state.mask == state.mask),
        states_evidence=evidence,
    )
    return _without_broken(machine, reading, cpuid, _cleared(machine, reading, cpuid))


def _hypervisor(cpuid: Cpuid) -> str:
    signature = cpuid.vendor(_HYPERVISOR_VENDOR)
    return _named(signature) or signature


def _named(*signatures: str) -> str:
    """Return the name of the first hypervisor, or translator, whose signature is among these."""
    rows = [tables.row("x86/hypervisors.tsv", signature) for signature in signatures if signature]
    return next((name for _, name, *_ in filter(None, rows)), "")


NOWHERE = "!"
"""The mark of a state of which no system shows that it is enabled."""


class State(Value):
    """A row of ``states.tsv``: state that the operating system has to enable."""

    name: str
    mask: int
    """The XCR0 bits that must be set."""
    permission: str
    """The way in which a process asks for permission to use it, empty if it need not."""
    shown: str
    """The bit of the auxiliary vector by which Linux shows that it is enabled, :data:`NOWHERE`, or empty."""
    windows: str
    """The number by which ``IsProcessorFeaturePresent`` tells that it is enabled, or empty."""


def states() -> dict[str, State]:
    """Return every state by name."""
    return {
        name: State(name, sum(1 << int(bit) for bit in bits.split()), permission, shown, windows)
        for name, bits, permission, shown, windows, _ in tables.rows("x86/states.tsv")
    }


def _withheld(
    machine: Machine, features: list[Feature], known: dict[str, State], xcr0: int, evidence: str
) -> dict[str, Withheld]:
    """Return the features whose state is not enabled, by ``xcr0`` or the kernel, or needs a permission, and why."""
    needed = {feature.state for feature in features if feature.state}
    reasons = {name: _why_off(machine, known[name], xcr0, evidence) for name in needed}
    return {feature.name: why for feature in features if (why := reasons.get(feature.state))}


def _why_off(machine: Machine, state: State, xcr0: int, evidence: str) -> Withheld | None:
    if xcr0 & state.mask != state.mask:
        return Withheld(STATE_OFF, f"{state.name}: {evidence}, needs {state.mask:#x}")
    hidden = _not_shown(machine, state)
    if hidden:
        return Withheld(STATE_OFF, f"{state.name}: {hidden}")
    is_permitted = state.mask and machine.permitted_states() & state.mask == state.mask
    return Withheld(NEEDS_PERMISSION, state.permission) if state.permission and not is_permitted else None


def _not_shown(machine: Machine, state: State) -> str:
    """Return how the system shows that it has not enabled a state; empty where it does, or says nothing at all."""
    if state.shown == NOWHERE:
        return "no system shows that it is enabled"
    if state.windows and machine.processor_feature(int(state.windows)) is False:
        return f"IsProcessorFeaturePresent {state.windows} is 0"
    if not state.shown or machine.system != "linux":
        return ""
    bit, word = Term(state.shown).low, machine.getauxval(AT_HWCAP2)
    if word is None and machine.getauxval(AT_HWCAP) is None:
        return ""
    return "" if (word or 0) >> bit & 1 else f"AT_HWCAP2 bit {bit} is 0"


# --- what the kernel cleared, and errata

_LISTED = "/sys/devices/system/cpu/modalias"
_ONLY_CLEARED = "cleared"
_MICROCODE = "/sys/devices/system/cpu/cpu0/microcode/version"


def _cleared(machine: Machine, reading: Reading, cpuid: Cpuid) -> dict[str, str]:
    """Return the features that CPUID reports and that the kernel took back, with the evidence.

    The kernel lists what it kept of CPUID's words; ``modalias.tsv`` says which those are. A list of another CPU, which
    an emulator of user programs shows, or by another program than Linux, says nothing; and no list says that this
    process lacks its architecture's baseline.
    """
    head, _, numbers = (machine.read_file(_LISTED) or b"").decode("ascii", "replace").partition(":feature:,")
    kept, cleared = _bits(numbers), {}
    for word, register, told_by in tables.rows("x86/modalias.tsv") if kept else ():
        held, of_word = cpuid.word(register), kept >> 32 * int(word)
        if held & ~of_word and (held & of_word or kept >> int(told_by)):
            cleared[register] = held & ~of_word
    remaining, known = cpuid.without(cleared), table(machine.arch)
    lost = [
        name
        for name, evidence in reading.reported.items()
        if any(register in evidence for register in cleared) and not remaining.satisfied(known[name].condition)
    ]
    if not lost or not _is_of(head, reading) or _is_by_another_program(machine):
        return {}
    never_lost = level_features(machine.arch, baseline(machine.arch)).names
    return {name: f"{_LISTED} lacks {reading.reported[name]}" for name in lost if name not in never_lost}


def _bits(numbers: str) -> int:
    """Return a word with the bits that ``0000,0001`` lists, 0 if it lists anything else."""
    try:
        listed = bytes.fromhex(numbers.replace(",", ""))
    except ValueError:
        return 0
    word = 0
    for high, low in zip(listed[::2], listed[1::2], strict=False):
        word |= 1 << (high << 8 | low)
    return word


def _is_of(head: str, reading: Reading) -> bool:
    """Whether a list of the kernel begins as one for the CPU of a reading does."""
    row = tables.row("x86/vendors.tsv", reading.vendor)
    return row is not None and head == f"cpu:type:x86,ven{int(row[1]):04X}fam{reading.family:04X}mod{reading.model:04X}"


def _is_by_another_program(machine: Machine) -> bool:
    version = (machine.read_file("/proc/version") or b"").decode("ascii", "replace")
    return any(text in version for _, text in tables.rows("x86/other_kernels.tsv"))


def _without_broken(machine: Machine, reading: Reading, cpuid: Cpuid | None, cleared: dict[str, str]) -> Reading:
    """Return the reading without the features that the kernel cleared, and those of which ``errata.tsv`` tells."""
    known: dict[str, Erratum] = {}
    for row in errata("x86/errata.tsv", reading):
        for name in reading.reported.keys() & set(row.features.split()):
            if name not in known and _applies(row.when, machine, reading, cpuid, is_cleared=name in cleared):
                known[name] = row
    withheld = {name: Withheld(row.reason, row.evidence) for name, row in known.items()}
    for name, evidence in cleared.items():
        withheld[name] = Withheld(CLEARED, f"{evidence}; {known[name].evidence}" if name in known else evidence)
    return reading.replace(withheld=withheld | reading.withheld)


def _applies(when: str, machine: Machine, reading: Reading, cpuid: Cpuid | None, *, is_cleared: bool) -> bool:
    """Whether a row of ``errata.tsv`` applies to a machine, by its column ``when``."""
    word, _, least = when.partition("<")
    if word in ("", _ONLY_CLEARED):
        return is_cleared or not word
    if least:
        revision = _revision(machine) if reading.microcode is None else reading.microcode
        return revision < int(least, 16)
    return cpuid is not None and cpuid.holds(word)


def _revision(machine: Machine) -> int:
    """Return the revision of the microcode, 0 where that cannot be read, as in most guests."""
    from cpufeat.detection.probe import x86_flags

    return x86_flags.revision((machine.read_file(_MICROCODE) or b"").decode("ascii", "replace").strip()) or 0


# --- the kernel's flags, which leave out features whose register state is not enabled


def from_kernel(machine: Machine) -> list[Reading]:
    """Read the kernel's account: ``/proc/cpuinfo``, or what ``lscpu`` made of it."""
    from cpufeat.detection.probe import lscpu, proc_cpuinfo, x86_flags

    content = machine.read_file("/proc/cpuinfo")
    if content:
        kinds = proc_cpuinfo.count_kinds(x86_flags.from_cpuinfo(content))
        return [_from_flags(machine, _Spelled("/proc/cpuinfo"), processor, count) for processor, count in kinds.items()]
    content = machine.read_file("lscpu")
    if content:
        described = lscpu.kinds(content)
        count = lscpu.online if len(described) == 1 else lscpu.of_kind
        return [
            _from_flags(machine, _Spelled("lscpu"), x86_flags.from_lscpu(fields), count(fields)) for fields in described
        ]
    return []


def from_sysctl(machine: Machine) -> list[Reading]:
    """Read the account of macOS' kernel."""
    if machine.system != "darwin":
        return []
    from cpufeat.detection.probe import machdep

    processor = machdep.processor(machine)
    if processor is None:
        return []
    count, enabled = max(1, len(machine.online_cpus())), machdep.enabled(machine, processor.flags)
    spelled = _Spelled("sysctl", "darwin", enabled)
    return [_from_flags(machine, spelled, processor, count).replace(hypervisor=machine.emulator)]


def from_py_cpuinfo(machine: Machine) -> list[Reading]:
    """Read py-cpuinfo's account, which does not tell what the operating system enabled."""
    from cpufeat.detection.probe import lscpu, pycpuinfo, x86_flags

    answer = pycpuinfo.fields(machine)
    if not answer:
        return []
    processor = x86_flags.from_lscpu(answer)
    words = frozenset(map(normalize, processor.flags))  # not every system writes them as Linux does
    spelled = _Spelled(pycpuinfo.SOURCE, enabled=0)
    return [_from_flags(machine, spelled, processor.replace(flags=words), lscpu.online(answer))]


class _Spelled(Value):
    """Flags: where they were read, the system whose names they are, and the states that are enabled, as XCR0."""

    source: str
    system: str = "kernel"
    enabled: int = -1  # a flag that Linux shows is one whose state it enabled


def _from_flags(machine: Machine, spelled: _Spelled, processor: X86Processor, count: int) -> Reading:
    words = _words(machine.arch, spelled.system)
    names = frozenset().union(*(words.get(flag, ()) for flag in processor.flags))
    features = [feature for name, feature in table(machine.arch).items() if name in names]
    reading = Reading(
        source=spelled.source,
        vendor=processor.vendor,
        family=processor.family,
        model=processor.model,
        stepping=processor.stepping,
        microcode=processor.microcode,
        brand=processor.brand,
        count=count,
        reported={
            feature.name: f"{spelled.source} flag {', '.join(feature.flags(spelled.system))}" for feature in features
        },
        withheld=_withheld(
            machine, features, states(), spelled.enabled, f"by {spelled.source}, XCR0 is {spelled.enabled:#x}"
        ),
    )
    return _without_broken(machine, reading, None, {})


_known_words: dict[str, dict[str, set[str]]] = {}


def _words(arch: str, system: str) -> dict[str, set[str]]:
    """Return the features that each word of a system stands for."""
    if system not in _known_words:
        words = _known_words[system] = {}
        for feature in table(arch).values():
            for flag in feature.flags(system):
                words.setdefault(normalize(flag), set()).add(feature.name)
    return _known_words[system]
