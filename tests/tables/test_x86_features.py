"""The hand-kept x86 tables against what others say: LLVM's own tables, archspec, GCC, the kernel."""

from __future__ import annotations

import platform
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from archspec.cpu.schema import CPUID_JSON, TARGETS_JSON
from helpers.llvm_data import llvm_rows
from helpers.requirements import tool, unavailable
from llvmlite import binding

from cpufeat import llvm_tables, tables
from cpufeat.errors import UnknownNameError
from cpufeat.features import Feature, FeatureSet, find, implied, table
from cpufeat.support.conditions import written

if TYPE_CHECKING:
    from collections.abc import Iterable

ARCH = "x86_64"
FEATURES = table(ARCH)
VERSIONS = llvm_tables.versions(ARCH)
LEVELS = {level: added.split() for level, _, added in tables.rows("x86/levels.tsv")}
BITS = Counter(feature.bit for feature in FEATURES.values() if feature.bit)

TERM = r"[0-9A-F]+\.[0-9A-F]+:E[ABCD]X\[(\d+|\d+-\d+)\](>=\d+)?"

ONE_BIT = [
    {"64bit", "nopl"},
    {"sse4_2", "crc32"},
    {"avx512f", "evex512"},
    {"egpr", "push2pop2", "ppx"},
    {"ndd", "ccmp", "nf", "cf", "zu"},
    {"prfchw", "3dnow"},
]
"""Features that one CPUID bit announces together."""

MORE_THAN_NEWEST_LLVM = {"avx512f": {"evex512"}, "avx512fp16": {"avx512dq", "avx512vl"}}
"""Implications that LLVM 20 had and 22 has not: kept, so that one closed set is closed for every version."""

TUNING_THAT_LLVM_INLINES_BY = {"ermsb", "fsrm", "prefer_legacy_setcc", "prefer_no_gather", "prefer_no_scatter"}
"""Flags on what is fast that LLVM's check of callers and callees compares all the same."""

NEWER_THAN_GCC_12 = {
    13: "amx-complex amx-fp16 avxifma avxneconvert avxvnniint8 cmpccxadd prefetchi raoint",
    14: "avx10.1 avxvnniint16 evex512 sha512 sm3 sm4 usermsr",
    15: "amx-avx512 amx-fp8 amx-movrs amx-tf32 amx-transpose avx10.2 movrs",
}
"""Options by the GCC that brought them (its release notes)."""
GONE_FROM_GCC = {15: "avx512er avx512pf prefetchwt1", 16: "amx-transpose evex512"}
GCC_ONLY = {"avx5124fmaps", "avx5124vnniw", "hle", "mwait", "sse4"}
"""GCC's options for instructions that LLVM never had, or for two features at once."""

ARCHSPEC_ONLY = {"flush_l1d", "tsc_adjust"}
"""Facts about the system that archspec counts as features of a microarchitecture."""


def llvm_names(version: int) -> list[str]:
    return [name for name, _, _ in llvm_rows("x86", version, "feature")]


def ours(names: Iterable[str]) -> set[str]:
    return {find(ARCH, name).name for name in names}


def unknown(names: Iterable[str]) -> set[str]:
    return {name for name in names if not is_known(name)}


def is_known(name: str) -> bool:
    try:
        find(ARCH, name)
    except UnknownNameError:
        return False
    return True


def level(name: str) -> FeatureSet:
    names = list(LEVELS)
    return FeatureSet(ARCH, (added for above in names[: names.index(name) + 1] for added in LEVELS[above])).closed()


def known_by(feature: Feature) -> str | None:
    """How one learns that hardware has a feature; None for what is no fact about hardware."""
    if feature.kind in ("tuning", "codegen"):
        return None
    if feature.name in LEVELS["x86-64"]:
        return "baseline"
    if not feature.bit:
        return "undetectable"
    return "set" if BITS[feature.bit] > 1 else "detectable"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_llvm_feature_is_classed(version: int) -> None:
    assert unknown(llvm_names(version)) == set()
    contradicted, undetectable = set(), set()
    for name, class_, _ in llvm_rows("x86", version, "feature"):
        feature = find(ARCH, name)
        compared = class_ == "isa" and feature.kind != "codegen" and feature.name not in TUNING_THAT_LLVM_INLINES_BY
        if compared != (known_by(feature) is not None):
            contradicted.add(name)
        if known_by(feature) == "undetectable":
            undetectable.add(name)
    assert contradicted == set()
    assert undetectable == set()


def test_the_features_are_those_of_the_llvms_with_a_table() -> None:
    assert FEATURES.keys() == set().union(*(ours(llvm_names(version)) for version in VERSIONS))


TAKEN_BACK = {"aes", "pclmul", "vaes", "vpclmulqdq"}
"""What AVX10.1 implied in LLVM 18 and 19, and no more in LLVM 20.1.8: Intel's manual lists them apart."""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_feature_implies_at_least_what_llvm_says(version: int) -> None:
    short = {}
    for name, _, llvm_implies in llvm_rows("x86", version, "feature"):
        too_much = TAKEN_BACK if name.startswith("avx10.1") and version in (18, 19) else set()
        lacking = ours(llvm_implies) - implied(ARCH, find(ARCH, name).name) - too_much
        if lacking:
            short[name] = lacking
    assert short == {}


def test_closure_goes_beyond_the_newest_llvm_only_where_listed() -> None:
    newest: dict[str, set[str]] = {}
    for version in VERSIONS:
        newest |= {find(ARCH, name).name: ours(names) for name, _, names in llvm_rows("x86", version, "feature")}
    beyond = {}
    for feature in FEATURES.values():
        extra = set(feature.implies) - newest[feature.name]
        if extra:
            beyond[feature.name] = extra
    assert beyond == MORE_THAN_NEWEST_LLVM


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", LEVELS)
def test_a_level_has_the_features_that_llvm_gives_it(name: str, version: int) -> None:
    features = {cpu: features for cpu, _, features in llvm_rows("x86", version, "cpu")}
    assert name in features, f"data/x86/levels.tsv has a level that LLVM {version} does not know: {name}"
    assert level(name) == FeatureSet(ARCH, ours(features[name])).closed()


def test_rows_are_well_formed() -> None:
    states = {row[0] for row in tables.rows("x86/states.tsv")}
    assert {feature.kind for feature in FEATURES.values()} == {"isa", "privileged", "codegen", "tuning"}
    assert {feature.state for feature in FEATURES.values() if feature.state} == states
    for feature in FEATURES.values():
        assert re.fullmatch(rf"({TERM}([&|]{TERM})*)?", feature.bit), feature.name
        assert set(feature.implies) <= FEATURES.keys(), feature.name


def test_a_feature_needs_the_state_of_what_it_depends_on() -> None:
    bits = {state: set(xcr0.split()) for state, xcr0, *_ in tables.rows("x86/states.tsv")} | {"": set()}
    for feature in FEATURES.values():
        needed = set().union(*(bits[FEATURES[other].state] for other in implied(ARCH, feature.name)))
        assert needed == bits[feature.state], feature.name


def test_bits_are_shared_only_where_listed() -> None:
    together: dict[str, set[str]] = {}
    for feature in FEATURES.values():
        for terms in feature.condition.alternatives:
            together.setdefault(written(terms), set()).add(feature.name)
    assert [names for names in together.values() if len(names) > 1] == ONE_BIT


def test_no_two_rows_claim_a_spelling() -> None:
    claims: dict[tuple[str, str], set[str]] = {}
    for feature in FEATURES.values():
        first = next(map(written, feature.condition.alternatives), feature.name)
        for system, spellings in feature.spellings.items():
            for spelling in {*spellings} - {"!", feature.name}:
                claims.setdefault((system, spelling), set()).add(first)
    assert [claim for claim, bits in claims.items() if len(bits) > 1] == [], "one flag cannot tell two bits apart"
    read_elsewhere = {spelling: system for system, spelling in claims if spelling in FEATURES}
    assert read_elsewhere == {"sse4_2": "kernel", "avx512f": "kernel", "3dnow": "kernel"}


# --- archspec


def test_every_feature_of_archspec_is_known() -> None:
    ones = [
        target
        for target in TARGETS_JSON["microarchitectures"].values()
        if target["vendor"] in ("GenuineIntel", "AuthenticAMD")
    ]
    assert unknown(name for target in ones for name in target["features"]) == ARCHSPEC_ONLY


def test_archspec_has_the_same_cpuid_bits() -> None:
    compared = 0
    for leaf in CPUID_JSON["flags"] + CPUID_JSON["extension-flags"]:
        for bit in leaf["bits"]:
            if not is_known(bit["name"]):
                continue
            feature = find(ARCH, bit["name"])
            if not feature.bit or feature.name == "pku":  # archspec's PKU is the CPU's bit, ours the operating system's
                continue
            where = f"{leaf['input']['eax']:X}.{leaf['input']['ecx']:X}:{bit['register'].upper()}[{bit['bit']}]"
            # 80000001:EDX repeats much of 1:EDX on AMD (APM volume 3, E.4.2).
            ours = set(map(written, feature.condition.alternatives))
            assert ours & {where, where.replace("80000001.0:EDX", "1.0:EDX")}, bit["name"]
            compared += 1
    assert compared > 60


# --- GCC


def gcc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("gcc"), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def gnu_gcc() -> None:
    """Skip where gcc is not GNU's, or not for x86-64."""
    says = gcc("-v").stderr
    if "Target: x86_64" not in says or "gcc version" not in says:
        unavailable("GNU's gcc for x86-64", "apt-get install gcc")


@pytest.mark.usefixtures("gnu_gcc")
def test_gcc_options_are_known() -> None:
    assert unknown(re.findall(r"^  -m(\S+) +Support ", gcc("--help=target").stdout, re.M)) <= GCC_ONLY


@pytest.mark.usefixtures("gnu_gcc")
def test_gcc_takes_our_spellings(tmp_path: Path) -> None:
    major = int(gcc("-dumpversion").stdout.split(".")[0])
    absent = {name for since, names in NEWER_THAN_GCC_12.items() if since > major for name in ours(names.split())}
    absent |= {name for since, names in GONE_FROM_GCC.items() if since <= major for name in ours(names.split())}
    source = tmp_path / "empty.c"
    source.touch()
    spelled = {find(ARCH, name).name: name for version in VERSIONS for name in reversed(llvm_names(version))}
    for feature in FEATURES.values():
        if feature.kind not in ("isa", "privileged"):
            continue
        (spelling,) = feature.spellings.get("gcc", (spelled[feature.name],))
        option = "-m" + (spelling if spelling != "!" else spelled[feature.name])
        taken = gcc(option, "-fsyntax-only", str(source)).returncode == 0
        assert taken == (spelling != "!" and feature.name not in absent), feature.name


# --- this machine


def test_kernel_flags_agree_with_llvm() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"^flags\s*:(.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.M)
    if match is None or platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 Linux with /proc/cpuinfo")
    flags = set(match.group(1).split())
    by_llvm = {find(ARCH, name).name: has for name, has in binding.get_host_cpu_features().items()}
    shown = {name for name in by_llvm if not flags.isdisjoint(FEATURES[name].spellings.get("kernel", (name,)))}
    has = {name for name in by_llvm if by_llvm[name]}
    assert shown <= has
    # The kernel hides what it has not enabled (shstk) or distrusts (rdseed of an early Zen 5), but nothing of a level.
    assert has - shown <= FEATURES.keys() - set(level("x86-64-v4"))
