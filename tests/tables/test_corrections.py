"""The rows of corrections.tsv: where hardware, manuals and GCC say something else than LLVM's tables."""

from __future__ import annotations

import pytest

from cpufeat import llvm_tables, tables
from cpufeat.cpus import correction, cpu_features, cpus, find_cpu
from cpufeat.features import FeatureSet, find
from cpufeat.levels import levels
from cpufeat.target import Target

ARCH_OF = {**tables.families(), "riscv": "riscv64"}
ROWS = tables.rows("corrections.tsv")
WITHDRAWN = {"amx_transpose": "Intel withdrew it before there was such a CPU: 319433-058"}


def by_llvm(family: str, cpu: str) -> FeatureSet | None:
    """What the newest LLVM that knows a CPU says."""
    arch = ARCH_OF[family]
    answers = (llvm_tables.cpu_features(arch, cpu, version) for version in reversed(llvm_tables.versions(arch)))
    return next((features for features in answers if features is not None), None)


def test_every_correction_corrects_something_and_says_who_says_so() -> None:
    assert len(ROWS) > 50
    assert len({(family, cpu) for family, cpu, *_ in ROWS}) == len(ROWS), "one row for each CPU"
    for family, cpu, has, lacks, source in ROWS:
        arch = ARCH_OF[family]
        assert find_cpu(arch, cpu) == cpu, f"{cpu} is no name of {family}/cpus.tsv"
        before = by_llvm(family, cpu) or cpu_features(arch, cpus(arch)[cpu].predecessor)
        for name in (*has.split(), *lacks.split()):
            assert find(arch, name).name == name, f"{cpu}: {name} is a spelling, not the name of the row"
        assert not before & FeatureSet(arch, has.split()), f"{cpu} has some of {has} without the correction"
        assert FeatureSet(arch, lacks.split()) <= before, f"{cpu} lacks some of {lacks} without the correction"
        assert source
        after = cpu_features(arch, cpu)
        assert after == after.closed()
        assert FeatureSet(arch, has.split()) <= after
        assert not after & FeatureSet(arch, lacks.split())


@pytest.mark.parametrize("family", ARCH_OF)
def test_what_newer_llvms_dropped_is_kept_for_the_cpus_that_have_it(family: str) -> None:
    """KNL's AVX512ER and 3DNow!: LLVM forgot the feature, the CPU did not."""
    arch = ARCH_OF[family]
    every = [llvm_tables.load(arch, version) for version in llvm_tables.versions(arch)]
    lost = []
    for cpu in cpus(arch).keys() - levels(arch).keys():
        knowing = [llvm for llvm in every if cpu in llvm.cpus]
        claimed: dict[str, bool] = {}
        for llvm in knowing:
            has = llvm.cpu_features(cpu)
            claimed |= {name: has is not None and name in has.names for name in _features(llvm)}
        last = FeatureSet(arch, [name for name, is_claimed in claimed.items() if is_claimed and name not in WITHDRAWN])
        missing = last.without(correction(arch, cpu).lacks.split()) - cpu_features(arch, cpu)
        lost += [f"{cpu}: {name}" for name in missing]
    assert not lost, f"the last LLVM that knew these features gave them to these CPUs: add to corrections.tsv {lost}"


def _features(llvm: llvm_tables.Llvm) -> set[str]:
    """The ISA features that an LLVM knows, by cpufeat's names."""
    features = [find(llvm.arch, name) for name in llvm.implied]
    return {feature.name for feature in features if feature.kind == "isa"}


@pytest.mark.parametrize(
    ("request_", "triple", "has", "lacks"),
    [
        ("a64fx", "aarch64", "sve fullfp16 complxnum sha2", "aes crypto"),
        ("cortex-a72", "aarch64", "crc", "aes sha2"),
        ("cortex-a72+aes", "aarch64", "aes crc", "sha2"),
        ("neoverse-v1", "aarch64", "sve rand", "aes sha2 sha3 sm4"),
        ("apple-m1", "aarch64", "aes sha2 sha3", ""),
        ("cortex-a53", "armv8l", "neon", "aes sha2"),
        ("oryon-1", "aarch64", "aes", "rand"),
        ("k8-sse3", "x86_64", "sse3 3dnowa", "cx16"),
        ("amdfam10", "x86_64", "mmx 3dnowa sse4a", ""),
        ("amdfam10", "i686", "mmx 3dnowa sse4a", ""),
        ("knl", "x86_64", "avx512er avx512pf prefetchwt1 avx512cd", "avx512vl"),
        ("lunarlake", "x86_64", "sha512 uintr", "enqcmd"),
        ("diamondrapids", "x86_64", "amx_fp8", "amx_transpose"),
        ("c7", "i686", "sse3 mmx", "64bit ssse3 3dnow"),
        ("esther", "i686", "sse3", ""),
        ("eden-x2", "x86_64", "sse3 sahf", "ssse3"),
        ("nano-2000", "x86_64", "ssse3", "sse4_1"),
        ("nano-x4", "x86_64", "sse4_1", "sse4_2"),
        ("lujiazui", "x86_64", "sse4_2 bmi2 rdseed aes", "avx f16c"),
        ("shijidadao", "x86_64", "avx2 fma sha adx", "avx512f"),
        ("pwr5", "ppc64", "fsqrt mfocrf", "altivec"),
        ("pwr6", "ppc64", "altivec", "vsx"),
    ],
)
def test_a_cpu_has_what_it_has_whatever_llvm_says(request_: str, triple: str, has: str, lacks: str) -> None:
    target = Target.parse(request_, triple)
    assert FeatureSet(target.arch, has.split()) <= target.features
    assert not target.features & FeatureSet(target.arch, lacks.split())


@pytest.mark.parametrize(
    ("request_", "triple", "version", "signed"),
    [
        ("knl", "x86_64", 14, "+avx512er +avx512pf +prefetchwt1"),
        ("k6-2", "i686", 15, "+3dnow -3dnowa"),
        ("k8-sse3", "x86_64", 22, "-cx16 +sse3"),
        ("a64fx", "aarch64", 14, "-aes +sha2 +sve"),
        ("a64fx", "aarch64", 22, "-aes +sha2 +sve"),
        ("nano-3000", "x86_64", 22, "+sse4.1 -sse4.2 +sahf"),
    ],
)
def test_each_llvm_is_told(request_: str, triple: str, version: int, signed: str) -> None:
    written = Target.parse(request_, triple).llvm_features(version).split(",")
    assert set(signed.split()) <= set(written)


def test_an_llvm_is_not_told_of_what_it_dropped() -> None:
    assert "avx512er" not in Target.parse("knl", "x86_64").llvm_features(22)
