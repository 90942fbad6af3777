"""IBM Z: the tables against LLVM and the kernel's bits; readings against recorded machines and QEMU's words."""

from __future__ import annotations

import re

import pytest
from helpers.corpora import needs_corpora
from helpers.paths import CORPUS
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding

from cpufeat import llvm_tables
from cpufeat.cpus import cpus
from cpufeat.detection import dumps, host
from cpufeat.detection.arch import s390x
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.features import FeatureSet, find, table
from cpufeat.levels import level_features, levels
from cpufeat.target import Target

ARCH = "s390x"
TRIPLE = "s390x-unknown-linux-gnu"
FEATURES = table(ARCH)
VERSIONS = llvm_tables.versions(ARCH)

BASE = "esan3 zarch stfle msa ldisp eimm dfp edat etf3eh highgprs"
KERNEL_NAMES = f"{BASE} te vx vxd vxe gs vxe2 vxp sort dflt vxp2 nnpa pcimio sie"
"""What /proc/cpuinfo calls the bits of AT_HWCAP, from bit 0 on."""
MAY_BE_WITHHELD = re.compile("message_security.*|.*_conversion|enhanced_sort|nnp_.*|transactional.*|concurrent.*")
"""What a level does without, although LLVM's CPU of its name has it."""

# AT_HWCAP and STFLE of a program under qemu-s390x 7.2 -cpu qemu
QEMU_HWCAP = 0x2B3F
QEMU_STFLE = (
    *(0, 1, 2, 3, 4, 7, 9, 16, 17, 18, 19, 21, 22, 24, 25, 27, 30, 31, 32, 33, 34, 35, 37, 40, 41, 45, 49, 51, 52, 53),
    *(57, 58, 61, 69, 71, 72, 75, 76, 77, 129, 130, 131, 135, 138, 146, 148),
)
Z14 = "0 1 2 3 4 7 17 18 19 21 22 30 37 42 44 45 48 49 50 53 57 58 66 73 76 77 78 80 129 133 134 135 144 145 146"


def cpuinfo(features: str, facilities: str = "", machine: str = "3906") -> bytes:
    """What ``show_cpuinfo`` of Linux prints."""
    lines = ["vendor_id       : IBM/S390", "# processors    : 2", f"features\t: {features}"]
    lines += [f"facilities      : {facilities}"] if facilities else []
    lines += [f"processor {n}: version = FF,  identification = 1E41E8,  machine = {machine}" for n in (0, 1)]
    return "\n".join([*lines, "", "cpu number      : 0", f"machine         : {machine}", ""]).encode()


def z_host(features: str, facilities: str = "", machine: str = "3906", **files: bytes) -> host.Host:
    recorded = {f"/proc/{name}": content for name, content in files.items()}
    content = cpuinfo(features, facilities, machine)
    return detect(Recording(arch=ARCH, files={"/proc/cpuinfo": content, **recorded}))


# --- the tables


def test_every_bit_of_the_kernel_has_its_name() -> None:
    for bit, name in enumerate(KERNEL_NAMES.split()):
        feature = find(ARCH, name)
        assert f"hwcap[{bit}]" in feature.bit.split("|")
        assert feature.spellings.get("kernel", (feature.name,)) == (name,)


def test_features_that_the_kernel_must_enable_are_read_from_the_kernel() -> None:
    for feature in FEATURES.values():
        if feature.name.startswith(("vector", "nnp")):
            assert feature.name == "vector" or "vector" in FeatureSet(ARCH, [feature.name]).closed()
    by_it_alone = {name for name in FeatureSet(ARCH, FEATURES).isa if FEATURES[name].bit.startswith("hwcap")}
    assert by_it_alone == {"vector", "guarded_storage", "transactional_execution"}


@pytest.mark.parametrize("level", levels(ARCH))
def test_levels_are_llvms_cpus_without_what_may_be_withheld(level: str) -> None:
    features = llvm_tables.cpu_features(ARCH, level)
    assert features is not None
    assert level_features(ARCH, level).names == {name for name in features.isa if not MAY_BE_WITHHELD.fullmatch(name)}


def test_every_generation_follows_the_one_before() -> None:
    known = cpus(ARCH)
    assert [row.predecessor for row in known.values()] == ["", *list(known)[:-1]]
    assert all("generic" in llvm_tables.load(ARCH, version).cpus for version in VERSIONS)


# --- LLVM


VECTOR = """
define <2 x i64> @add(<2 x i64> %a, <2 x i64> %b) {
  %sum = add <2 x i64> %a, %b
  ret <2 x i64> %sum
}
"""


@pytest.mark.parametrize(("name", "vectors"), [("zEC12", False), ("z13", True), ("z16", True), ("z16,-vector", False)])
def test_code_uses_vectors_where_the_target_has_them(name: str, vectors: bool) -> None:
    target_machine = Target.parse(name, TRIPLE).create_target_machine()
    module = binding.parse_assembly(f'target triple = "{TRIPLE}"\n{VECTOR}')
    assert ("vag" in target_machine.emit_assembly(module)) == vectors


# --- readings


def test_a_z14_has_all_features_but_those_that_only_a_query_tells() -> None:
    detected = z_host(f"{BASE} te vx vxd vxe gs sie", Z14)
    expected = llvm_tables.cpu_features(ARCH, "z14")
    assert expected is not None
    assert (detected.cpu, detected.name, detected.level, detected.cores) == (
        "z14",
        "z14",
        "z14",
        (host.Core("z14", 2),),
    )
    # Only PRNO's own query tells of the random numbers of MSA 7.
    assert set(expected) - set(detected.features) == {"message_security_assist_extension7"}
    assert detected.evidence["vector"] == "/proc/cpuinfo feature vx"
    assert detected.evidence["distinct_ops"] == "/proc/cpuinfo facility 45"


def test_vectors_that_the_kernel_has_not_enabled_are_not_usable() -> None:
    detected = z_host(BASE, Z14)
    assert (detected.cpu, detected.level) == ("z14", "zEC12")
    assert not [name for name in detected.features if name.startswith("vector")]
    assert detected.withheld["vector_enhancements_1"].reason == "not reported"


def test_without_a_list_of_facilities_only_the_kernels_features_are_usable() -> None:
    detected = z_host(f"{BASE} te vx", machine="2964")
    assert (detected.cpu, detected.level) == ("z13", "z10")
    assert set(detected.features.isa) == {"vector", "transactional_execution"}


def test_an_instruction_tells_what_the_kernel_does_not_list() -> None:
    detected = detect(Recording(arch=ARCH, auxv={16: QEMU_HWCAP}, stored=QEMU_STFLE))
    assert (detected.cpu, detected.level, detected.source) == ("z13", "z13", "AT_HWCAP")
    assert detected.evidence["vector"] == "AT_HWCAP bit 11"
    assert detected.evidence["distinct_ops"] == "STFLE bit 45"


def test_the_instruction_is_not_run_where_it_would_fault() -> None:
    detected = detect(Recording(arch=ARCH, auxv={16: QEMU_HWCAP & ~4}, stored=QEMU_STFLE))
    assert "distinct_ops" not in detected.features


@pytest.mark.parametrize(
    ("machine", "cpu"),
    [
        *[("2064", "generic"), ("2098", "z10"), ("2818", "z196"), ("2828", "zEC12"), ("2965", "z13"), ("3907", "z14")],
        *[("8562", "z15"), ("3932", "z16"), ("9175", "z17")],
    ],
)
def test_a_machine_type_is_its_cpu(machine: str, cpu: str) -> None:
    assert z_host("esan3 zarch stfle", machine=machine).cpu == cpu


@pytest.mark.parametrize(("flags", "cpu"), [("te vx vxd vxe gs", "z14"), ("te vx", "z13"), ("te", "generic")])
def test_an_unknown_machine_is_the_generation_that_its_vector_facilities_prove(flags: str, cpu: str) -> None:
    detected = z_host(f"{BASE} {flags}", machine="9999")
    assert (detected.cpu, detected.name, len(detected.decisions)) == (cpu, "", 1)
    assert "machine type 9999 is in no table" in detected.decisions[0].reason


def test_the_hypervisor_is_named() -> None:
    sysinfo = b"Type:                 2817\nVM00 Name:            R1745003\nVM00 Control Program: z/VM    6.1.0   \n"
    assert z_host("vx", sysinfo=sysinfo).hypervisor == "z/VM 6.1.0"
    assert z_host("vx", sysinfo=b"Type: 2817\nLPAR Name: R35LP37\n").hypervisor == ""


def test_lscpu_of_a_z15_is_read_as_cpuinfo_is() -> None:
    text = b"CPU(s): 4\nVendor ID: IBM/S390\nMachine type: 8561\nFlags: zarch stfle vx vxd vxe gs vxe2 vxp sort dflt\n"
    detected = detect(Recording(arch=ARCH, files={"lscpu": text}))
    assert (detected.cpu, detected.cores[0].count) == ("z15", 4)
    assert detected.evidence["enhanced_sort"] == "lscpu feature sort"


@given(st.integers(0, 2**24 - 1), st.sets(st.integers(0, 220)), st.integers(0, 220))
def test_a_bit_that_is_cleared_adds_nothing(hwcap: int, stored: set[int], bit: int) -> None:
    whole, without, less = (
        s390x.read(Recording(arch=ARCH, auxv={16: word}, stored=tuple(facilities)))
        for word, facilities in ((hwcap, stored), (hwcap & ~(1 << bit), stored), (hwcap, stored - {bit}))
    )
    for part in (without, less):
        assert not part or part[0].reported.keys() <= whole[0].reported.keys()


def test_another_architectures_cpuinfo_says_nothing() -> None:
    foreign = b"processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu te vx\nmachine\t: 2964\n"
    assert s390x.read(Recording(arch=ARCH, files={"/proc/cpuinfo": foreign})) == []


@needs_corpora
def test_recorded_machines_are_the_cpus_that_they_are_known_to_be() -> None:
    listed = [line.split("\t") for line in (CORPUS / "truth.tsv").read_text().splitlines()]
    paths = [path for path, _, arch, _ in listed if arch == ARCH]
    assert len(paths) > 8
    for path in paths:
        content = (CORPUS / path).read_text()
        detected = detect(dumps.load(str(CORPUS / path))[1])
        assert detected.name or "machine = " not in content, path  # google-cpu_features' two are cut before it
        assert not detected.decisions or not detected.name, path
        flags = content.partition("features")[2].partition("\n")[0].split()[1:]
        assert {find(ARCH, flag).name for flag in flags} <= set(detected.features), path
