"""The generated LLVM tables: equal to what the installed LLVM says, consistent, and true to outside facts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cpufeat import tables

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = ROOT / "tools" / "llvm_tables.py"
VERSIONS = (14, 15, 20, 22)

# System V ABI, AMD64 supplement, "Micro-Architecture Levels", in LLVM's spelling. FPU is x87, OSFXSR is fxsr's, and
# OSXSAVE is what the kernel does with xsave. SCE (SYSCALL) is a part of 64bit for LLVM.
PSABI_ADDS = {
    "x86-64": {"cmov", "cx8", "x87", "fxsr", "mmx", "sse", "sse2"},
    "x86-64-v2": {"cx16", "sahf", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"},
    "x86-64-v3": {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
# What LLVM names apart although the psABI does not: 64-bit mode and the NOPs of any x86-64, SSE4.2's CRC32.
LLVM_ADDS = {"x86-64": {"64bit", "nopl"}, "x86-64-v2": {"crc32"}, "x86-64-v3": set(), "x86-64-v4": set()}


class LlvmTable:
    """One version's table, by kind."""

    def __init__(self, version):
        rows = tables.rows(f"x86/llvm-{version}.tsv")
        self.names = [(kind, name) for kind, name, _, _ in rows]
        self.classes = {name: feature_class for kind, name, feature_class, _ in rows if kind == "feature"}
        self.implied = {name: set(features.split()) for kind, name, _, features in rows if kind == "feature"}
        self.cpus = {name: set(features.split()) for kind, name, _, features in rows if kind == "cpu"}


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def table(version):
    return LlvmTable(version)


@pytest.fixture(scope="module")
def installed():
    """The installed LLVM's major version, where a table is committed for it."""
    major = pytest.importorskip("llvmlite.binding").llvm_version_info[0]
    if major not in VERSIONS:
        pytest.skip(f"the installed llvmlite has LLVM {major}, for which no table is committed")
    return major


def run(script, *arguments):
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("installed")
def test_installed_llvm_says_the_same():
    check = run(GENERATOR, "--check")
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_rows_are_whole(table):
    assert len(set(table.names)) == len(table.names)
    assert {kind for kind, _ in table.names} == {"feature", "cpu"}
    assert table.names == sorted(table.names, key=lambda row: (row[0] != "feature", row[1]))
    assert set(table.classes.values()) == {"isa", "tuning", "mode"}
    named = set().union(*table.implied.values(), *table.cpus.values())
    assert {table.classes[name] for name in named} == {"isa"}


def test_implications_are_transitive_and_acyclic(table):
    for name, others in table.implied.items():
        assert name not in others
        for other in others:
            assert table.implied[other] < others, (name, other)


def test_cpus_are_closed(table):
    for cpu, features in table.cpus.items():
        missing = {name: table.implied[name] - features for name in features if table.implied[name] - features}
        assert not missing, cpu


@pytest.mark.parametrize("level", PSABI_ADDS)
def test_levels_are_the_psabis(table, version, level):
    upto = list(PSABI_ADDS)[: list(PSABI_ADDS).index(level) + 1]
    expected = set().union(*(PSABI_ADDS[name] | LLVM_ADDS[name] for name in upto))
    if level == "x86-64-v4" and version == 20:
        expected.add("evex512")  # LLVM 18 to 21 name the 512-bit registers apart
    assert table.cpus[level] == expected


@pytest.mark.parametrize(
    ("cpu", "has", "lacks"),
    [
        # Intel SDM volume 2 and AMD APM volumes 3 to 5; for 64-bit LAHF the first steppings count, which lacked it.
        ("i586", "cx8 x87", "cmov mmx 64bit nopl"),
        ("lakemont", "cx8", "x87 mmx"),
        ("pentiumpro", "cmov nopl", "mmx sse 64bit"),
        ("pentium4", "sse2", "sse3 64bit cx16"),
        ("prescott", "sse3", "64bit ssse3"),
        ("nocona", "sse3 64bit cx16", "ssse3 sahf"),
        ("core2", "ssse3 64bit cx16 sahf", "sse4.1 popcnt"),
        ("k8", "sse2 64bit nopl", "sse3 cx16 sahf"),
        ("k8-sse3", "sse3 64bit cx16", "ssse3 sahf"),
        ("amdfam10", "sse4a popcnt lzcnt sahf", "ssse3 avx"),
        ("bdver2", "xop fma4 fma tbm f16c bmi", "avx2 bmi2"),
        ("haswell", "avx2 fma bmi bmi2 lzcnt movbe f16c invpcid", "adx rdseed avx512f sse4a"),
        ("skylake-avx512", "avx512bw avx512vl pku clwb", "avx512vnni avx512vbmi"),
        ("sapphirerapids", "amx-int8 amx-bf16 avx512fp16 uintr avxvnni", "sse4a clzero"),
        ("alderlake", "avxvnni hreset serialize", "avx512f amx-tile"),
        ("znver1", "sha clzero mwaitx sse4a", "fma4 xop pku avx512f"),
        ("znver3", "vaes vpclmulqdq pku invpcid", "avx512f"),
    ],
)
def test_cpus_are_what_their_makers_sold(table, cpu, has, lacks):
    assert set(has.split()) <= table.cpus[cpu]
    assert not set(lacks.split()) & table.cpus[cpu]
    assert set(lacks.split()) <= table.classes.keys()


@pytest.mark.parametrize(
    ("name", "feature_class"),
    [
        ("prefer-256-bit", "tuning"),
        ("slow-shld", "tuning"),
        ("sse-unaligned-mem", "tuning"),
        ("fast-gather", "tuning"),
        ("prefer-mask-registers", "tuning"),
        ("macrofusion", "tuning"),
        ("64bit-mode", "mode"),
        ("sahf", "isa"),
        ("uintr", "isa"),
        ("avx512vp2intersect", "isa"),
    ],
)
def test_classes(table, name, feature_class):
    assert table.classes[name] == feature_class


@pytest.mark.parametrize("version", [20, 22])
def test_newer_cpus(version):
    cpus = LlvmTable(version).cpus
    assert {"avx512bf16", "avx512vnni", "gfni", "vaes"} <= cpus["znver4"]
    assert "avx512vp2intersect" in cpus["znver5"] - cpus["znver4"]
    assert {"egpr", "ndd", "ccmp", "nf", "zu", "push2pop2", "ppx"} <= cpus["diamondrapids"]
    assert not {"avx512f", "amx-tile"} & cpus["lunarlake"]


def test_a_difference_is_shown(installed, tmp_path):
    source = (ROOT / "data" / "x86" / f"llvm-{installed}.tsv").read_text(encoding="utf-8")
    (tmp_path / "tools").mkdir()
    shutil.copy(GENERATOR, tmp_path / "tools")
    changed = tmp_path / "data" / "x86" / f"llvm-{installed}.tsv"
    changed.parent.mkdir(parents=True)
    changed.write_text(source.replace("feature\tsse2\tisa\tsse\n", "feature\tsse2\tisa\t-\n"), encoding="utf-8")

    check = run(tmp_path / "tools" / GENERATOR.name, "--check")
    assert check.returncode == 1
    assert [line for line in check.stdout.splitlines() if "\t" in line] == [
        "-feature\tsse2\tisa\t-",
        "+feature\tsse2\tisa\tsse",
    ]
