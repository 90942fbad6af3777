"""32-bit Arm: the tables against LLVM, the kernel's header and Zig; readings against recorded machines."""

from __future__ import annotations

import json
import re

import pytest
from helpers.corpora import corpora
from helpers.paths import CORPUS
from helpers.zig import arm_cores, capabilities
from hypothesis import given
from hypothesis import strategies as st

from cpufeat import llvm_tables, tables
from cpufeat.detection import dumps, host
from cpufeat.detection.arch import Reading, arm
from cpufeat.detection.arch.identity import Model
from cpufeat.detection.detect import detect
from cpufeat.detection.probe import lscpu
from cpufeat.detection.recording import Recording
from cpufeat.features import find, table
from cpufeat.levels import level_features, levels
from cpufeat.target import Target

ARCH = "armv7l"
TRIPLE = "armv7-unknown-linux-gnueabihf"
FEATURES = table(ARCH)
VERSIONS = llvm_tables.versions(ARCH)
MODELS = [Model(*row) for row in tables.rows("arm/models.tsv")]

NOT_AS_ZIG = {
    ("0x41", 0xC0D): "LLVM has a Cortex-A12",
    ("0x43", 0x0B0): "no AArch32",
    ("0x51", 0x801): "a small core, based on the Cortex-A53",
    ("0x51", 0x803): "a small core, based on the Cortex-A55",
    ("0x51", 0x805): "a small core, based on the Cortex-A55",
    ("0x53", 0x000): "a number that no core is known to have",
}
V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"

GOOGLE_INFERS = {
    "EmulatorSpecificIdiv": {"idiva"},  # the emulator's kernel does not report it
    "Nexus4_0x510006f2": {"idiva", "idivt"},  # no `Features` at all: inferred from the Krait's number
    "Nexus4_0x510006f3": {"idiva", "idivt"},
    "Nexus7_2013_0x511006f0": {"idiva", "idivt"},
}
"""What google/cpu_features adds to the kernel's words, and we do not: what is not reported is off."""
PYTORCH = {
    "armv5e": "v5te",
    "armv6": "v6",
    "armv6k": "v6k",
    "armv7": "v7",
    "armv7mp": "mp",
    "crc32": "crc",
    "fp16_arith": "fullfp16",
    "idiv": "hwdiv_arm",
    "neon_dot": "dotprod",
    "neon_fma": "vfp4",
    "sha1": "sha2",
    "thumb": "v4t",
    "vfpv3": "vfp3d16",
    "vfpv3_d32": "vfp3",
    "vfpv3_fp16": "fp16",
    "vfpv4": "vfp4d16",
    "vfpv4_d32": "vfp4",
}
"""pytorch/cpuinfo's names; the others are LLVM's."""
PYTORCH_INFERS = {"mp", "hwdiv_arm", "fp16", "fullfp16", "dotprod"}
"""What it adds by the number of the core where an old kernel does not report it."""
BETTER_TRUTH = {"pytorch-cpuinfo/huawei-honor-6.log.cpuinfo": "cortex-a7+cortex-a15"}
"""The Kirin 920 has both, and its kernel names both, in one line: ``CPU part: 0xc07 & 0xc0f``."""
CUT_OFF = {"blu-r1-hd", "lenovo-a6600-plus", "xiaomi-mi-5c"}
"""Kernels whose ``Features`` lack words of AT_HWCAP2 (``evtstrm sha2``), which pytorch/cpuinfo reads in the vector."""


def cpuinfo(flags: str, part: int, *, implementer: int = 0x41, stepping: int = 0x23, name: str = "(v7l)") -> bytes:
    """What a 32-bit kernel prints of one core, of which it says version 7 also where that is an ARM1176."""
    return (
        f"processor\t: 0\nmodel name\t: ARM Processor rev 0 {name}\nFeatures\t: {flags}\n"
        f"CPU implementer\t: {implementer:#x}\nCPU architecture: 7\nCPU variant\t: {stepping >> 4:#x}\n"
        f"CPU part\t: {part:#x}\nCPU revision\t: {stepping & 15}\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi\n"
    ).encode()


def of_cpuinfo(content: bytes, arch: str = ARCH) -> Recording:
    return Recording(arch=arch, files={"/proc/cpuinfo": content})


def of_words(hwcap: int, hwcap2: int = 0, platform: str = "v7l") -> Recording:
    return Recording(arch=ARCH, auxv={16: hwcap, 26: hwcap2}, strings={15: platform})


# --- the tables


def test_every_bit_of_the_kernels_header_is_read_by_its_word_and_by_its_name() -> None:
    listed = capabilities("arm")
    assert len(listed) > 30
    conditions = "&".join(feature.bit for feature in FEATURES.values())
    for word, name, bit in listed:
        assert f"{word.lower()}[{bit}]" in conditions, name
        words = (0, 1 << bit) if word == "HWCAP2" else (1 << bit, 0)
        (by_word,) = arm.read(of_words(*words, platform=""))
        (by_name,) = arm.read(of_cpuinfo(f"Features: {name.lower().replace('_', '')}\nCPU part: 0x0\n".encode()))
        assert by_word.reported.keys() == by_name.reported.keys(), name


def test_models_have_the_cpus_that_zig_gives_them() -> None:
    cores = {core: name for core, name in arm_cores(32).items() if core not in NOT_AS_ZIG}
    assert len(cores) > 30
    for (vendor, part), name in cores.items():
        if re.search("-m[0-9c]|^star", name):  # the M profile runs no Linux with an MMU
            continue
        reading = Reading("", vendor, None, part, 0)
        cpu = next((row.cpu for row in MODELS if row.cpu and row.fits(reading, frozenset())), None)
        assert (cpu or "").replace("novfp", "") == name, (vendor, hex(part))


def test_rows_name_existing_cpus_and_are_the_first_to_match_their_models() -> None:
    known = llvm_tables.load(ARCH).cpus.keys() | levels(ARCH).keys()
    for row in (row for row in MODELS if row.cpu):
        assert row.cpu in known
        for part in row.model.split(","):
            reading = Reading("", row.vendor, None, int(part, 0), 0)
            required = frozenset(row.requires.split())
            assert next(other for other in MODELS if other.cpu and other.fits(reading, required)) == row


def test_a_core_is_the_same_to_32_bit_and_64_bit_programs() -> None:
    wide = [Model(*row) for row in tables.rows("aarch64/models.tsv")]
    named = {(row.vendor, row.model): row for row in MODELS}
    both = [(row, named[row.vendor, row.model]) for row in wide if (row.vendor, row.model) in named]
    assert len(both) > 30
    for row, other in both:
        assert row.name == other.name
        assert other.cpu in (row.cpu, "generic"), "LLVM has no such 32-bit CPU"


@pytest.mark.parametrize(
    ("level", "cpu"),
    [
        ("armv4t", "arm7tdmi"),
        ("armv5te", "arm926ej-s"),
        ("armv6", "arm1136j-s"),
        ("armv6k", "arm1176jz-s"),
        ("armv7-a", "cortex-a9"),
        ("armv7ve", "cortex-a15"),
        ("armv8-a", "cortex-a53"),
    ],
)
def test_a_level_is_what_llvms_cpus_of_it_have(level: str, cpu: str) -> None:
    features = llvm_tables.cpu_features(ARCH, cpu)
    assert features is not None
    assert level_features(ARCH, level) <= features
    later = list(levels(ARCH))[list(levels(ARCH)).index(level) + 1 :]
    assert not [other for other in later if level_features(ARCH, other) <= features]


def test_a_level_is_compiled_for() -> None:
    written = Target.parse("armv7-a", TRIPLE).llvm_features(22).split(",")
    assert {"+vfp3d16", "-neon", "+v7", "-v8"} <= set(written)


# --- readings


def test_a_raspberry_pi_zero_is_no_armv7() -> None:
    detected = detect(of_cpuinfo(cpuinfo("half thumb fastmult vfp edsp java tls", 0xB76, stepping=7, name="(v6l)")))
    assert (detected.cpu, detected.level, detected.brand) == ("arm1176jzf-s", "armv6k", "Raspberry Pi")
    assert "v7" not in detected.features


def test_half_words_are_no_half_precision() -> None:
    assert "fp16" not in detect(of_cpuinfo(cpuinfo("half thumb fastmult vfp edsp neon vfpv3 tls", 0xC09))).features
    assert "fp16" in detect(of_cpuinfo(cpuinfo(V7, 0xC0F))).features


def test_a_vfp_of_16_registers_is_not_one_of_32() -> None:
    detected = detect(of_cpuinfo(cpuinfo("half thumb vfp edsp vfpv3 vfpv3d16 tls", 0xC09)))
    assert "vfp3d16" in detected.features
    assert not {"vfp3", "d32", "neon"} & detected.features.names


def test_the_auxiliary_vector_tells_the_version_by_its_platform() -> None:
    words = 0x3FB0D6, 0x10
    levels = [detect(of_words(*words, platform)).level for platform in ("v8l", "v7l", "v6l")]
    assert levels == ["armv8-a", "armv7ve", "armv6k"]
    assert "crc" in detect(of_words(*words)).features


def test_a_program_that_finds_64_bit_words_runs_on_armv8() -> None:
    content = b"processor: 0\nFeatures: fp asimd crc32\nCPU implementer: 0x41\nCPU architecture: 8\nCPU part: 0xd03\n"
    detected = detect(of_cpuinfo(content, "armv8l"))
    assert (detected.cpu, detected.level) == ("cortex-a53", "armv8-a")
    assert {"neon", "hwdiv_arm", "crc"} <= detected.features.names
    assert "aes" not in detected.features


def test_neon_of_the_first_krait_is_withheld() -> None:
    flags = "swp half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt"
    detected = detect(of_cpuinfo(cpuinfo(flags, 0x04D, implementer=0x51, stepping=0x10)))
    assert (detected.cpu, detected.withheld["neon"].reason) == ("krait", "erratum")
    assert "neon" not in detected.features
    assert "neon" in detect(of_cpuinfo(cpuinfo(flags, 0x04D, implementer=0x51, stepping=0x14))).features


def test_one_identity_stands_for_all_processors_of_old_kernels() -> None:
    content = b"Processor: ARMv7 Processor rev 1 (v7l)\n" + b"".join(
        f"processor: {number}\nBogoMIPS: 1.0\n\n".encode() for number in range(4)
    )
    ending = "Features: swp half thumb vfp edsp\nCPU implementer: 0x41\nCPU architecture: 7\n"
    ending += "CPU variant: {}\nCPU part: {}\nCPU revision: {}\n"
    detected = detect(of_cpuinfo(content + ending.format("0x3", "0xc09", "0").encode()))
    assert detected.cores == (host.Core("cortex-a9", 4),)
    detected = detect(of_cpuinfo(content + ending.format("0x0 & 0x3", "0xc07 & 0xc0f", "5 & 3").encode()))
    assert detected.cores == (host.Core("cortex-a15", 2), host.Core("cortex-a7", 2))


@given(st.integers(0, 2**32 - 1), st.integers(0, 127), st.integers(0, 31))
def test_a_bit_that_is_cleared_adds_nothing(hwcap: int, hwcap2: int, bit: int) -> None:
    (whole,) = arm.read(of_words(hwcap | 1, hwcap2))
    for words in ((hwcap & ~(1 << bit) | 1, hwcap2), (hwcap | 1, hwcap2 & ~(1 << bit))):
        (part,) = arm.read(of_words(*words))
        assert part.reported.keys() <= whole.reported.keys()


def test_a_silent_machine_has_no_reading() -> None:
    assert arm.read(Recording(arch=ARCH)) == []


# --- recorded machines


def test_recorded_machines_are_the_cpus_that_they_are_known_to_be() -> None:
    cases = corpora("cases")
    listed = [line.split("\t") for line in (cases / "truth.tsv").read_text().splitlines()]
    of_arm = [(path, truth) for path, _, arch, truth in listed if arch.startswith("arm")]
    assert len(of_arm) > 90
    for path, truth in of_arm:
        detected = detect(dumps.load(str(cases / path))[1])
        kinds = sorted(core.cpu for core in detected.cores)
        assert truth in ("-", detected.cpu) or kinds == sorted(BETTER_TRUTH.get(path, truth).split("+")), path


def test_googles_recordings_have_the_features_that_google_expects() -> None:
    folder = corpora("raw/google-cpu_features") / "arm"
    paths = list(folder.glob("*.json"))
    assert paths
    for path in paths:
        expected = json.loads(path.read_text())
        machine = of_cpuinfo(path.with_suffix(".cpuinfo").read_bytes())
        (reading,) = arm.read(machine)
        usable = reading.reported.keys() - reading.withheld.keys()
        present = set(expected["present"]) - GOOGLE_INFERS.get(path.stem, set())
        absent = set(expected["absent"]) - {"_26bit", "vfpv3d16"}  # 16 registers at the least, for us
        assert {find(ARCH, flag).name for flag in present} <= usable, path
        assert not {find(ARCH, flag).name for flag in absent} & usable, path
        equal = dict(expected["equal"])
        if "architecture" in equal:
            assert f"architecture {equal['architecture']}" in reading.reported["v6"]
        assert equal.get("part", f"{reading.model:#x}") == f"{reading.model:#x}"


def test_rusts_auxiliary_vector_of_a_raspberry_pi_3() -> None:
    folder = corpora("raw/stdarch-auxv") / "crates" / "std_detect" / "src" / "detect" / "test_data"
    content = (folder / "linux-rpi3.auxv").read_bytes()
    numbers = [int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4)]
    vector = dict(zip(numbers[::2], numbers[1::2], strict=True))
    features = detect(of_words(vector[16], vector[26])).features
    assert {"neon", "crc", "hwdiv", "hwdiv_arm", "vfp4"} <= features.names
    assert not {"aes", "sha2", "dotprod"} & features.names


def test_pytorchs_recordings_have_the_features_that_pytorch_expects() -> None:
    truths = json.loads((corpora("raw/pytorch-cpuinfo") / "truth.json").read_text())
    compared = 0
    paths = list((CORPUS / "pytorch-cpuinfo").glob("*.cpuinfo"))
    assert paths
    for path in paths:
        name = path.name.partition(".")[0]
        machine = dumps.load(str(path))[1]
        if machine.arch != "arm" or name not in truths:
            continue
        features = detect(machine).features
        ours = {PYTORCH.get(theirs, theirs): has for theirs, has in truths[name]["isa"].items()}
        for feature, has in ((feature, has) for feature, has in ours.items() if feature in FEATURES):
            if feature in features:
                assert has, f"{name} {feature}: over-reported"
            elif has:
                assert feature in PYTORCH_INFERS or name in CUT_OFF, f"{name} {feature}"
            compared += 1
    assert compared > 800


def test_what_lscpu_prints_once_before_the_first_kind_holds_for_all_kinds() -> None:
    kinds = [f"Model name: Cortex-{name}\nStepping: r0p3\nFlags: {V7}\n" for name in ("A7", "A15")]
    for first, second in (kinds, reversed(kinds)):
        printed = f"Architecture: armv7l\nCPU(s): 2\nVendor ID: ARM\n{first}{second}".encode()
        detected = detect(dumps.parse(printed, "lscpu")[1])
        assert detected.cores == (host.Core("cortex-a15", 1), host.Core("cortex-a7", 1))
        assert (detected.level, "thumb2" in detected.features) == ("armv7ve", True)


def test_what_lscpu_prints_for_each_kind_is_of_that_kind_alone() -> None:
    printed = f"Architecture: armv7l\nVendor ID: ARM\nModel: 3\nModel name: Cortex-A7\nStepping: r0p3\nFlags: {V7}\n"
    printed += f"Vendor ID: Qualcomm\nModel: 5\nModel name: Krait\nFlags: {V7}\n"
    kinds = lscpu.kinds(printed.encode())
    assert [(kind["Vendor ID"], kind["Model name"], kind.get("Stepping")) for kind in kinds] == [
        ("ARM", "Cortex-A7", "r0p3"),
        ("Qualcomm", "Krait", None),
    ]
    assert [kind["Architecture"] for kind in kinds] == ["armv7l", "armv7l"]


@pytest.mark.parametrize("vendor", ["ARM", "Qualcomm", "Rockchip", ""])
def test_lscpus_model_name_is_the_core_whoever_the_vendor_is(vendor: str) -> None:
    printed = f"Architecture: armv7l\nVendor ID: {vendor}\nModel name: Cortex-A17\nFlags: {V7}\n"
    detected = detect(dumps.parse(printed.encode(), "lscpu")[1])
    assert (detected.cpu, detected.vendor) == ("cortex-a17", "0x41")
