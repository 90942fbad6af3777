"""LoongArch: the tables against LLVM and the kernel's header, readings against recorded machines."""

from __future__ import annotations

import json
import re
import tarfile

import pytest
from helpers.corpora import corpora
from helpers.llvm_data import llvm_rows
from hypothesis import given
from hypothesis import strategies as st

from cpufeat import llvm_tables
from cpufeat.cpus import cpus, find_cpu
from cpufeat.detection import dumps, host
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.features import find, implied, table
from cpufeat.levels import level_features

ARCH = "loongarch64"
FEATURES = table(ARCH)
VERSIONS = llvm_tables.versions(ARCH)
AT_HWCAP = 16

# <asm/hwcap.h> of Linux 6.12, from bit 0 on
HWCAPS = "CPUCFG LAM UAL FPU LSX LASX CRC32 COMPLEX CRYPTO LVZ LBT_X86 LBT_ARM LBT_MIPS PTW LSPW".lower().split()


def cpuinfo(features: str, model: str = "Loongson-3A5000") -> bytes:
    """What ``show_cpuinfo`` of Linux prints."""
    core = f"Model Name\t\t: {model}\nCPU Revision\t\t: 0x10\nFeatures\t\t: {features}\n"
    return f"system type\t\t: generic-loongson-machine\n\nprocessor\t\t: 0\n{core}\nprocessor\t\t: 1\n{core}\n".encode()


def loongson_host(features: str = "", model: str = "Loongson-3A5000", hwcap: int | None = None) -> host.Host:
    files = {"/proc/cpuinfo": cpuinfo(features, model)} if features else {}
    return detect(Recording(arch=ARCH, files=files, auxv={} if hwcap is None else {AT_HWCAP: hwcap}))


# --- the tables


@pytest.mark.parametrize("version", VERSIONS)
def test_a_feature_implies_at_least_what_llvm_says(version: int) -> None:
    for name, _, others in llvm_rows("loongarch", version, "feature"):
        assert {find(ARCH, other).name for other in others} <= implied(ARCH, find(ARCH, name).name), name


def test_closure_goes_no_further_than_the_newest_llvm() -> None:
    for name, _, others in llvm_rows("loongarch", VERSIONS[-1], "feature"):
        beyond = set(FEATURES[find(ARCH, name).name].implies) - {find(ARCH, other).name for other in others}
        assert beyond <= {"32s"}, name


def test_every_bit_that_the_kernel_names_is_read() -> None:
    bits = [bit for feature in FEATURES.values() for bit in re.findall(r"hwcap\[\d+\]", feature.bit)]
    assert sorted(bits) == sorted(f"hwcap[{bit}]" for bit in range(len(HWCAPS)))


def test_levels_are_what_llvms_cpus_have() -> None:
    cpu = {
        name: {find(ARCH, feature).name for feature in features}
        for name, _, features in llvm_rows("loongarch", 22, "cpu")
    }
    assert level_features(ARCH, "loongarch64").names - {"32s"} == cpu["loongarch64"] - {"32s"}
    assert level_features(ARCH, "la64v1.0").names == cpu["generic-la64"]
    assert level_features(ARCH, "la64v1.1").names == cpu["la664"] - {"lasx", "lbt", "lvz"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_cpu_of_llvm_has_a_name_here(version: int) -> None:
    assert {find_cpu(ARCH, name) for name, _, _ in llvm_rows("loongarch", version, "cpu")} <= cpus(ARCH).keys()


# --- readings


@pytest.mark.parametrize(
    ("model", "cpu", "name"),
    [
        ("Loongson-3A5000", "la464", "LA464"),
        ("Loongson-3A5000-HV", "la464", "LA464"),
        ("Loongson-3C5000L", "la464", "LA464"),
        ("Loongson-3A6000", "la664", "LA664"),
        ("Loongson-3C6000/S", "la664", "LA664"),
        ("Loongson-3B6000", "la664", "LA664"),
        ("Loongson-3B6000M", "loongarch64", "LA364E"),
        ("Loongson-2K2000", "loongarch64", "LA364"),
        ("Loongson-9Z9999", "generic-la64", ""),
        ("-", "generic-la64", ""),
    ],
)
def test_a_model_name_is_its_cpu(model: str, cpu: str, name: str) -> None:
    detected = loongson_host("cpucfg lam ual fpu crc32", model)
    assert (detected.cpu, detected.name) == (cpu, name)


def test_both_sources_say_the_same() -> None:
    bits = [bit for bit, name in enumerate(HWCAPS) if name not in ("lsx", "lasx")]
    words = " ".join(HWCAPS[bit] for bit in bits)
    by_kernel, by_hwcap = loongson_host(words), loongson_host(hwcap=sum(1 << bit for bit in bits))
    assert by_kernel.features == by_hwcap.features
    assert {"d", "f", "lbt", "lvz", "64bit"} <= by_hwcap.features.names
    assert (by_kernel.source, by_hwcap.source) == ("/proc/cpuinfo", "AT_HWCAP")


def test_what_the_kernel_does_not_enable_is_off() -> None:
    detected = loongson_host("cpucfg lam ual fpu lsx lasx", hwcap=0b11111)
    assert "lsx" in detected.features
    assert "lasx" not in detected.features
    assert detected.level == "la64v1.0"


def test_binary_translation_is_all_three() -> None:
    assert "lbt" not in loongson_host("cpucfg lam ual fpu lbt_x86 lbt_arm").features
    assert "lbt" in loongson_host("cpucfg lam ual fpu lbt_x86 lbt_arm lbt_mips").features


def test_newer_kernels_name_more_features() -> None:
    assert {"lam_bh", "scq"} <= loongson_host("cpucfg lam lam_bh scq ual fpu lsx").features.names


@given(st.integers(0, 2**15 - 1), st.integers(0, 14))
def test_a_cleared_bit_never_adds_a_feature(hwcap: int, bit: int) -> None:
    text = "cpucfg lam ual fpu"
    assert loongson_host(text, hwcap=hwcap & ~(1 << bit)).features <= loongson_host(text, hwcap=hwcap).features


# --- recorded machines


def test_googles_recordings_have_the_features_that_google_expects() -> None:
    folder = corpora("raw/google-cpu_features/loongarch")
    names = dict(zip(map(str.upper, HWCAPS), HWCAPS, strict=True)) | {"FPU": "d"}
    files = list(folder.glob("*.json"))
    assert files
    for expected in files:
        recorded = json.loads(expected.read_text())
        detected = detect(dumps.load(str(expected.with_suffix(".cpuinfo")))[1])
        assert {names[name] for name in recorded["present"]} <= detected.features.names, expected.name
        # It expects no CPUCFG, which both files name first among the Features.
        assert {names[name] for name in recorded["absent"]} & detected.features.names == {"cpucfg"}, expected.name


def test_recorded_trees_of_util_linux_have_the_expected_level() -> None:
    folder = corpora("raw/util-linux/tests/ts/lscpu")
    for name, level in {"kvm_on_loongson_3c6000": "la64v1.0", "loongson_3a5000_hv": "la64v1.0"}.items():
        with tarfile.open(folder / "dumps" / f"loongarch-{name}.tar.gz") as tree:
            content = tree.extractfile(f"loongarch-{name}/proc/cpuinfo")
            assert content is not None
            of_kernel = detect(dumps.parse(content.read(), name)[1])
        printed = (folder.parents[1] / "expected" / "lscpu" / f"lscpu-loongarch-{name}").read_bytes()
        of_lscpu = detect(Recording(arch=ARCH, files={"lscpu": printed}))
        assert (of_kernel.cpu, of_kernel.level) == (of_lscpu.cpu, of_lscpu.level) == ("la464", level)
        assert of_kernel.features == of_lscpu.features
        assert of_kernel.cores == of_lscpu.cores
