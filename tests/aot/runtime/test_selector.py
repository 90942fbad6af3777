"""Emitted detection agrees with Python's: on this machine, emulated, recorded and invented ones.

Both are made of the same rows. What is compared is everything else: LLVM's code for bits, numbers, limits and states
against Python's. The registers of emulated CPUs are read by a C compiler's own intrinsics, the bits of Arm's auxiliary
vector are those of the kernel's header.
"""

from __future__ import annotations

import ctypes
import functools
import io
import random
import re
import subprocess
from typing import TYPE_CHECKING

import iced_x86
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from helpers.corpora import needs_corpora
from helpers.detection_programs import (
    EXTENDED_LEAVES,
    MAC,
    MAC_ON_INTEL,
    PRINTED_LEAVES,
    WINDOWS,
    WINDOWS_ON_ARM,
    ZIG,
    detection_program,
    parsed_output,
    recorded_machines,
)
from helpers.llvm_data import features_of
from helpers.machines import EVERY_STATE, machine, made_up
from helpers.paths import CORPORA, CORPUS
from helpers.qemu import NO_64_BIT, models, run, side_by_side
from helpers.requirements import tool
from helpers.run_emitted_ir import (
    LINUX,
    LINUX_ON_ARM,
    CompiledIR,
    compile_all,
    features_text,
    lowest,
    selectable_features,
)
from helpers.zig import capabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from cpufeat import tables
from cpufeat.aot.runtime.selector import resolver_parameters, selector
from cpufeat.decisions import CLEARED
from cpufeat.detection import dumps
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import CpufeatError, TargetError, UnknownNameError
from cpufeat.features import find, implied, table
from cpufeat.levels import level_features
from cpufeat.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.aot.runtime.dispatcher import Mechanism

HWCAP, HWCAP2, HWCAP3, CPUID_BIT = 16, 26, 29, 1 << 11
ERRATA = {evidence for table in ("x86", "arm") for *_, evidence in tables.rows(f"{table}/errata.tsv")}


@functools.cache
def emitted(triple: str) -> CompiledIR:
    return CompiledIR(features_text(triple), triple)


def expected(machine: Recording | ThisMachine, triple: str) -> set[str]:
    """The host's features, and those that are only not trusted: emitted code asks neither for errata nor the kernel."""
    try:
        host = detect(machine)
    except CpufeatError:  # nothing can be read of it
        return set()
    distrusted = {
        name for name, why in host.withheld_reported.items() if why.reason == CLEARED or why.evidence in ERRATA
    }
    return (set(host.features.isa) | distrusted) & set(selectable_features(triple))


def check(machine: Recording, triple: str = LINUX) -> set[str]:
    """Hold the two against each other, and return what is found; where cores differ, what is found on all."""
    feature_sets = [emitted(triple).features(machine, triple, cpu) for cpu in (machine.leaves or (None,))]
    assert set.intersection(*feature_sets) == expected(machine, triple)
    return feature_sets[0]


# --- x86


def test_emitted_detection_agrees_with_python_on_this_machine() -> None:
    features = CompiledIR(features_text(LINUX), LINUX, asks_here=True).features(ThisMachine(), LINUX)
    assert features == expected(ThisMachine(), LINUX)
    assert "sse2" in features


def test_every_isa_feature_of_x86_has_a_run_time_test() -> None:
    assert selectable_features(LINUX) == [name for name, row in table("x86_64").items() if row.kind == "isa"]


def test_emitted_detection_agrees_with_python_on_recorded_machines() -> None:
    feature_sets = [check(machine) for machine in recorded_machines()]
    assert len(feature_sets) >= (500 if CORPUS.is_dir() else 9)
    assert len({frozenset(features) for features in feature_sets}) >= (90 if CORPUS.is_dir() else 6)


def test_emitted_detection_agrees_with_python_on_invented_machines() -> None:
    """Each of the features is found on some, and missed on some, but for what every Intel of family 6 has."""
    generator = random.Random(4)
    feature_sets = [check(made_up(generator)) for _ in range(400)]
    asks_first = {name for name, row in table("x86_64").items() if row.state.startswith("amx")}
    assert set().union(*feature_sets) == set(selectable_features(LINUX)) - asks_first - {"lwp"}
    assert set.intersection(*feature_sets) == {"nopl"}


WORDS = st.tuples(*[st.integers(0, 2**32 - 1)] * 4)
LIMITED = st.tuples(st.sampled_from([0, 1, 6, 7, 0xD, 0x14, 0x24, 0x29, 2**32 - 1]), *[st.integers(0, 2**32 - 1)] * 3)
EXTENDED = st.tuples(
    st.sampled_from([0, 7, 0x80000000, 0x80000001, 0x80000008, 0x80000021, 2**32 - 1]), *[st.just(0)] * 3
)
LEAVES = [(1, 0), (7, 1), (0xD, 1), (0x14, 0), (0x19, 0), (0x1E, 1), (0x24, 0), (0x29, 0)]
REGISTERS = st.fixed_dictionaries(
    {(0, 0): LIMITED, (7, 0): st.tuples(st.sampled_from([0, 1, 2, 2**32 - 1]), *[st.integers(0, 2**31 - 1)] * 3)},
    optional={**dict.fromkeys([*LEAVES, *EXTENDED_LEAVES], WORDS), (0x80000000, 0): EXTENDED},
)
HYBRID = 1 << 15


@settings(max_examples=400, deadline=None)
@given(REGISTERS, st.integers(0, 2**64 - 1) | st.sampled_from([0, 7, 0xE7, EVERY_STATE]))
def test_emitted_detection_agrees_with_python_for_any_registers(leaves, xcr0) -> None:
    """Limits of leaves and subleaves that make no sense, bits without what they depend on, any state."""
    eax, ebx, ecx, edx = leaves[7, 0]
    check(Recording(leaves={0: {**leaves, (7, 0): (eax, ebx, ecx, edx & ~HYBRID)}}, xcr0=xcr0))


class Permitted(Recording):
    """A process that has asked Linux for AMX."""

    def permitted_states(self) -> int:
        """Tile configuration and data."""
        return 0b11 << 17


def test_amx_is_used_only_by_a_process_that_asked_for_it() -> None:
    on_record = machine("GenuineIntel", 6, 143, {"amx_int8", "avx512fp16"})
    asked = Permitted(leaves=on_record.leaves, xcr0=on_record.xcr0)
    without_state = asked.replace(xcr0=0xE7)
    assert check(asked) - check(on_record) == {"amx_tile", "amx_int8"}
    assert check(without_state) == check(on_record)


def test_avx512_that_macos_enables_lazily_is_usable() -> None:
    before = machine("GenuineIntel", 6, 85, {"avx512vnni"}, xcr0=7).replace(system="darwin", libc="")
    lazily = before.replace(sysctls={"hw.optional.avx512f": 1})
    assert "avx512vnni" in check(lazily, MAC_ON_INTEL) - check(before, MAC_ON_INTEL)
    assert not check(lazily.replace(xcr0=0), MAC_ON_INTEL) & {"avx", "avx512f"}
    assert "avx512f" not in check(lazily.replace(sysctls={"hw.optional.avx512f": 0}), MAC_ON_INTEL)


# --- 64-bit Arm


def trusted(machine: Recording) -> set[str]:
    """Without HWCAP_CPUID, the kernel is not believed about what old ones report wrongly."""
    names = expected(machine, LINUX_ON_ARM)
    if machine.auxv.get(HWCAP, 0) & CPUID_BIT:
        return names
    return {name for name in names if not implied("aarch64", name) & {"lse", "fullfp16"}}


@needs_corpora
def test_emitted_detection_agrees_with_python_on_recorded_arm_kernels() -> None:
    """The words are turned into bits by the kernel's header."""
    bits = {name.lower(): (word, bit) for word, name, bit in capabilities("aarch64")}
    kinds = {"HWCAP": HWCAP, "HWCAP2": HWCAP2, "HWCAP3": HWCAP3}
    features_seen = set()
    for path in sorted(CORPUS.glob("*/*.cpuinfo")):
        machine = dumps.load(str(path))[1]
        words = re.findall(rb"^Features\s*:(.*)$", machine.files.get("/proc/cpuinfo", b""), re.M)
        if machine.arch != "aarch64" or not words:
            continue
        auxv = dict.fromkeys(kinds.values(), 0)
        for word, bit in (bits[flag.decode()] for flag in words[0].split() if flag.decode() in bits):
            auxv[kinds[word]] |= 1 << bit
        machine = machine.replace(auxv=auxv)
        features = emitted(LINUX_ON_ARM).features(machine, LINUX_ON_ARM)
        assert features == trusted(machine), path.name
        features_seen.add(frozenset(features))
    assert len(features_seen) >= 18


AUXV = st.fixed_dictionaries({kind: st.integers(0, 2**64 - 1) for kind in (HWCAP, HWCAP2, HWCAP3)})


@settings(max_examples=200, deadline=None)
@given(AUXV)
def test_emitted_detection_agrees_with_python_for_any_hwcap(auxv) -> None:
    dense = Recording(arch="aarch64", auxv={kind: word | ~(1 << word % 64) & 2**64 - 1 for kind, word in auxv.items()})
    for on_record in (Recording(arch="aarch64", auxv=auxv), dense):
        assert emitted(LINUX_ON_ARM).features(on_record, LINUX_ON_ARM) == trusted(on_record)


@settings(max_examples=100, deadline=None)
@given(AUXV)
def test_emitted_detection_agrees_with_python_for_any_hwcap_of_freebsd(auxv) -> None:
    machine = Recording(arch="aarch64", system="freebsd", auxv={kind: auxv[kind] for kind in (HWCAP, HWCAP2)})
    assert emitted("aarch64-unknown-freebsd14").features(machine, "aarch64-unknown-freebsd14") == trusted(machine)


@needs_corpora
def test_emitted_detection_agrees_with_python_on_recorded_macs() -> None:
    paths = sorted((CORPORA / "raw" / "archspec-json" / "tests" / "targets").glob("darwin-*-m*"))
    feature_sets = [check(dumps.load(str(path))[1].replace(arch="aarch64"), MAC) for path in paths]
    assert feature_sets


NAMES_OF_MACS = sorted(
    prefix + name
    for row in table("aarch64").values()
    for spelling, prefix in (("darwin", "hw.optional.arm."), ("darwin11", "hw.optional."))
    for name in row.spellings.get(spelling, ())
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES_OF_MACS), st.sampled_from([0, 1, 1, 1, 2]), min_size=len(NAMES_OF_MACS) // 3)
)
def test_emitted_detection_agrees_with_python_for_any_sysctl(sysctls) -> None:
    floating_point = dict.fromkeys(("hw.optional.floatingpoint", "hw.optional.neon"), 1)
    check(Recording(system="darwin", libc="", arch="aarch64", sysctls={**sysctls, **floating_point}), MAC)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 100), min_size=20))
def test_emitted_detection_agrees_with_python_for_any_windows_on_arm(numbers) -> None:
    machine = Recording(system="windows", libc="msvc", arch="aarch64", processor_features=(*numbers, 18, 19))
    check(machine, WINDOWS_ON_ARM)


# --- picking


LEVELS = [Target.parse(name) for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64")]


@pytest.mark.parametrize(("features", "index"), [("x86-64-v4", 0), ("x86-64-v3", 1), ("x86-64-v2", 2), ("x86-64", 3)])
def test_the_first_target_that_runs_is_picked(features: str, index: int) -> None:
    emitted = CompiledIR(selector(LEVELS), LINUX)
    on_record = machine("GenuineIntel", 6, 85, set(level_features("x86_64", features).names))
    assert emitted.pick(on_record) == index
    assert emitted.read
    assert emitted.pick(on_record) == index
    assert not emitted.read, "what was decided is kept"


def test_the_number_of_targets_is_returned_if_none_runs() -> None:
    on_record = machine("GenuineIntel", 6, 85, set(level_features("x86_64", "x86-64-v2").names))
    assert CompiledIR(selector(LEVELS[:2]), LINUX).pick(on_record) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.sampled_from(["haswell", "znver4", "x86-64-v4", "nehalem", "x86-64-v3+aes", "sapphirerapids", "x86-64"]),
        min_size=1,
        max_size=5,
    ),
)
def test_emitted_code_picks_the_target_that_python_would(seed: int, requests: list[str]) -> None:
    """Also where neither of two targets runs wherever the other does."""
    targets = [Target.parse(request) for request in requests]
    on_record = made_up(random.Random(seed))
    host = detect(on_record)
    first = next((index for index, target in enumerate(targets) if target.runs_on(host)), len(targets))
    assert CompiledIR(selector(targets), LINUX).pick(on_record) == first


# --- CPUFEAT_DISABLE


DISABLES = "CPUFEAT_DISABLE"
OVERRIDDEN = selector(LEVELS, runtime_override=True)
NEWEST = machine("GenuineIntel", 6, 85, set(level_features("x86_64", "x86-64-v4").names))


def index_without(disabled: str) -> int:
    """Which of LEVELS is left by the rules of cpufeat.resolution; the last always is."""
    names = []
    for spelling in disabled.replace(",", " ").split():
        try:
            names.append(find("x86_64", spelling).name)
        except UnknownNameError:
            continue
    left = detect(NEWEST).features.without(names)
    return next((index for index, target in enumerate(LEVELS) if target.features.isa <= left), len(LEVELS) - 1)


@pytest.mark.parametrize(
    ("disabled", "index"),
    [
        ("", 0),
        ("avx512f", 1),
        ("AVX512-F", 0),
        ("avx2", 2),
        ("AVX", 2),
        ("sse3", 3),
        ("sse2", 3),
        ("SSE4.1,nonsense", 3),
        ("has_avx2", 2),
        ("HAS_AVX2", 2),
        ("abm", 2),
        ("LZCNT", 2),
        ("bmi1;", 0),
        ("avx51", 0),
        ("avx512fx", 0),
        ("\t avx512_vnni, AVX512DQ\n", 1),
        ("avx2x avx2", 2),
    ],
)
def test_cpufeat_disable_skips_targets_with_a_listed_feature(disabled: str, index: int) -> None:
    assert index_without(disabled) == index
    assert CompiledIR(OVERRIDDEN, LINUX).pick(NEWEST, **{DISABLES: disabled}) == index


SPELLED = sorted(
    {
        text
        for row in table("x86_64").values()
        for text in (
            row.name,
            row.name.upper().replace("_", "."),
            f"has_{row.name}",
            *row.flags("kernel"),
            *row.flags("rust"),
        )
    }
)
SEPARATORS = st.sampled_from([",", " ", ", ", ",,", "\t", "\n"])
LISTS = st.lists(st.tuples(st.sampled_from(SPELLED) | st.text("asve512.-_ ,", max_size=8), SEPARATORS), max_size=4)


@settings(max_examples=100, deadline=None)
@given(LISTS)
def test_any_list_disables_what_python_disables(listed) -> None:
    disabled = "".join(map("".join, listed))
    assert CompiledIR(OVERRIDDEN, LINUX).pick(NEWEST, **{DISABLES: disabled}) == index_without(disabled)


def test_nothing_is_disabled_without_the_variable_or_without_runtime_override() -> None:
    assert CompiledIR(OVERRIDDEN, LINUX).pick(NEWEST) == 0
    assert CompiledIR(selector(LEVELS), LINUX).pick(NEWEST, **{DISABLES: "avx"}) == 0
    assert "getenv" not in selector(LEVELS)


def test_the_last_target_that_runs_cannot_be_disabled() -> None:
    overridden = selector(LEVELS[:2], runtime_override=True)
    assert CompiledIR(overridden, LINUX).pick(NEWEST, **{DISABLES: "sse3"}) == 1
    older = machine("GenuineIntel", 6, 85, set(level_features("x86_64", "x86-64-v2").names))
    assert CompiledIR(overridden, LINUX).pick(older, **{DISABLES: "sse3"}) == 2


# --- what CPUID does not tell


@pytest.mark.parametrize("hwcap2", range(4))
def test_emitted_code_has_linux_tell_whether_fsgsbase_is_enabled(hwcap2: int) -> None:
    on_record = machine("GenuineIntel", 6, 60, features_of("haswell")).replace(auxv={HWCAP: 0, HWCAP2: hwcap2})
    found = emitted(LINUX).features(on_record, LINUX)
    assert ("fsgsbase" in found) == bool(hwcap2 & 2)
    assert found == expected(on_record, LINUX)
    targets = [Target.parse("haswell"), Target.parse("x86-64-v3")]
    assert CompiledIR(selector(targets), LINUX).pick(on_record) == (0 if hwcap2 & 2 else 1)


@pytest.mark.parametrize("dispatch", ["ifunc", "pointer"])
def test_resolvers_and_constructors_find_what_this_machines_vector_tells(dispatch: Mechanism) -> None:
    """A resolver reads the file of the vector by itself."""
    here = detect()
    if here.arch != "x86_64" or here.system != "linux":
        pytest.skip("needs an x86-64 Linux")
    targets = [Target.parse("x86-64+fsgsbase"), Target.parse("x86-64")]
    text = selector(targets, dispatch=dispatch)
    assert ("@getauxval(" in text) == (dispatch == "pointer")
    compiled = CompiledIR(text, LINUX, asks_here=True)
    pick = ctypes.CFUNCTYPE(ctypes.c_int)(compiled.address("__cpufeat_pick"))
    assert pick() == ("fsgsbase" not in here.features)


# --- what an ifunc resolver is handed on 64-bit Arm


NEOVERSE = [Target.parse(name, LINUX_ON_ARM) for name in ("armv8-a+sve2+lse", "armv8-a+dotprod", "armv8-a")]
GIVEN = 1 << 62
CAPABILITIES = {name.lower(): 1 << bit for _, name, bit in capabilities("aarch64")}


@pytest.mark.parametrize(
    ("flag", "size", "index"),
    [(GIVEN, 24, 0), (GIVEN, 40, 0), (GIVEN, 16, 1), (0, 24, 1)],
    ids=["glibc 2.30", "glibc 2.41", "without AT_HWCAP2", "before glibc 2.30"],
)
def test_a_resolver_reads_its_arguments(flag: int, size: int, index: int) -> None:
    names = ("fp", "asimd", "atomics", "cpuid", "fphp", "asimdhp", "asimddp", "sve")
    hwcap = sum(CAPABILITIES[name] for name in names)
    given_ = (ctypes.c_uint64 * 5)(size, hwcap, CAPABILITIES["sve2"], 0, 0)
    pick = CompiledIR(selector(NEOVERSE, dispatch="ifunc"), LINUX_ON_ARM).address("__cpufeat_pick")
    called = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p)(pick)
    assert called(hwcap | flag, ctypes.addressof(given_)) == index


def test_pick_has_the_parameters_of_resolvers() -> None:
    assert resolver_parameters(LEVELS[0]) == ""
    assert f"@__cpufeat_pick({resolver_parameters(NEOVERSE[0])})" in selector(NEOVERSE, dispatch="ifunc")
    assert "@__cpufeat_pick()" in selector(NEOVERSE)


# --- what cannot be dispatched on


def test_a_feature_without_a_run_time_test_is_an_error_that_names_it() -> None:
    with pytest.raises(TargetError, match=r"^cortex-a510: no run-time test for fpac, predres on this system: "):
        selector([Target.parse("cortex-a510", LINUX_ON_ARM)])
    selector([Target.parse("cortex-a510-predres-fpac", LINUX_ON_ARM)])


@pytest.mark.parametrize("triple", ["riscv64-unknown-linux-gnu", "s390x-unknown-linux-gnu", "aarch64-unknown-netbsd"])
def test_a_system_without_run_time_tests_is_refused(triple: str) -> None:
    cpu = {"riscv64": "generic-rv64", "s390x": "z14", "aarch64": "armv8-a"}[triple.split("-", maxsplit=1)[0]]
    with pytest.raises(TargetError, match=f"^{triple}: emitted code cannot detect CPU features"):
        selector([Target.parse(cpu, triple)])


def test_an_ifunc_resolver_that_would_need_a_library_is_refused() -> None:
    with pytest.raises(TargetError, match="CPUFEAT_DISABLE cannot be read in an ifunc resolver"):
        selector(LEVELS, dispatch="ifunc", runtime_override=True)
    with pytest.raises(TargetError, match="the CPU's features cannot be read in an ifunc resolver"):
        selector([Target.parse("armv8-a", "aarch64-unknown-freebsd14")], dispatch="ifunc")


def test_targets_of_several_triples_are_refused() -> None:
    for targets in ([], [LEVELS[0], Target.parse("x86-64", MAC_ON_INTEL)]):
        with pytest.raises(TargetError, match="one triple"):
            selector(targets)


# --- compiled, linked and run, by every LLVM


PICKED = "define i32 @picked() { %r = call i32 @__cpufeat_pick()\n ret i32 %r }\n"
PICKED_EARLY = """
@llvm.global_ctors = appending global [1 x { i32, void ()*, i8* }] \
[{ i32, void ()*, i8* } { i32 0, void ()* @early, i8* null }]
define internal void @early() { %r = call i32 @__cpufeat_pick()
  ret void }
"""
ARM = [Target.parse(name, LINUX_ON_ARM) for name in ("armv8.2-a+sve2", "armv8.2-a", "armv8-a")]
I686 = "i686-unknown-linux-gnu"
OTHERS = {
    "i686": (I686, "pentium4"),
    "windows": (WINDOWS, "x86-64-v3"),
    "mingw": ("x86_64-w64-windows-gnu", "x86-64-v3"),
    "mac-on-intel": (MAC_ON_INTEL, "x86-64-v4"),
    "mac": (MAC, "apple-m1"),
    "android": ("aarch64-unknown-linux-android30", "armv8.2-a"),
    "windows-on-arm": (WINDOWS_ON_ARM, "armv8-a+dotprod"),
    "freebsd": ("aarch64-unknown-freebsd14", "armv8.2-a"),
}
MAGIC = {"windows": b"\x64\x86", "mingw": b"\x64\x86", "windows-on-arm": b"\x64\xaa"}
MAGIC |= dict.fromkeys(("mac", "mac-on-intel"), b"\xcf\xfa\xed\xfe")


@pytest.fixture(scope="module")
def objects(llvm_python, tmp_path_factory) -> Path:
    """What that LLVM makes of detectors, without an assembler."""
    folder = tmp_path_factory.mktemp("objects")
    modules = {f"pick{opt}.o": (selector(LEVELS) + PICKED + PICKED_EARLY, LINUX, opt) for opt in range(4)}
    modules["features.o"] = (features_text(LINUX), LINUX, 2)
    modules["features32.o"] = (features_text(I686), I686, 2)
    modules["override.o"] = (selector(LEVELS, runtime_override=True) + PICKED, LINUX, 2)
    modules["arm.o"] = (selector(ARM) + PICKED, LINUX_ON_ARM, 2)
    modules["arm-features.o"] = (features_text(LINUX_ON_ARM), LINUX_ON_ARM, 2)
    modules["arm-ifunc.o"] = (selector(ARM, dispatch="ifunc"), LINUX_ON_ARM, 0)
    for name, (triple, cpu) in OTHERS.items():
        modules[f"{name}.o"] = (selector([Target.parse(cpu, triple), lowest(triple)]) + PICKED, triple, 2)
    compile_all(llvm_python, modules, folder)
    return folder


def c_program(folder: Path, source: str, *objects: str, command: tuple[str, ...] = ("gcc",)) -> Path:
    """Compile and link a C program with objects in a folder."""
    (folder / "main.c").write_text(source)
    program = folder / "program"
    line = [tool(command[0]), *command[1:], "-O1", "-o", str(program), "main.c", *objects]
    process = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return program


PRINTS_PICKED = '#include <stdio.h>\nint picked(void);\nint main(void) { printf("%d\\n", picked()); }\n'


@pytest.mark.parametrize("opt", range(4))
def test_a_program_picks_the_target_that_python_would(objects: Path, opt: int) -> None:
    """And does so when it runs: LLVM evaluates constructors, as far as it can look into them."""
    program = c_program(objects, PRINTS_PICKED, f"pick{opt}.o")
    here = detect(ThisMachine())
    process = subprocess.run([program], capture_output=True, text=True, check=True)
    assert int(process.stdout) == next(index for index, target in enumerate(LEVELS) if target.runs_on(here))


def test_a_program_honours_cpufeat_disable(objects: Path) -> None:
    program = c_program(objects, PRINTS_PICKED, "override.o")
    process = subprocess.run([program], env={DISABLES: "sse3"}, capture_output=True, text=True, check=True)
    assert int(process.stdout) == 3


BASELINE = {"INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64", "CMOV", "MULTIBYTENOP"}
ASKING = {"CPUID", "XSAVE", "SYSCALL", "CET_IBT"}


@pytest.mark.parametrize("opt", range(4))
def test_the_selector_uses_nothing_above_the_baseline_and_no_relocations_of_the_loader(objects: Path, opt: int) -> None:
    """A resolver runs before relocation: every reference is within the object, and relative."""
    elf = ELFFile(io.BytesIO((objects / f"pick{opt}.o").read_bytes()))
    code = b"".join(part.data() for part in elf.iter_sections() if part["sh_flags"] & 4)
    decoder = iced_x86.Decoder(64, code)
    names = {iced_x86.CpuidFeature.__dict__[name]: name for name in dir(iced_x86.CpuidFeature) if name.isupper()}
    used = {names[feature] for instruction in decoder for feature in instruction.cpuid_features()}
    assert used <= BASELINE | ASKING
    assert {"CPUID", "XSAVE"} <= used
    symbols = elf.get_section_by_name(".symtab")
    relocations = [part for part in elf.iter_sections() if isinstance(part, RelocationSection)]
    in_code = [relocation for part in relocations if ".text" in part.name for relocation in part.iter_relocations()]
    assert in_code
    assert {relocation["r_info_type"] for relocation in in_code} <= {2, 4}, "R_X86_64_PC32, R_X86_64_PLT32"
    assert all(symbols.get_symbol(relocation["r_info_sym"])["st_shndx"] != "SHN_UNDEF" for relocation in in_code)


@pytest.mark.parametrize("name", OTHERS)
def test_selectors_compile_for_every_system(objects: Path, name: str) -> None:
    content = (objects / f"{name}.o").read_bytes()
    assert content.startswith(MAGIC.get(name, b"\x7fELF"))
    assert b"picked" in content


# --- on emulated CPUs


@pytest.mark.parametrize("llvm_version", [22], indirect=True, ids=["LLVM 22"])
def test_emitted_detection_agrees_with_every_emulated_model(qemu: str, objects: Path) -> None:
    program = str(c_program(objects, detection_program(PRINTED_LEAVES, len(selectable_features(LINUX))), "features.o"))
    processes = side_by_side(lambda model: run(qemu, model, [program]), models(qemu))
    outputs = [process.stdout for process in processes if NO_64_BIT not in process.stderr]
    assert len(outputs) > 100
    feature_sets = []
    for output in outputs:
        features, machine = parsed_output(output, LINUX)
        machine = machine.replace(auxv={HWCAP: 0, HWCAP2: 0})  # QEMU's vector says no more
        assert features == expected(machine, LINUX)
        feature_sets.append(frozenset(features))
    assert len(set(feature_sets)) > 20


@pytest.mark.parametrize("llvm_version", [22], indirect=True, ids=["LLVM 22"])
def test_emitted_detection_agrees_with_emulated_32_bit_cpus(objects: Path) -> None:
    qemu = tool("qemu-i386")
    source = detection_program(PRINTED_LEAVES, len(selectable_features(I686)))
    program = str(c_program(objects, source, "features32.o", command=(*ZIG, "x86-linux-musl")))
    feature_sets = []
    for model in ("athlon", "pentium3", "qemu32", "n270", "core2duo", "Nehalem", "Haswell", "max"):
        features, machine = parsed_output(run(qemu, model, [program]).stdout, I686)
        assert features == expected(machine, I686)
        feature_sets.append(features)
    assert [{"nopl", "sse2", "avx2"} & features for features in (*feature_sets[:2], *feature_sets[-2:])] == [
        {"sse2"},
        {"nopl"},
        {"nopl", "sse2", "avx2"},
        {"sse2", "avx2"},
    ]


ON_ARM = """
#include <stdio.h>
#include <sys/auxv.h>
void features(unsigned char *);
int picked(void);
int main(void) {
    unsigned char found[COUNT];
    features(found);
    for (int i = 0; i < COUNT; i++) putchar('0' + found[i]);
    printf("\\n%d %lx %lx\\n", picked(), getauxval(16), getauxval(26));
}
"""


@pytest.mark.parametrize("llvm_version", [22], indirect=True, ids=["LLVM 22"])
def test_emitted_detection_agrees_with_emulated_arm_cores(objects: Path) -> None:
    qemu = tool("qemu-aarch64")
    source = ON_ARM.replace("COUNT", str(len(selectable_features(LINUX_ON_ARM))))
    program = str(c_program(objects, source, "arm.o", "arm-features.o", command=(*ZIG, "aarch64-linux-musl")))
    picked = {}
    for model in ("cortex-a53", "cortex-a76", "neoverse-n1", "a64fx", "max"):
        bits, answers = run(qemu, model, [program]).stdout.splitlines()
        index, *words = answers.split()
        auxv = dict(zip((HWCAP, HWCAP2), (int(word, 16) for word in words), strict=True))
        machine = Recording(arch="aarch64", auxv=auxv)
        assert {
            name for name, bit in zip(selectable_features(LINUX_ON_ARM), bits, strict=True) if bit == "1"
        } == trusted(machine)
        here = detect(machine)
        assert int(index) == next(at for at, target in enumerate(ARM) if target.runs_on(here))
        picked[model] = int(index)
    assert picked == {"cortex-a53": 2, "cortex-a76": 1, "neoverse-n1": 1, "a64fx": 1, "max": 0}
