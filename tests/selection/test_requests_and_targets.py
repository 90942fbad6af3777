"""Requests, targets and what a host grants."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import operator
import os
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
from helpers.llvm_data import features_of
from helpers.machines import AMD, INTEL, machine
from hypothesis import given
from hypothesis import strategies as st

import cpufeat
from cpufeat import llvm_tables
from cpufeat.cpus import can_run, correction, cpu_features, cpus
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.features import FeatureSet, table
from cpufeat.levels import levels
from cpufeat.request import parse
from cpufeat.tables import architectures
from cpufeat.target import Target

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = llvm_tables.versions("x86_64")


@pytest.fixture
def haswell() -> cpufeat.Host:
    return detect(machine(INTEL, 6, 60, features_of("haswell")))


@pytest.fixture
def sapphire_rapids() -> cpufeat.Host:
    return detect(machine(INTEL, 6, 143, features_of("sapphirerapids")))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CPUFEAT_TARGET", "CPUFEAT_DISABLE", "CPUFEAT_MACHINE"):
        monkeypatch.delenv(name, raising=False)


# --- requests


@pytest.mark.parametrize(
    ("text", "base", "changes"),
    [
        ("native", "native", ""),
        ("host", "native", ""),
        ("+avx2", "native", "+avx2"),
        ("-avx512f,+fma", "native", "-avx512f +fma"),
        ("haswell,+avx512f,-fma", "haswell", "+avx512f -fma"),
        ("haswell+avx512f-fma", "haswell", "+avx512f -fma"),
        ("skylake-avx512-avx512vnni", "skylake-avx512", "-avx512vnni"),
        ("skylake_avx512", "skylake-avx512", ""),
        ("x86-64-v3+avx512_vnni-amx-int8", "x86-64-v3", "+avx512vnni -amx_int8"),
        ("x86_64_v3", "x86-64-v3", ""),
        ("X86-64-V2 , +SSE4.2", "x86-64-v2", "+sse4_2"),
        ("zen4", "znver4", ""),
        ("corei7-avx", "sandybridge", ""),
        ("core-avx2", "haswell", ""),
        ("icelake-server,+prefer-256-bit", "icelake-server", "+prefer_256_bit"),
    ],
)
def test_a_request_is_parsed_into_a_base_and_changes(text: str, base: str, changes: str) -> None:
    request = parse(text, "x86_64")
    spelled = " ".join(sign + feature.name for sign, feature in request.changes)
    assert (_same_cpu(request.base), spelled) == (_same_cpu(base), changes)


def _same_cpu(cpu: str) -> object:
    features = llvm_tables.load("x86_64").cpu_features(cpu)
    return features if features else cpu


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("haswel", "unknown x86 CPU 'haswel'; did you mean haswell"),
        ("haswell,+avx9", "unknown x86 feature 'avx9'"),
        ("haswell+avx9", "unknown x86 feature 'avx9'"),
        ("haswell,avx2", "where [+]FEATURE or -FEATURE is expected"),
        ("haswell,+", "a sign without a feature"),
        ("haswell,znver4", "where [+]FEATURE"),
        ("neoverse-v2", "unknown x86 CPU 'neoverse-v2', which is one of aarch64$"),
        ("rva22u64", "unknown x86 CPU 'rva22u64', which is one of riscv$"),
        ("haswell+sve2", "unknown x86 feature 'sve2', which is one of aarch64"),
        ("haswell-asimd", "unknown x86 feature 'asimd', which is one of aarch64$"),
    ],
)
def test_an_invalid_request_raises(text: str, message: str) -> None:
    with pytest.raises(cpufeat.CpufeatError, match=message):
        parse(text, "x86_64")


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9-]{1,12}([,+-][a-z0-9.+-]{0,9}){0,4}", fullmatch=True))
def test_any_text_is_a_request_or_an_error(text: str) -> None:
    try:
        request = parse(text, "x86_64")
    except cpufeat.CpufeatError as error:
        assert str(error)
    else:
        assert request.base


# --- targets


def test_a_32_bit_cpu_is_no_base_for_64_bit_code() -> None:
    with pytest.raises(cpufeat.TargetError, match="pentium3 is no 64-bit CPU"):
        Target.parse("pentium3", "x86_64")


@pytest.mark.parametrize("arch", [row.arch for row in architectures()])
def test_no_cpu_is_given_features_that_it_lacks(arch: str) -> None:
    """RISC-V's sifive-s51 has no floating point. LLVM's generic x86 is a 386 in its table, and no 64-bit code is."""
    runs = [cpu for cpu in cpus(arch) if can_run(arch, cpu) and (arch, cpu) != ("x86_64", "generic")]
    assert len(runs) >= 4
    for cpu in runs:
        assert Target.parse(cpu, arch).features == cpu_features(arch, cpu), cpu


def test_risc_v_code_can_do_without_floating_point() -> None:
    for request in ("sifive-s51", "rocket-rv64", "rv64gc,-f"):
        target = Target.parse(request, "riscv64")
        assert not target.features.names & {"f", "d"}
        assert {"-f", "-d", "+64bit"} <= set(target.llvm_features().split(","))
        assert target.level == ""
        assert target < Target.parse("rva22u64,+zifencei", "riscv64")
    with pytest.raises(cpufeat.TargetError, match="riscv64 code cannot do without 64bit"):
        Target.parse("rv64gc,-64bit", "riscv64")


@pytest.mark.parametrize("arch", [row.arch for row in architectures()])
def test_every_cpu_and_level_has_what_its_features_add_up_to(arch: str) -> None:
    """RISC-V's b is zba, zbb and zbs, AArch64's crypto is aes and sha2: detection says so, and so do targets."""
    for cpu in (*levels(arch), *(cpu for cpu in cpus(arch) if can_run(arch, cpu))):
        features = Target.parse(cpu, arch).features
        assert features == features.closed() == features.completed(), cpu


@pytest.mark.parametrize(
    ("request_", "triple", "has", "lacks"),
    [
        ("rv64gc", "riscv64", "zcd", "b"),
        ("rv64gc,+zba,+zbb,+zbs", "riscv64", "zcd b", "zkn"),
        ("rv64gc,+zvbc,+zvkn", "riscv64", "zvknc", "zvks"),
        ("rv64gc,-d", "riscv64", "f zca", "zcd d"),
        ("sifive-p450,-b", "riscv64", "zba zbb zbs zcd", "b"),
        ("sifive-p450,-zba", "riscv64", "zbb zbs zcd", "b zba"),
        ("cortex-a53+aes+sha2", "aarch64", "crypto", "sha3"),
        ("apple-m1", "aarch64", "crypto sha3", ""),
        ("apple-m1,-aes", "aarch64", "sha2", "crypto aes"),
        ("armv8-a,+crypto", "aarch64", "aes sha2", ""),
        ("armv9-a,+sve_bitperm", "aarch64", "sve2_bitperm", "sve2_aes"),
    ],
)
def test_a_request_has_what_its_features_add_up_to_unless_it_says_no(
    request_: str, triple: str, has: str, lacks: str
) -> None:
    target = Target.parse(request_, triple)
    assert FeatureSet(target.arch, has.split()) <= target.features
    assert not target.features & FeatureSet(target.arch, lacks.split())


@pytest.mark.parametrize(
    ("recorded", "requests"),
    [
        (
            Recording(
                arch="riscv64",
                files={"/proc/cpuinfo": b"processor : 0\nhart : 0\nisa : rv64imafdc_zicsr_zifencei_zba_zbb_zbs_zvbc\n"},
                auxv={16: 0x112D},
            ),
            ("rv64gc", "rv64gc,+zba,+zbb,+zbs", "rv64gc,+b", "sifive-u74"),
        ),
        (
            Recording(arch="aarch64", auxv={16: 0x1FB, 26: 0}),
            ("armv8-a,+crypto", "cortex-a72+aes+sha2"),
        ),
        (
            Recording(
                arch="aarch64",
                system="darwin",
                libc="",
                sysctls={
                    "hw.cputype": 0x0100000C,
                    **{
                        f"hw.optional.arm.{name}": 1
                        for name in ("AdvSIMD", "FEAT_AES", "FEAT_PMULL", "FEAT_SHA1", "FEAT_SHA256", "FEAT_CRC32")
                    },
                    "hw.optional.floatingpoint": 1,
                },
            ),
            ("armv8-a,+crypto", "armv8-a+aes+sha2"),
        ),
    ],
)
def test_a_host_runs_what_its_features_add_up_to(recorded: Recording, requests: tuple[str, ...]) -> None:
    host = detect(recorded)
    assert host.features == host.features.completed()
    assert host.features.names <= host.evidence.keys()
    for request in requests:
        assert Target.parse(request, host.triple) <= host, request


def test_a_target_without_a_host_cannot_be_native() -> None:
    with pytest.raises(cpufeat.TargetError, match="relative to a host"):
        Target.parse("+avx2")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_attribute_string_is_explicit_and_closed(version: int) -> None:
    known = llvm_tables.load("x86_64", version)
    for cpu in cpus("x86_64"):
        features = known.cpu_features(cpu)
        if features is None or "64bit" not in features:
            continue
        signed = Target.parse(f"{cpu},-avx2", "x86_64").llvm_features(version).split(",")
        on = {name[1:] for name in signed if name[0] == "+"}
        assert {name[1:] for name in signed} == set(known.implied)
        assert all(set(known.implied[name].split()) <= on for name in on)
        assert "avx512f" not in on
        assert "avx2" not in on


def test_a_name_that_an_llvm_does_not_know_becomes_its_predecessor() -> None:
    target = Target.parse("znver5")
    assert (target.llvm_cpu(22), target.llvm_cpu(15), target.llvm_cpu(14)) == ("znver5", "znver3", "znver3")
    for version in VERSIONS:
        known = llvm_tables.load("x86_64", version)
        for cpu in cpus("x86_64"):
            assert Target("x86_64-unknown-linux-gnu", cpu, FeatureSet("x86_64")).llvm_cpu(version) in known.cpus


def test_a_version_without_a_table_has_the_nearest_and_a_newer_one_is_said_once() -> None:
    oldest, newest = (llvm_tables.load("x86_64", VERSIONS[index]) for index in (0, -1))
    assert llvm_tables.load("x86_64", 11) == oldest
    target = Target.parse("x86-64-v4")
    with pytest.warns(cpufeat.CpufeatWarning, match="no table of LLVM 97 yet: these are the names of LLVM 22") as said:
        assert target.llvm_features(97) == target.llvm_features(VERSIONS[-1])
        assert target.llvm_cpu(97) == target.llvm_cpu(VERSIONS[-1])
        Target.parse("cortex-a72", "aarch64").llvm_features(97)
    assert [(warning.filename, newest.version) for warning in said] == [(__file__, 22)]


def test_an_llvm_is_given_the_names_of_its_own_time() -> None:
    v4, hopper = Target.parse("x86-64-v4"), Target.parse("neoverse-v2", "aarch64")
    assert [version for version in VERSIONS if "+evex512" in v4.llvm_features(version)] == [18, 19, 20, 21, 22]
    assert {version: hopper.llvm_cpu(version) for version in (14, 15, 16)} == {
        14: "neoverse-n2",
        15: "neoverse-n2",
        16: "neoverse-v2",
    }
    zicond = Target.parse("rva23u64", "riscv64")
    named = {version: {f"+{prefix}zicond" for prefix in ("", "experimental-")} for version in VERSIONS}
    known = {version: named[version] & set(zicond.llvm_features(version).split(",")) for version in VERSIONS}
    assert known[16] == set()
    assert known[17] == {"+experimental-zicond"}
    assert known[18] == {"+zicond"}


def test_the_newest_llvm_that_knows_a_cpu_says_what_it_has() -> None:
    newest, oldest = (llvm_tables.load("x86_64", VERSIONS[index]) for index in (-1, 0))
    uncorrected = [cpu for cpu in newest.cpus if cpu in cpus("x86_64") and not correction("x86_64", cpu).source]
    assert len(uncorrected) > 60
    assert all(cpu_features("x86_64", cpu) == newest.cpu_features(cpu) for cpu in uncorrected)
    assert any(newest.cpu_features(cpu) != oldest.cpu_features(cpu) for cpu in oldest.cpus)


def test_targets_are_ordered_by_what_runs_on_what() -> None:
    v2, v3, v4 = (Target.parse(f"x86-64-v{number}") for number in (2, 3, 4))
    assert v2 < v3 < v4
    assert not v3 <= v2
    alder, zen = Target.parse("alderlake"), Target.parse("znver4")
    assert not alder <= zen
    assert not zen <= alder
    both = alder & zen
    assert both <= alder
    assert both <= zen
    assert v3 <= both
    assert both.cpu == "x86-64-v3"
    assert v4 & v3 == v3
    assert len({v2, v3, Target.parse("x86-64-v2")}) == 2


def test_what_runs_on_both_keeps_the_smaller_ones_cpu_and_the_common_options() -> None:
    small, large = Target.parse("haswell,+prefer-256-bit,+retpoline"), Target.parse("skylake,+prefer-256-bit")
    assert (small & large).cpu == (large & small).cpu == "haswell"
    assert (small & large).options == (large & small).options == ("+prefer_256_bit",)


def test_what_runs_on_two_of_one_cpu_is_tuned_for_it() -> None:
    """Oryon's RNDR never succeeds, and Linux shows what LLVM does not know of: two sets, one CPU."""
    for cpu, one, other in (("oryon-1", "-bti", "-ecv"), ("haswell", "-bmi2", "-rdrnd,+sha")):
        arch = "aarch64" if cpu == "oryon-1" else "x86_64"
        both = Target.parse(f"{cpu},{one}", arch) & Target.parse(f"{cpu},{other}", arch)
        assert both.cpu == cpu
    assert (Target.parse("alderlake") & Target.parse("znver4")).cpu == "x86-64-v3"


def test_a_target_runs_where_the_host_has_its_architecture_and_features(haswell: cpufeat.Host) -> None:
    assert Target.parse("x86-64-v3").runs_on(haswell)
    assert not Target.parse("x86-64-v4").runs_on(haswell)
    assert set(Target.parse("x86-64-v4").missing_on(haswell)) >= {"avx512f", "avx512vl"}
    assert not Target.parse("i686", "i686-unknown-linux-gnu").runs_on(haswell)


def test_an_llvm_is_not_given_options_that_it_does_not_know() -> None:
    target = Target.parse("x86-64-v3,+no-bypass-delay")
    assert target.llvm_features(VERSIONS[-1]).endswith(",+no-bypass-delay")
    assert "no-bypass-delay" not in target.llvm_features(VERSIONS[0])


def test_the_versions_of_llvm_are_in_order_and_the_newest_is_the_default() -> None:
    assert list(VERSIONS) == sorted(set(VERSIONS))
    assert llvm_tables.newest() == VERSIONS[-1] == llvm_tables.load("x86_64").version
    assert llvm_tables.cpu_features("x86_64", "znver5") == llvm_tables.cpu_features("x86_64", "znver5", VERSIONS[-1])
    assert llvm_tables.cpu_features("x86_64", "znver5", VERSIONS[0]) is None


def test_targets_compare_without_tuning() -> None:
    plain, tuned = Target.parse("x86-64-v4"), Target.parse("x86-64-v4,+prefer-256-bit")
    assert plain <= tuned <= plain
    assert tuned.llvm_features(22) == plain.llvm_features(22) + ",+prefer-256-bit"


def test_targets_of_other_systems_do_not_mix() -> None:
    linux, windows = Target.parse("x86-64-v2"), Target.parse("x86-64-v2", "x86_64-pc-windows-msvc")
    assert not linux <= windows
    with pytest.raises(cpufeat.TargetError, match="no code runs on both"):
        _ = linux & windows


def test_a_host_stands_for_its_triple_cpu_and_features(haswell: cpufeat.Host) -> None:
    v2, v3, v4 = (Target.parse(f"x86-64-v{number}") for number in (2, 3, 4))
    same = Target.of(haswell)
    assert (same.triple, same.cpu, same.features) == (haswell.triple, "haswell", haswell.features)
    assert v2 < haswell
    assert v3 <= haswell
    assert haswell > v2
    assert haswell >= v3
    assert not v4 <= haswell
    assert not haswell <= v3
    assert haswell <= same <= haswell
    assert not same < haswell
    assert not same > haswell
    assert v4 & haswell == haswell & v4 == v4 & same
    assert v4 & haswell <= haswell
    assert v3 & haswell == v3


def test_a_host_of_another_system_shares_no_code_with_a_target(haswell: cpufeat.Host) -> None:
    windows = Target.parse("x86-64-v2", "x86_64-windows-gnu")
    assert windows.runs_on(haswell), "it has the features"
    assert not windows <= haswell
    assert not haswell >= windows
    with pytest.raises(cpufeat.TargetError, match="no code runs on both"):
        _ = haswell & windows


def test_two_hosts_are_compared_and_combined_as_targets(haswell: cpufeat.Host, sapphire_rapids: cpufeat.Host) -> None:
    for operation in (operator.le, operator.ge, operator.lt, operator.gt, operator.and_):
        with pytest.raises(TypeError, match=r"two hosts make no target: write Target[.]of\(host\)"):
            operation(haswell, sapphire_rapids)  # type: ignore[arg-type]
    assert Target.of(haswell) & sapphire_rapids == Target.of(haswell) & Target.of(sapphire_rapids)


@pytest.mark.parametrize("other", [None, 5, "x86-64-v3", frozenset(("avx",))])
def test_a_target_is_compared_and_combined_with_targets_and_hosts_alone(other: object) -> None:
    target = Target.parse("x86-64-v3")
    for operation in (operator.le, operator.ge, operator.lt, operator.gt, operator.and_):
        for pair in ((target, other), (other, target), (target.features, other), (other, target.features)):
            with pytest.raises(TypeError, match=r"not supported between|unsupported operand"):
                operation(*pair)


@pytest.mark.parametrize(
    ("alone", "triple"),
    [
        ("aarch64", "aarch64-unknown-linux-gnu"),
        ("arm64", "aarch64-unknown-linux-gnu"),
        ("armv7l", "armv7-unknown-linux-gnueabihf"),
        ("x86_64", "x86_64-unknown-linux-gnu"),
    ],
)
def test_an_architecture_alone_is_that_of_linux(alone: str, triple: str) -> None:
    name = "generic" if alone != "x86_64" else "x86-64"
    assert Target.parse(name, alone) == Target.parse(name, triple)
    assert Target.parse(name, alone).triple == triple


@pytest.mark.parametrize(
    ("recorded", "request_", "triple"),
    [
        (Recording(arch="x86_64", system="linux", libc="gnu"), "haswell", "x86_64-unknown-linux-gnu"),
        (Recording(arch="x86_64", system="linux", libc="musl"), "x86-64-v3,-avx2", "x86_64-unknown-linux-musl"),
        (Recording(arch="x86_64", system="linux", libc="musl"), "pentium3", "i686-unknown-linux-gnu"),
        (Recording(arch="i686", system="linux", libc="gnu"), "haswell", "i686-unknown-linux-gnu"),
        (Recording(arch="x86_64", system="linux", libc="gnu"), "cortex-a72", "aarch64-unknown-linux-gnu"),
        (Recording(arch="x86_64", system="linux", libc="gnu"), "armv8.2-a+sve", "aarch64-unknown-linux-gnu"),
        (Recording(arch="armv7l", system="linux", libc="gnu"), "cortex-a72", "armv7-unknown-linux-gnueabihf"),
        (Recording(arch="aarch64", system="darwin", libc="", version="14.5.0"), "apple-m1", "arm64-apple-macosx14.5.0"),
        (
            Recording(arch="aarch64", system="darwin", libc="", version="14.5.0"),
            "x86-64-v3",
            "x86_64-unknown-linux-gnu",
        ),
        (Recording(arch="x86_64", system="windows", libc="msvc"), "znver4", "x86_64-pc-windows-msvc"),
        (Recording(arch="x86_64", system="windows", libc="msvc"), "cortex-a9", "arm-unknown-linux-gnueabihf"),
        (Recording(arch="x86_64", system="linux", libc="gnu"), "sifive-e31", "riscv32-unknown-linux-gnu"),
        (Recording(arch="mips64", system="linux", libc="gnu"), "rva22u64", "riscv64-unknown-linux-gnu"),
    ],
)
def test_the_default_triple_is_this_machines_or_of_the_cpus_architecture(
    recorded: Recording, request_: str, triple: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "machine.json"
    path.write_text(recorded.to_json())
    monkeypatch.setenv("CPUFEAT_MACHINE", str(path))
    assert Target.parse(request_).triple == triple
    assert Target.parse(request_) == Target.parse(request_, triple)


def test_a_name_of_several_architectures_needs_a_triple() -> None:
    for request in ("generic", "generic,+avx2"):
        with pytest.raises(cpufeat.TargetError, match=r"several architectures [(]x86, aarch64, arm, .*give a triple"):
            Target.parse(request)
    assert Target.parse("generic", "aarch64").level == "armv8-a"


def test_the_parts_of_a_target_fit_together() -> None:
    v3 = Target.parse("x86-64-v3")
    for triple, features, options, error, message in (
        ("aarch64-linux-gnu", v3.features, (), cpufeat.TargetError, "is not a triple of x86_64"),
        ("z80-linux-gnu", v3.features, (), cpufeat.UnknownNameError, "unknown architecture 'z80'"),
        ("z80", v3.features, (), cpufeat.UnknownNameError, "unknown architecture 'z80'"),
        ("", v3.features, (), cpufeat.UnknownNameError, "unknown architecture ''"),
        (v3.triple, v3.features, ("+avx2",), cpufeat.TargetError, "'[+]avx2' is not"),
        (v3.triple, v3.features, ("retpoline",), cpufeat.UnknownNameError, "etpoline"),
        (v3.triple, v3.features, ("",), cpufeat.UnknownNameError, "unknown x86 feature ''"),
    ):
        with pytest.raises(error, match=message):
            Target(triple, "haswell", features, options)
    assert Target(v3.triple, "haswell", v3.features, ("+prefer-256-bit",)).options == ("+prefer_256_bit",)


# --- keys


KEY = "x86_64-linux-gnu-5501ea838a8982640941ea50575c9e09"
"""Of ``x86-64,+retpoline``."""
SAME_CODE = ["znver4,+prefer-256-bit", "znver4,-prefer-256-bit", "znver4", "znver4,-invpcid"]


@st.composite
def targets(draw: st.DrawFn) -> Target:
    request = draw(st.sampled_from(["x86-64-v2", "x86-64-v3", "haswell", "znver2"]))
    changes = st.sampled_from(
        [
            "+avx512f",
            "-avx2",
            "-fma",
            "-pku",
            "-invpcid",
            "+retpoline",
            "+prefer-256-bit",
            "-retpoline",
            "+harden-sls-ret",
        ]
    )
    triple = draw(st.sampled_from(["x86_64", "x86_64-pc-linux-gnu", "x86_64-linux-musl", "x86_64-windows-gnu"]))
    return Target.parse(",".join([request, *sorted(draw(st.lists(changes, max_size=3, unique=True)))]), triple)


@given(targets(), targets())
def test_two_targets_have_one_key_exactly_when_they_may_share_code(one: Target, other: Target) -> None:
    def other_code(target: Target) -> set[str]:
        return {option for option in target.options if table("x86_64")[option[1:]].kind != "tuning"}

    share = one <= other <= one and other_code(one) == other_code(other)
    assert (one.key == other.key) == share
    assert one.key == Target.from_json(one.to_json()).key


def test_a_key_is_the_one_that_is_documented() -> None:
    assert len({Target.parse(request).key for request in SAME_CODE}) == 1
    target = Target.parse("x86-64,+retpoline,+prefer-256-bit", "x86_64-pc-linux-gnu")
    lines = ["x86_64-linux-gnu", *sorted(target.features.isa), "+retpoline"]
    assert target.key == "x86_64-linux-gnu-" + hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
    assert target.key == KEY, "keys change only when LLVM renames a feature: caches of users are lost"


def test_a_key_is_the_same_in_every_process() -> None:
    code = "import cpufeat; print(cpufeat.Target.parse('x86-64,+retpoline').key)"
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True)
        assert ran.stdout.decode().strip() == KEY


def test_a_target_is_read_back_from_its_json() -> None:
    target = Target.parse("znver4,-avx512f,+prefer-256-bit")
    assert Target.from_json(target.to_json()) == target
    for text in (
        "",
        "[]",
        "{}",
        "null",
        target.to_json().replace("znver4", "znver400"),
        target.to_json().replace('"avx2",', ""),
    ):
        with pytest.raises(cpufeat.TargetError, match="not the JSON of a target"):
            Target.from_json(text)


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=4)), st.text()
)
def test_any_json_is_a_target_or_an_error(value: object, text: str) -> None:
    good = json.loads(Target.parse("x86-64-v2").to_json())
    for bad in [text, *(json.dumps({**good, key: value}) for key in good)]:
        with contextlib.suppress(cpufeat.TargetError):
            assert Target.from_json(bad)


# --- a host's answer


def test_native_is_the_host(haswell: cpufeat.Host) -> None:
    resolution = cpufeat.resolve(host=haswell)
    assert resolution.target.cpu == "haswell"
    assert resolution.target.features == haswell.features
    assert resolution.target.runs_on(haswell)
    assert not resolution.decisions


def test_what_the_host_lacks_is_dropped_with_one_warning(haswell: cpufeat.Host) -> None:
    with pytest.warns(cpufeat.CpufeatWarning) as caught:
        resolution = cpufeat.resolve("skylake-avx512", host=haswell)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "avx512f: not reported (CPUID 7.0:EBX[16] is 0)" in str(caught[0].message)
    assert resolution.target.cpu == "skylake-avx512"
    assert resolution.target.level == "x86-64-v3"
    assert {"avx512f", "avx512bw", "adx"} <= resolution.dropped.keys()
    assert "avx2" not in resolution.dropped
    assert resolution.target.runs_on(haswell)


def test_missing_features_raise_when_asked_to(haswell: cpufeat.Host) -> None:
    with pytest.raises(cpufeat.MissingFeaturesError, match="x86-64-v4 needs what this host cannot run") as raised:
        cpufeat.resolve("x86-64-v4", host=haswell, on_missing="error")
    assert raised.value.missing.keys() >= {"avx512f", "avx512vl"}
    assert "avx2" not in raised.value.missing
    assert cpufeat.resolve("x86-64-v3", host=haswell, on_missing="error").target.level == "x86-64-v3"
    with pytest.raises(cpufeat.OptionError, match="on_missing must be one of 'fallback', 'error', not 'ignore'"):
        cpufeat.resolve(host=haswell, on_missing="ignore")  # type: ignore[arg-type]


def test_a_removal_takes_along_what_depends_on_it_and_says_so(haswell: cpufeat.Host) -> None:
    resolution = cpufeat.resolve("haswell,-avx", host=haswell)
    assert not resolution.target.features.names & {"avx", "avx2", "fma", "f16c"}
    assert {d.subject for d in resolution.decisions if d.kind == "removed"} == {"avx2", "fma", "f16c"}
    assert resolution.target.level == "x86-64-v2"


def test_what_llvm_gives_a_cpu_that_lacks_it_is_a_decision() -> None:
    host = detect(machine(AMD, 15, 65, features_of("k8-sse3") | {"3dnow", "3dnowa"}))
    (lacking,) = cpufeat.resolve("k8-sse3", host=host).decisions
    assert (lacking.kind, lacking.subject) == ("removed", "cx16")
    assert "AMD 25481" in lacking.evidence
    asked = cpufeat.resolve("k8-sse3,+cx16", host=host)
    assert not asked.decisions
    assert "cx16" in asked.target.features


def test_amx_is_granted_when_asked_for(sapphire_rapids: cpufeat.Host) -> None:
    assert "amx_tile" not in cpufeat.resolve(host=sapphire_rapids).target.features
    resolution = cpufeat.resolve("native,+amx-int8", host=sapphire_rapids)
    assert {"amx_tile", "amx_int8"} <= resolution.target.features.names
    assert "amx_bf16" not in resolution.target.features
    (tile, int8) = [decision for decision in resolution.decisions if decision.kind == "permission"]
    assert (tile.subject, int8.subject) == ("amx_tile", "amx_int8")
    assert "arch_prctl" in tile.evidence
    assert not resolution.target.runs_on(sapphire_rapids)


def test_amx_in_a_cpus_name_is_not_a_request_for_it(sapphire_rapids: cpufeat.Host) -> None:
    with pytest.warns(cpufeat.CpufeatWarning, match="amx_tile: needs a permission"):
        resolution = cpufeat.resolve("sapphirerapids", host=sapphire_rapids)
    assert "amx_tile" not in resolution.target.features


def test_cpufeat_target_replaces_native(haswell: cpufeat.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPUFEAT_TARGET", "x86-64-v2")
    resolution = cpufeat.resolve(host=haswell)
    assert (resolution.target.cpu, resolution.request) == ("x86-64-v2", "x86-64-v2")
    assert resolution.decisions[0].kind == "environment"
    assert resolution.decisions[0].evidence == "CPUFEAT_TARGET"
    assert cpufeat.resolve("native", host=haswell).target.cpu == "haswell"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CPUFEAT_TARGET", "haswel", "^CPUFEAT_TARGET: unknown x86 CPU 'haswel'; did you mean haswell"),
        ("CPUFEAT_TARGET", "haswell,avx2", "^CPUFEAT_TARGET: 'haswell,avx2': 'avx2' stands where"),
        ("CPUFEAT_TARGET", "i486", "^CPUFEAT_TARGET: i486 is no 64-bit CPU"),
        ("CPUFEAT_TARGET", "znver4", "^CPUFEAT_TARGET=znver4 needs what this host cannot run"),
        ("CPUFEAT_DISABLE", "avx22", "^CPUFEAT_DISABLE: unknown x86 feature 'avx22'"),
    ],
)
def test_an_error_names_the_variable_whose_value_caused_it(
    haswell: cpufeat.Host, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(cpufeat.CpufeatError, match=message) as raised:
        cpufeat.resolve(host=haswell, on_missing="error")
    assert str(copy.copy(raised.value)) == str(raised.value)
    if variable == "CPUFEAT_TARGET":
        monkeypatch.setenv(variable, "nosuch")
        cpufeat.resolve("haswell", host=haswell)


def test_a_warning_names_the_variable_that_asked_for_too_much(
    haswell: cpufeat.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPUFEAT_TARGET", "znver4")
    with pytest.warns(cpufeat.CpufeatWarning, match="^CPUFEAT_TARGET=znver4: left out what this host cannot run"):
        cpufeat.resolve(host=haswell)


def test_cpufeat_disable_only_removes_features(haswell: cpufeat.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPUFEAT_DISABLE", "fma, AVX2 avx512f")
    resolution = cpufeat.resolve(host=haswell)
    assert not resolution.target.features.names & {"fma", "avx2"}
    assert "avx" in resolution.target.features
    assert {d.subject for d in resolution.decisions if d.kind == "environment"} == {"fma", "avx2"}
    assert {d.evidence for d in resolution.decisions} == {"CPUFEAT_DISABLE"}
    assert {resolution.host.why_missing(name).evidence for name in ("fma", "avx2")} == {"CPUFEAT_DISABLE"}
    with pytest.warns(cpufeat.CpufeatWarning, match="fma: disabled by the user"):
        cpufeat.resolve("+fma", host=haswell)
    monkeypatch.setenv("CPUFEAT_DISABLE", "avx3")
    with pytest.raises(cpufeat.UnknownNameError, match="avx3"):
        cpufeat.resolve(host=haswell)


def test_a_disabled_feature_and_what_depends_on_it_have_reasons_of_their_own(
    haswell: cpufeat.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPUFEAT_DISABLE", "avx bmi")
    reasons = {decision.subject: decision.reason for decision in cpufeat.resolve(host=haswell).decisions}
    assert reasons.pop("avx") == reasons.pop("bmi") == "disabled by the user"
    assert reasons.keys() >= {"avx2", "fma", "f16c"}
    assert set(reasons.values()) == {"disabled by the user, it depends on avx"}


def test_disabling_what_the_host_lacks_changes_nothing(haswell: cpufeat.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPUFEAT_DISABLE", "avx512f")
    resolution = cpufeat.resolve(host=haswell)
    assert (resolution.host, resolution.decisions) == (haswell, ())


def test_a_removal_names_the_feature_that_was_removed(haswell: cpufeat.Host) -> None:
    removed = {decision.subject: decision for decision in cpufeat.resolve("haswell,-avx", host=haswell).decisions}
    assert removed["avx2"].reason == "depends on avx, which was removed"
    assert removed["avx2"].evidence == "haswell,-avx"
    assert "avx" not in removed
    again = cpufeat.resolve("haswell,-avx,+avx", host=haswell)
    assert "avx" in again.target.features
    assert {decision.subject for decision in again.decisions} == {"avx2", "fma", "f16c"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("native,-avx2,+avx512f", "removes avx2 and then asks for avx512f, which cannot do without it"),
        ("haswell,-avx,+avx2,+fma", "removes avx and then asks for avx2 and fma, which cannot do without it"),
        ("+avx512f,-avx2,+avx512bw", "removes avx2 and then asks for avx512f and avx512bw, which"),
    ],
)
def test_what_a_request_removes_does_not_come_back(request_: str, message: str, haswell: cpufeat.Host) -> None:
    with pytest.raises(cpufeat.TargetError, match=message):
        cpufeat.resolve(request_, host=haswell)


@pytest.mark.parametrize("request_", ["", " ", ",", "\t,\n"])
def test_an_empty_request_is_none(request_: str, haswell: cpufeat.Host) -> None:
    for resolve in (cpufeat.resolve, cpufeat.target_for_host, Target.parse):
        with pytest.raises(cpufeat.TargetError, match="request is empty: name a level or a CPU, or native"):
            resolve(request_)


def test_the_last_change_to_a_feature_counts() -> None:
    assert "avx2" in Target.parse("haswell,-avx2,+avx2").features
    assert "avx2" not in Target.parse("haswell,+avx2,-avx2").features
    assert Target.parse("haswell,-avx,+avx").features & Target.parse("haswell").features == (
        Target.parse("haswell,-avx2,-fma,-f16c").features
    )


def test_options_are_the_changes_that_are_no_hardware_features() -> None:
    text = "haswell,-prefer-256-bit,+avx512f,-fma,+prefer-256-bit,+retpoline"
    assert Target.parse(text).options == ("+prefer_256_bit", "+retpoline")
    assert parse(text, "x86_64").options == ("+prefer_256_bit", "+retpoline")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (cpufeat.UnknownNameError("x86 feature", "avz", ("avx", "avx2")), "did you mean avx or avx2?"),
        (cpufeat.UnknownNameError("x", "y", ("a", "b", "c")), "did you mean a or b or c?"),
        (cpufeat.UnknownNameError("x", "y", ("a", "b", "c", "d")), "known are a, b, c, d"),
    ],
)
def test_few_names_are_suggestions_and_more_are_all_there_are(error: cpufeat.UnknownNameError, message: str) -> None:
    assert str(error).endswith(message)


@given(
    st.sampled_from(["native", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4", "graniterapids"]),
    st.lists(st.tuples(st.sampled_from("+-"), st.sampled_from(sorted(table("x86_64")))), max_size=6),
)
def test_whatever_is_asked_runs_on_the_host(base: str, changes: list[tuple[str, str]]) -> None:
    zen = detect(machine(AMD, 25, 0x11, features_of("znver4")))
    request = ",".join([base, *(sign + name for sign, name in changes)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cpufeat.CpufeatWarning)
        try:
            target = cpufeat.resolve(request, host=zen).target
        except cpufeat.TargetError:
            assert any(sign == "-" for sign, _ in changes)
            return
    assert target.runs_on(zen)
    assert target.features == target.features.closed()
    last = {name: sign for sign, name in changes}
    assert not [name for name in target.features if last.get(name) == "-"]


def test_the_target_for_this_machine_is_kept_and_runs_here() -> None:
    target = cpufeat.target_for_host()
    assert target is cpufeat.target_for_host()
    assert target.runs_on(cpufeat.detect())


def test_a_recorded_machine_takes_this_ones_place(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "machine.json"
    path.write_text(machine(INTEL, 6, 60, features_of("haswell")).to_json())
    monkeypatch.setenv("CPUFEAT_MACHINE", str(path))
    cpufeat.target_for_host()
    assert cpufeat.resolve().target.cpu == "haswell", "it looks at the machine, whatever target_for_host() has kept"
    monkeypatch.setenv("CPUFEAT_MACHINE", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="none"):
        cpufeat.resolve()


@pytest.mark.parametrize("request_", ["znver5,-64bit", "x86-64,-sse2", "native-cmov"])
def test_x86_64_code_needs_the_baseline(request_: str, haswell: cpufeat.Host) -> None:
    with pytest.raises(cpufeat.TargetError, match="x86_64 code cannot do without"):
        cpufeat.resolve(request_, host=haswell)
