"""RISC-V: the tables against LLVM, ISA strings by the specification, readings against recorded machines."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter

import pytest
from helpers.corpora import corpora
from helpers.llvm_data import llvm_rows
from hypothesis import example, given
from hypothesis import strategies as st

from cpufeat import llvm_tables, tables
from cpufeat.cpus import cpu_features, cpus, find_cpu
from cpufeat.decisions import DIFFERS, STATE_OFF
from cpufeat.detection import dumps, host
from cpufeat.detection.arch.identity import Model
from cpufeat.detection.detect import detect
from cpufeat.detection.probe.isa_string import extensions
from cpufeat.detection.recording import Recording
from cpufeat.errors import CpufeatError
from cpufeat.features import HARDWARE, find, implied, table
from cpufeat.levels import level_features

ARCH = "riscv64"
FEATURES = table(ARCH)
VERSIONS = llvm_tables.versions(ARCH)
STATES = {state: shown for state, shown, *_ in tables.rows("riscv/states.tsv")}
AT_HWCAP = 16
IMAFDCV = sum(1 << ord(letter) - ord("a") for letter in "imafdcv")

PROMISES = {"za128rs", "za64rs", "zic64b", "ziccamoa", "ziccif", "zicclsm", "ziccrse"}
"""What the profiles demand without an instruction, and levels.tsv leaves out."""

TOGETHER = {frozenset("fd"), frozenset("ima")}
"""Features that one bit of riscv_hwprobe announces together: IMA_FD, BASE_BEHAVIOR_IMA."""

# <asm/hwprobe.h> of Linux 7.2
NAMED_BITS = {3: 1, 4: 64, 11: 1, 13: 4, 14: 1, 16: 6}

VISIONFIVE2 = """\
processor\t: 0
hart\t\t: 3
isa\t\t: rv64imafdc_zicntr_zicsr_zifencei_zihpm_zba_zbb
mmu\t\t: sv39
uarch\t\t: sifive,u74-mc
mvendorid\t: 0x489
marchid\t\t: 0x8000000000000007
mimpid\t\t: 0x4210427
"""


def cpuinfo(*isas: str, after: str = "") -> bytes:
    return "".join(f"processor\t: {n}\nhart\t\t: {n}\nisa\t\t: {isa}\n{after}\n" for n, isa in enumerate(isas)).encode()


def riscv_host(
    *isas: str, after: str = "", hwcap: int | None = None, probes: dict[int, int] | None = None
) -> host.Host:
    files = {"/proc/cpuinfo": cpuinfo(*isas, after=after)} if isas else {}
    auxv = {} if hwcap is None else {AT_HWCAP: hwcap}
    return detect(Recording(arch=ARCH, files=files, auxv=auxv, probes=probes or {}))


def ours(names: list[str]) -> set[str]:
    return {find(ARCH, name).name for name in names}


# --- the tables


@pytest.mark.parametrize("version", VERSIONS)
def test_features_that_llvm_does_not_compare_are_no_hardware_features(version: int) -> None:
    for name, class_, _ in llvm_rows("riscv", version, "feature"):
        assert class_ == "isa" or name in ("32bit", "64bit") or find(ARCH, name).kind not in HARDWARE, name


TAKEN_BACK: dict[int, dict[str, set[str]]] = {
    17: {"experimental-zvknhb": {"zvknha"}, "xtheadfmemidx": {"f", "zicsr"}},
    18: {"xtheadfmemidx": {"f", "zicsr"}},
}
"""What an LLVM takes a feature to imply, and later ones do not."""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_feature_implies_at_least_what_llvm_says(version: int) -> None:
    rows = llvm_rows("riscv", version, "feature")
    short = {name: ours(others) - implied(ARCH, find(ARCH, name).name) for name, _, others in rows}
    assert {name: lacking for name, lacking in short.items() if lacking} == TAKEN_BACK.get(version, {})


def test_closure_goes_beyond_the_newest_llvm_only_where_that_aborts_otherwise() -> None:
    newest = {find(ARCH, name).name: ours(others) for name, _, others in llvm_rows("riscv", VERSIONS[-1], "feature")}
    beyond = {name: set(FEATURES[name].implies) - others for name, others in newest.items()}
    assert {name: extra for name, extra in beyond.items() if extra} == {
        "zvl32b": {"zve32x", "zicsr"},
        "xsfvfbfexp16e": {"zvfbfmin"},
    }


def test_bits_are_well_formed_and_name_rows_above() -> None:
    above = {"riscv64", "riscv32"}
    for feature in FEATURES.values():
        for term in re.split(r"[&|]", feature.bit):
            assert re.fullmatch(r"(hwprobe\d+|hwcap)\[\d+\]|", term) or term in above, feature.name
        above.add(feature.name)
    assert {feature.state for feature in FEATURES.values() if feature.state} == STATES.keys()


def test_every_bit_that_the_kernel_names_is_in_one_row() -> None:
    claims: dict[str, set[str]] = {}
    for feature in FEATURES.values():
        for bit in re.findall(r"hwprobe\d+\[\d+\]", feature.bit):
            claims.setdefault(bit, set()).add(feature.name)
    assert claims.keys() == {f"hwprobe{key}[{bit}]" for key, count in NAMED_BITS.items() for bit in range(count)}
    assert {frozenset(names) for names in claims.values() if len(names) > 1} == TOGETHER


def test_no_two_rows_claim_a_spelling() -> None:
    spellings = [pair for feature in FEATURES.values() for pair in feature.spellings.items()]
    claims = Counter((system, name) for system, names in spellings for name in names)
    assert [claim for claim, count in claims.items() if count > 1 and claim[1] != "!"] == []


@pytest.mark.parametrize("level", ["rva20u64", "rva22u64", "rva23u64"])
@pytest.mark.parametrize("version", [20, 22])
def test_levels_are_llvms_profiles_without_promises_about_the_platform(level: str, version: int) -> None:
    (has,) = (ours(features) for name, _, features in llvm_rows("riscv", version, "feature") if name == level)
    # LLVM 20 does not let C imply Zca, nor a length of vectors follow from V.
    assert has - level_features(ARCH, level).names <= PROMISES
    more = set() if version == 22 else {"zca", "zvl128b", "zvl64b", "zvl32b"}
    assert level_features(ARCH, level).names - has <= more | {"zcd"}, "Zcd is C and D"


def test_every_row_is_the_first_to_match_its_own_models() -> None:
    models = [Model(*row) for row in tables.rows("riscv/models.tsv") if row[6]]
    for row in models:
        for vendor in row.vendor.split(","):
            for model in row.model.split(","):
                assert cpu_features(ARCH, row.cpu), row
                number = None if model == "*" else int(model, 0)
                core = "" if row.core == "*" else row.core
                marked = f"mvendorid\t: {vendor}\n" if vendor.startswith("0x") else ""
                marked += f"marchid\t\t: {number:#x}\n" if number is not None else ""
                marked += f"uarch\t\t: {core}\n" if core else ""
                probes = {3: 1, 4: 0b111} if row.requires else {}
                detected = riscv_host("rv64imafdc", after=marked, probes=probes)
                assert (detected.stands_for or detected.cpu, detected.name) == (row.cpu, row.name), row


@pytest.mark.parametrize("version", VERSIONS)
def test_every_cpu_of_llvm_has_a_name_here(version: int) -> None:
    for name, _, _ in llvm_rows("riscv", version, "cpu"):
        assert find_cpu(ARCH, name) in cpus(ARCH)


# --- ISA strings


@pytest.mark.parametrize(
    ("isa", "names"),
    [
        ("rv64imafdc", "i m a f d c"),
        ("RV32IMAC", "i m a c"),
        ("rv64gc", "g i m a f d c zicsr zifencei"),
        ("rv64i2p1m2a2p1f2d2c2", "i m a f d c"),
        ("rv64i_m_a_zba_zbb", "i m a zba zbb"),
        ("rv64imac_zicsr2p0_zvl128b1p0_zve32x1p0_zic64b_sstc", "i m a c zicsr zvl128b zve32x zic64b sstc"),
        ("rv64imaczicsr_xtheadba1p0_smstateen", "i m a c zicsr xtheadba smstateen"),
        ("rv64ip_zba", "i p zba"),
        ("rv64imafdc zicntr zicsr", "i m a f d c zicntr zicsr"),
        ("rv64imafdcv_zve64d", "i m a f d c v zve64d"),
        ("rv64imafdcv", "i m a f d c"),
        ("mips64r2", ""),
        ("", ""),
    ],
)
def test_isa_strings_are_read_by_the_naming_conventions(isa: str, names: str) -> None:
    assert extensions(isa) == set(names.split())


def test_privilege_modes_of_old_strings_are_no_extensions() -> None:
    assert FEATURES.keys() & extensions("rv64imafdcsu") == set("imafdc")
    assert FEATURES.keys() & extensions("rv64imafdcvsu") == set("imafdc")


@given(st.text(alphabet="rv64imafdcgsxzbp_0123456789 \n\u0664", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    assert all(name and name[-1] not in "0123456789_" for name in extensions("rv64" + text))


# --- readings


def test_a_letter_implies_its_parts() -> None:
    detected = riscv_host("rv64imafdc")
    assert detected.features.names == {*"imafdc", "64bit", "zmmul", "zaamo", "zalrsc", "zca", "zcd", "zicsr"}
    assert detected.level == "rv64gc"
    assert detected.evidence["d"] == "/proc/cpuinfo isa d"
    assert detected.evidence["zicsr"] == "f by /proc/cpuinfo isa f"


def test_all_parts_of_an_extension_imply_it() -> None:
    detected = riscv_host("rv64imafdc_zba_zbb_zbs_zbkb_zbkc_zbkx_zkne_zknd_zknh_zkt")
    assert {"b", "zkn"} <= detected.features.names
    assert not {"zk", "zks"} & detected.features.names


def test_hwprobe_alone_tells_cpu_and_features() -> None:
    probes = {0: 0x710, 1: 0x8000000058000001, 2: 0, 3: 1, 4: 0b111111}
    detected = riscv_host(probes=probes)
    assert (detected.source, detected.cpu, detected.name) == ("riscv_hwprobe", "spacemit-x60", "SpacemiT X60")
    assert {"v", "zve64d", "zvl128b", "b", "d"} <= detected.features.names
    assert detected.evidence["zba"] == "riscv_hwprobe key 4 bit 3"


@pytest.mark.parametrize(("core", "cpu"), [("sifive,u54-mc", "sifive-u54"), ("andestech,ax45mp", "andes-ax45")])
@pytest.mark.parametrize("maker", ["0x1cf", "0x489", "0x0", ""])
def test_a_cores_own_name_counts_whoever_made_the_chip(core: str, cpu: str, maker: str) -> None:
    """Microchip's PolarFire SoC has SiFive's U54 under Microchip's mvendorid."""
    marked = f"uarch\t\t: {core}\n" + (f"mvendorid\t: {maker}\nmarchid\t\t: 0x1\n" if maker else "")
    assert riscv_host("rv64imafdc", after=marked).cpu == cpu


def test_harts_of_two_classes_are_tuned_for_the_cores_for_all_work_whichever_come_first() -> None:
    """SpacemiT's K3: eight X100, and eight A100 for matrices, which one stand-in of LLVM 22 has to do for."""
    harts = [f"hart\t\t: 0\nisa\t\t: rv64imafdcv_zba\nuarch\t\t: spacemit,{core}\n\n" for core in ("a100", "x100")]
    for first, second in (harts, reversed(harts)):
        content = f"processor\t: 0\n{first}processor\t: 1\n{second}".encode()
        detected = detect(Recording(arch=ARCH, files={"/proc/cpuinfo": content}))
        assert (detected.cpu, detected.stands_for, detected.name) == ("spacemit-x60", "spacemit-x100", "SpacemiT X100")
        assert [core.stands_for for core in detected.cores] == ["spacemit-x100", "spacemit-a100"]


def test_vectors_of_a_core_of_thead_are_the_draft_in_whatever_chip() -> None:
    marked = "uarch\t\t: thead,c906\nmvendorid\t: 0x123\nmarchid\t\t: 0x0\n"
    assert "v" not in riscv_host("rv64imafdcv_zicsr", after=marked).features


def test_identity_that_differs_between_harts_is_none() -> None:
    detected = riscv_host(probes={0: 2**64 - 1, 1: 2**64 - 1, 2: 2**64 - 1, 3: 1, 4: 3})
    assert (detected.vendor, detected.model, detected.cpu) == ("", None, "generic-rv64")


def test_the_auxiliary_vector_alone_tells_the_letters() -> None:
    detected = riscv_host(hwcap=IMAFDCV)
    assert detected.source == "AT_HWCAP"
    assert {*"imafdc"} <= detected.features.names
    assert "v" not in detected.features, "T-Head's kernels set that bit for the draft"


def test_the_answers_of_all_sources_are_united() -> None:
    detected = riscv_host("rv64imafdc_zifencei_sstc", hwcap=IMAFDCV, probes={3: 1, 4: 0b1011})
    assert {"zifencei", "zba", "sstc"} <= detected.features.names


def test_vectors_that_the_kernel_does_not_save_are_withheld() -> None:
    isa = "rv64imafdcv_zve64d_zvbb"
    assert "zvbb" in riscv_host(isa).features, "a dump: Linux takes out what it does not save"
    assert "zvbb" in riscv_host(isa, hwcap=IMAFDCV).features
    detected = riscv_host(isa, hwcap=IMAFDCV & ~(1 << 21))
    assert not {"v", "zve32x", "zvbb", "zvl128b"} & detected.features.names
    assert detected.withheld["zve32x"].reason == STATE_OFF
    assert "zvbb" not in riscv_host(isa, probes={3: 1, 4: 3}).features
    assert "d" not in riscv_host(isa, hwcap=0).features


def test_cache_block_instructions_need_hwprobe() -> None:
    isa = "rv64imafdc_zicbom_zicbop_zicboz"
    detected = riscv_host(isa, hwcap=IMAFDCV)
    assert "zicbop" in detected.features, "prefetches are hints"
    assert [detected.withheld[name].reason for name in ("zicbom", "zicboz")] == [STATE_OFF, STATE_OFF]
    assert "zicboz" in riscv_host(isa, probes={3: 1, 4: 1 << 6 | 3}).features


def test_thead_draft_of_vectors_is_not_v() -> None:
    isa = "rv64imafdcv_zicsr"
    assert "v" not in riscv_host(isa, after="mvendorid\t: 0x5b7\nmarchid\t\t: 0x0\n").features
    assert "v" not in riscv_host(isa, after="uarch\t\t: thead,c910\n").features
    assert "v" in riscv_host(isa, after="mvendorid\t: 0x5b7\nmarchid\t\t: 0x80000000090c0d00\n").features


def test_harts_that_differ_share_what_all_of_them_run() -> None:
    u74 = "mvendorid\t: 0x489\nmarchid\t\t: 0x8000000000000007\n"
    detected = riscv_host("rv64imafdc", "rv64imafdc_zba", "rv64imafdc_zba", after=u74)
    assert [(core.cpu, core.count) for core in detected.cores] == [("sifive-u74", 3)]
    assert "zba" not in detected.features
    assert detected.withheld["zba"].reason == DIFFERS


def test_the_harts_own_string_counts() -> None:
    hart = "hart isa\t: rv64imafdc_zba\n"
    assert "zba" in riscv_host("rv64imafdc", after=hart).features


def test_a_board_with_all_extensions_of_rva23_is_rva23u64() -> None:
    everything = sum(1 << bit for bit in range(63))
    detected = riscv_host("rv64imafdcv_zicsr", hwcap=IMAFDCV, probes={3: 1, 4: everything})
    assert detected.level == "rva23u64"
    assert riscv_host("rv64imafdcv_zicsr", probes={3: 1, 4: everything & ~(1 << 43 | 1 << 44)}).level == "rva22u64"


@given(st.integers(0, 2**64 - 1), st.integers(0, 63), st.integers(0, 2**22 - 1), st.integers(0, 21))
def test_a_cleared_bit_never_adds_a_feature(extensions: int, bit: int, hwcap: int, letter: int) -> None:
    isa = "rv64imafdcv_zicsr_zba_zicbom"
    all_set = riscv_host(isa, hwcap=hwcap, probes={3: 1, 4: extensions}).features
    assert riscv_host(isa, hwcap=hwcap, probes={3: 1, 4: extensions & ~(1 << bit)}).features <= all_set
    assert riscv_host(isa, hwcap=hwcap & ~(1 << letter), probes={3: 1, 4: extensions}).features <= all_set
    assert riscv_host(isa, hwcap=hwcap & ~(1 << letter)).features <= riscv_host(isa, hwcap=hwcap).features


@given(st.integers(0, 200))
@example(len("processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdcv_zfhmin_zvfh"))
def test_a_text_cut_short_never_adds_a_feature(length: int) -> None:
    whole = cpuinfo("rv64imafdcv_zfhmin_zvfhmin_zvksed_zksed_zba", after="mmu\t\t: sv39\n")
    features = detect(Recording(arch=ARCH, files={"/proc/cpuinfo": whole})).features
    try:
        cut = detect(Recording(arch=ARCH, files={"/proc/cpuinfo": whole[:length]})).features
    except CpufeatError:
        return
    assert cut <= features


def test_lscpu_and_cpuinfo_give_the_same_host() -> None:
    of_kernel = detect(Recording(arch=ARCH, files={"/proc/cpuinfo": VISIONFIVE2.encode()}))
    lscpu = """\
Architecture:        riscv64
CPU(s):              1
On-line CPU(s) list: 0
Vendor ID:           0x489
Model name:          sifive,u74-mc
CPU family:          0x8000000000000007
Model:               0x4210427
ISA:                 rv64imafdc zicntr zicsr zifencei zihpm zba zbb
"""
    detected = detect(dumps.parse(lscpu.encode(), "lscpu")[1])
    assert detected.features == of_kernel.features
    assert (detected.cpu, detected.stepping, detected.level) == (of_kernel.cpu, of_kernel.stepping, "rva20u64")


# --- recorded machines


def test_recorded_machines_are_the_cpus_that_they_are_known_to_be() -> None:
    cases = corpora("cases")
    listed = [line.split("\t") for line in (cases / "truth.tsv").read_text().splitlines()]
    named = [(path, truth.split("|")) for path, _, arch, truth in listed if arch == ARCH]
    cpu_of = {path: detect(dumps.load(str(cases / path))[1]).cpu for path, _ in named}
    assert len(cpu_of) >= 7
    assert {path: cpu_of[path] for path, truth in named if cpu_of[path] not in truth and truth != ["-"]} == {}


def test_googles_recordings_have_the_features_that_google_expects() -> None:
    names = {"RV64I": "64bit", "RV32I": "32bit", **{letter: letter.lower() for letter in "MAFDQCV"}}
    folder = corpora("raw/google-cpu_features/riscv")
    files = list(folder.glob("*.json"))
    assert files
    for expected in files:
        recorded = json.loads(expected.read_text())
        detected = detect(dumps.load(str(expected.with_suffix(".cpuinfo")))[1])
        assert {names[name] for name in recorded["present"]} <= detected.features.names, expected.name
        assert not {names[name] for name in recorded["absent"]} & detected.features.names, expected.name


def test_recorded_trees_of_util_linux_have_the_expected_cpu_and_level() -> None:
    folder = corpora("raw/util-linux/tests/ts/lscpu/dumps")
    expected = {
        "rv64-linux": ("sifive-u74", "rv64gc"),
        "rv64-visionfive2": ("sifive-u74", "rva20u64"),
        "rv64-milkvpioneer": ("generic-rv64", "rv64gc"),
    }
    for name, answer in expected.items():
        with tarfile.open(folder / f"{name}.tar.gz") as tree:
            content = tree.extractfile(f"{name}/proc/cpuinfo")
            assert content is not None
            detected = detect(dumps.parse(content.read(), name)[1])
        assert (detected.cpu, detected.level) == answer
        assert "v" not in detected.features, "the SG2042's vectors are the draft 0.7.1"
