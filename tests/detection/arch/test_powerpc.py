"""POWER: the tables against LLVM, archspec and the kernel's header; readings against the kernel's and QEMU's words."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from archspec.cpu.schema import TARGETS_JSON
from helpers.corpora import needs_corpora
from helpers.paths import CORPUS
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding

from cpufeat import llvm_tables
from cpufeat.cpus import cpus, find_cpu
from cpufeat.detection import dumps, host
from cpufeat.detection.arch import powerpc
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.features import HARDWARE, FeatureSet, table
from cpufeat.levels import level_features, levels
from cpufeat.target import Target

ARCH = "ppc64le"
TRIPLE = "powerpc64le-unknown-linux-gnu"
FEATURES = table(ARCH)
VERSIONS = llvm_tables.versions(ARCH)

NAMED_BITS = {"hwcap": {*range(32)} - {2, 3, 4, 5}, "hwcap2": {*range(15, 32)}}
"""The bits that <asm/cputable.h> names; hwcap[5] to [2] are reserved there."""

# What Linux's cpu_specs give each generation, less what a machine may lack: DFP and VSX come from the device tree.
POWER7 = (0xDC0065C2, 0x20000000)
POWER8 = (0xDC0065C2, 0xEF000000)
POWER9 = (0xDC0065C2, 0xAEF00000)  # on bare metal: no transactions
POWER10 = (0xDC0065C2, 0xAEF60000)
PPC970 = (0xDC080000, 0)
# AT_HWCAP and AT_HWCAP2 of programs under qemu-ppc64le 7.2 -cpu power8, power9, power10
QEMU = {8: (0x58000580, 0x8E000000), 9: (0x58000580, 0x8EE00000), 10: (0x58000580, 0x8EE60000)}


def machine(words: tuple[int, int], cpuinfo: str = "", platform: str = "", arch: str = ARCH) -> Recording:
    files = {"/proc/cpuinfo": cpuinfo.encode()} if cpuinfo else {}
    return Recording(arch=arch, auxv={16: words[0], 26: words[1]}, strings={15: platform}, files=files)


def cpuinfo(cpu: str, pvr: str, processors: int = 1) -> str:
    """What ``show_cpuinfo`` of Linux prints."""
    processor = f"processor\t: 0\ncpu\t\t: {cpu}\nclock\t\t: 3800.000000MHz\nrevision\t: 2.2 (pvr {pvr})\n\n"
    return processor * processors + "timebase\t: 512000000\nplatform\t: PowerNV\nmodel\t\t: 9006-12P\n"


# --- the tables


def test_every_bit_of_the_kernels_header_has_a_row() -> None:
    counts = Counter(bit for feature in FEATURES.values() for bit in re.split("[|&]", feature.bit) if bit)
    assert counts.keys() == {f"{word}[{bit}]" for word, bits in NAMED_BITS.items() for bit in bits}


@pytest.mark.parametrize("generation", [7, 8, 9, 10])
def test_levels_are_llvms_cpus_without_transactions(generation: int) -> None:
    features = llvm_tables.cpu_features(ARCH, f"pwr{generation}")
    assert features is not None
    assert level_features(ARCH, f"power{generation}") == features.isa.without(["htm"])


def test_archspecs_names_are_known() -> None:
    named = [name for name in TARGETS_JSON["microarchitectures"] if name.startswith(("power", "ppc64"))]
    assert len(named) > 8
    assert {find_cpu(ARCH, name) for name in named} <= cpus(ARCH).keys()


# --- LLVM


VECTOR = """
define <2 x double> @add(<2 x double> %a, <2 x double> %b) {
  %sum = fadd <2 x double> %a, %b
  ret <2 x double> %sum
}
"""


@pytest.mark.parametrize(
    ("level", "vectors"), [("ppc64", False), ("power7", True), ("power8", True), ("power9", True), ("power10", True)]
)
def test_code_for_a_level_uses_vectors_where_it_has_them(level: str, vectors: bool) -> None:
    target_machine = Target.parse(level, TRIPLE).create_target_machine()
    module = binding.parse_assembly(f'target triple = "{TRIPLE}"\n{VECTOR}')
    assert ("xvadddp" in target_machine.emit_assembly(module)) == vectors


# --- readings


@pytest.mark.parametrize(
    ("words", "cpu", "level"),
    [
        (POWER7, "pwr7", "power7"),
        (POWER8, "pwr8", "power8"),
        (POWER9, "pwr9", "power9"),
        (POWER10, "pwr10", "power10"),
        *((words, f"pwr{generation}", f"power{generation}") for generation, words in QEMU.items()),
    ],
)
def test_the_features_alone_tell_the_generation(words: tuple[int, int], cpu: str, level: str) -> None:
    detected = detect(machine(words))
    assert (detected.cpu, detected.level, detected.source) == (cpu, level, "AT_HWCAP")


def test_the_970_has_altivec_and_nothing_of_later_versions() -> None:
    detected = detect(machine(PPC970, cpuinfo("PPC970MP, altivec supported", "0044 0101"), arch="ppc64"))
    assert (detected.cpu, detected.name, detected.level) == ("970", "PowerPC 970", "ppc64")
    expected = llvm_tables.cpu_features("ppc64", "970")
    assert expected is not None
    assert detected.features.isa == expected.isa


def test_transactional_memory_is_usable_only_where_the_kernel_says_so() -> None:
    assert "htm" in detect(machine(POWER8)).features
    detected = detect(machine(POWER9, cpuinfo("POWER9, altivec supported", "004e 1202")))
    assert (detected.cpu, "htm" in detected.features) == ("pwr9", False)
    assert detected.withheld["htm"].reason == "not reported"


@pytest.mark.parametrize(
    ("cpu", "pvr", "expected"),
    [
        ("POWER8 (raw), altivec supported", "004d 0200", "pwr8"),
        ("POWER8NVL (raw), altivec supported", "004c 0100", "pwr8"),
        ("POWER8 (architected), altivec supported", "004e 1202", "pwr8"),  # a POWER9 that poses as a POWER8
        ("POWER7 (architected), altivec supported", "004a 0200", "pwr7"),
        ("POWER5+", "0f00 0001", "pwr5x"),
        ("Power11 (architected), altivec supported", "0082 1200", "pwr11"),
        ("Power11 (raw), altivec supported", "0082 1200", "pwr11"),
        ("Power12 (raw), altivec supported", "0083 0100", "pwr11"),
        ("Cell Broadband Engine, altivec supported", "0070 0501", "ppc64"),
        ("e6500, altivec supported", "8040 0120", "e5500"),
    ],
)
def test_the_processor_version_in_force_names_the_cpu(cpu: str, pvr: str, expected: str) -> None:
    detected = detect(Recording(arch="ppc64", files={"/proc/cpuinfo": cpuinfo(cpu, pvr, 3).encode()}))
    assert (detected.cpu, detected.cores) == (expected, (host.Core(expected, 3),))


@pytest.mark.parametrize(
    ("cpu", "pvr", "arch", "expected", "level"),
    [
        ("e5500", "8024 0012", "ppc64", "e5500", "ppc64"),
        ("e6500, altivec supported", "8040 0120", "ppc64", "e5500", "ppc64"),
        ("A2", "0048 0200", "ppc64", "a2", "ppc64"),
        ("PPC970MP, altivec supported", "0044 0101", "ppc64", "970", "ppc64"),
        ("Cell Broadband Engine, altivec supported", "0070 0501", "ppc64", "ppc64", "ppc64"),
        ("Power11 (raw), altivec supported", "0082 1200", "ppc64le", "pwr11", "ppc64"),
        ("7447A, altivec supported", "8003 0105", "ppc", "7450", "ppc"),
        ("7410, altivec supported", "800c 1104", "ppc", "7400", "ppc"),
        ("750FX", "7000 0202", "ppc", "750", "ppc"),
        ("e500v2", "8021 0030", "ppc", "e500", ""),
        ("no such core", "7fff 0001", "ppc", "generic", "ppc"),
    ],
)
def test_a_dump_of_cpuinfo_tells_the_architecture_by_the_name_of_the_core(
    cpu: str, pvr: str, arch: str, expected: str, level: str
) -> None:
    name, machine = dumps.parse(cpuinfo(cpu, pvr, 2).encode(), "dump")
    detected = detect(machine)
    assert (name, detected.arch, detected.cpu, detected.level) == ("cpuinfo", arch, expected, level)
    assert ("altivec" in detected.features) == ("altivec" in cpu)
    assert ("fpu" in detected.features) == (cpu != "e500v2")


def test_at_platform_names_the_cpu_where_proc_is_not_mounted() -> None:
    assert detect(machine(POWER10, platform="power11")).cpu == "pwr11"
    assert detect(machine(POWER8, platform="power8")).name == "POWER8 mode"


@pytest.mark.parametrize("platform", ["power", "powerful", "power123456", "ppc970", "pa6t"])
def test_other_platforms_name_nothing(platform: str) -> None:
    (reading,) = powerpc.read(machine(POWER8, platform=platform))
    assert reading.model is None


def test_vsx_is_unknown_where_only_the_kernels_words_are_read() -> None:
    files = {"/proc/cpuinfo": cpuinfo("POWER9, altivec supported", "004e 1202").encode()}
    detected = detect(Recording(arch=ARCH, files=files))
    assert detected.features == FeatureSet(ARCH, ["64bit", "fpu", "hard_float", "altivec"])
    assert str(detected.withheld["vsx"]) == "cannot be seen (/proc/cpuinfo never shows it)"


def test_lscpu_of_a_power9_is_read_as_cpuinfo_is() -> None:
    text = b"CPU(s): 4\nModel: 2.2 (pvr 004e 1202)\nModel name: POWER9 (architected), altivec supported\n"
    detected = detect(Recording(arch=ARCH, files={"lscpu": text}))
    assert (detected.cpu, detected.cores[0].count, "altivec" in detected.features) == ("pwr9", 4, True)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 127))
def test_a_bit_that_is_cleared_adds_nothing(hwcap: int, hwcap2: int, bit: int) -> None:
    word, cleared = (hwcap2 << 64 | hwcap), ~(1 << bit)
    less = word & cleared
    whole = powerpc.read(machine((hwcap, hwcap2)))
    part = powerpc.read(machine((less & (2**64 - 1), less >> 64)))
    assert not part or part[0].reported.keys() <= whole[0].reported.keys()


def test_a_silent_machine_has_no_reading() -> None:
    assert powerpc.read(Recording(arch=ARCH)) == []


@needs_corpora
def test_recorded_machines_are_the_cpus_that_they_are_known_to_be() -> None:
    listed = [line.split("\t") for line in (CORPUS / "truth.tsv").read_text().splitlines()]
    of_power = [(path, truth) for path, _, arch, truth in listed if arch.startswith("ppc")]
    assert len(of_power) > 20
    for path, truth in of_power:
        detected = detect(dumps.load(str(CORPUS / path))[1])
        assert detected.name, path
        assert truth in (detected.cpu, "-"), path


def test_levels_are_cpus_to_tune_for() -> None:
    for level in levels(ARCH):
        for version in VERSIONS:
            assert Target.parse(level, TRIPLE).llvm_cpu(version) in (level, level.replace("power", "pwr"))


def test_only_hardware_features_have_bits() -> None:
    assert all(feature.kind in (*HARDWARE, "other") for feature in FEATURES.values() if feature.bit)
