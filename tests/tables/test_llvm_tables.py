"""The generated LLVM tables: equal to what the installed LLVM says, consistent, and true to outside facts."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import pytest
from helpers.paths import PROJECT

from cpufeat import llvm_tables, tables
from cpufeat.aot.toolchain import zig

GENERATOR = PROJECT / "tools" / "llvm_tables.py"
VERSIONS = llvm_tables.versions("x86_64")
FAMILIES = {family: arch for arch, family, *_ in tables.rows("architectures.tsv")}
"""Every folder of tables, and an architecture of it."""
TABLES = [(family, version) for family, arch in FAMILIES.items() for version in llvm_tables.versions(arch)]

ON_LINUX = sys.platform == "linux"  # where LLVM's own tables can be found, through /proc

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
    """One version's table of one architecture, by kind."""

    def __init__(self, arch, version):
        rows = tables.rows(f"{arch}/llvm-{version}.tsv")
        self.names = [(kind, name) for kind, name, _, _ in rows]
        self.classes = {name: feature_class for kind, name, feature_class, _ in rows if kind == "feature"}
        self.implied = {name: set(features.split()) for kind, name, _, features in rows if kind == "feature"}
        self.cpus = {name: set(features.split()) for kind, name, _, features in rows if kind == "cpu"}


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module", params=TABLES, ids=lambda table: "-".join(map(str, table)))
def table(request):
    return LlvmTable(*request.param)


@pytest.fixture(scope="module")
def installed():
    """The installed LLVM's major version, where tables are committed for it."""
    major = pytest.importorskip("llvmlite.binding").llvm_version_info[0]
    if major not in VERSIONS:
        pytest.skip(f"the installed llvmlite has LLVM {major}, for which no table is committed")
    return major


def run(script, *arguments):
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("installed")
def test_the_tables_equal_what_the_installed_llvm_says():
    check = run(GENERATOR, "--check", *([] if ON_LINUX else ["--arch", "x86"]))
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


@pytest.mark.skipif(not ON_LINUX, reason="the tables of Zig's LLVM are read from a program for Linux")
def test_the_llvm_in_a_zig_says_what_the_table_of_its_version_says():
    """By the inliner for AArch64, from the program for IBM Z. Point releases may differ in the newest features."""
    program = zig.program()
    check = run(GENERATOR, "--check", "--zig", program, "--arch", "s390x")
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
    check = run(GENERATOR, "--check", "--zig", program, "--arch", "aarch64")
    assert check.stderr == ""
    differing = {line.split("\t")[1] for line in check.stdout.splitlines() if "\t" in line}
    assert differing <= {"f16mm", "v9.7a"}


@pytest.mark.skipif(not ON_LINUX, reason="LLVM's own tables are found through /proc")
def test_llvms_own_tables_say_what_the_inliner_says(installed):
    specification = importlib.util.spec_from_file_location("llvm_tables", GENERATOR)
    generator = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generator)
    read = generator.read_tables(generator.Llvmlite(), generator.X86_64)

    table = LlvmTable("x86", installed)
    isa = {name for name, feature_class in table.classes.items() if feature_class == "isa"}
    aside = {"evex512"} if installed == 20 else set()  # what LLVM 20 reads into a string is in no table of its own
    assert {cpu: names & isa for cpu, names in read.has.items()} == table.cpus
    assert {name: read.implied[name] & isa - aside for name in isa} == {
        name: table.implied[name] - aside for name in isa
    }
    tuning = {name for name, feature_class in table.classes.items() if feature_class == "tuning"}
    never_set = {"prefer-128-bit", "sse-unaligned-mem"}  # by any CPU
    assert {name for name, feature_class in read.classes.items() if feature_class == "tuning"} == tuning - never_set


def test_a_table_has_each_name_once_in_llvms_order(table):
    assert len(set(table.names)) == len(table.names)
    assert {kind for kind, _ in table.names} == {"feature", "cpu"}
    assert table.names == sorted(table.names, key=lambda row: (row[0] != "feature", row[1]))
    assert set(table.classes.values()) <= {"isa", "tuning", "mode"}
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
def test_levels_are_the_psabis(version, level):
    upto = list(PSABI_ADDS)[: list(PSABI_ADDS).index(level) + 1]
    expected = set().union(*(PSABI_ADDS[name] | LLVM_ADDS[name] for name in upto))
    if level == "x86-64-v4" and 18 <= version <= 21:
        expected.add("evex512")  # LLVM 18 to 21 name the 512-bit registers apart
    assert LlvmTable("x86", version).cpus[level] == expected


@pytest.mark.parametrize(
    ("arch", "cpu", "has", "lacks"),
    [
        # Intel SDM volume 2 and AMD APM volumes 3 to 5; for 64-bit LAHF the first steppings count, which lacked it.
        ("x86", "i586", "cx8 x87", "cmov mmx 64bit nopl"),
        ("x86", "lakemont", "cx8", "x87 mmx"),
        ("x86", "pentiumpro", "cmov nopl", "mmx sse 64bit"),
        ("x86", "pentium4", "sse2", "sse3 64bit cx16"),
        ("x86", "prescott", "sse3", "64bit ssse3"),
        ("x86", "nocona", "sse3 64bit cx16", "ssse3 sahf"),
        ("x86", "core2", "ssse3 64bit cx16 sahf", "sse4.1 popcnt"),
        ("x86", "k8", "sse2 64bit nopl", "sse3 cx16 sahf"),
        ("x86", "k8-sse3", "sse3 64bit cx16", "ssse3 sahf"),
        ("x86", "amdfam10", "sse4a popcnt lzcnt sahf", "ssse3 avx"),
        ("x86", "bdver2", "xop fma4 fma tbm f16c bmi", "avx2 bmi2"),
        ("x86", "haswell", "avx2 fma bmi bmi2 lzcnt movbe f16c invpcid", "adx rdseed avx512f sse4a"),
        ("x86", "skylake-avx512", "avx512bw avx512vl pku clwb", "avx512vnni avx512vbmi"),
        ("x86", "sapphirerapids", "amx-int8 amx-bf16 avx512fp16 uintr avxvnni", "sse4a clzero"),
        ("x86", "alderlake", "avxvnni hreset serialize", "avx512f amx-tile"),
        ("x86", "znver1", "sha clzero mwaitx sse4a", "fma4 xop pku avx512f"),
        ("x86", "znver3", "vaes vpclmulqdq pku invpcid", "avx512f"),
        # Arm's Technical Reference Manuals; Fujitsu's A64FX specification; Apple's hw.optional.arm.*.
        ("aarch64", "cortex-a53", "neon aes sha2 crc", "lse dotprod sve"),
        ("aarch64", "cortex-a76", "lse dotprod rcpc fullfp16 ssbs", "sve i8mm bf16"),
        ("aarch64", "neoverse-v1", "sve i8mm bf16 rand", "sve2 mte"),
        ("aarch64", "neoverse-n2", "sve2 mte bf16 i8mm", "sme"),
        ("aarch64", "a64fx", "sve complxnum fullfp16", "sve2 dotprod pauth"),
        ("aarch64", "apple-a14", "sha3 dotprod fp16fml pauth", "sve bf16 sm4"),
        ("arm", "arm1176jzf-s", "v6k vfp2 trustzone", "neon thumb2 v7"),
        ("arm", "cortex-m3", "noarm thumb2 hwdiv", "dsp vfp2sp hwdiv-arm"),
        ("arm", "cortex-a9", "neon vfp3 fp16 mp", "vfp4 hwdiv crc"),
        ("arm", "cortex-a7", "neon vfp4 hwdiv hwdiv-arm virtualization", "crc aes v8"),
        ("arm", "cortex-a53", "v8 crc aes sha2 fp-armv8", "dotprod fullfp16"),
        # SiFive's core manuals.
        ("riscv", "sifive-u74", "64bit m a f d c", "v"),
        ("riscv", "sifive-e31", "m a c", "64bit f"),
        # Power ISA 2.03 to 3.1 and the user manuals of the POWER processors.
        ("powerpc", "970", "altivec mfocrf fsqrt", "vsx cmpb popcntd"),
        ("powerpc", "pwr7", "vsx popcntd bpermd", "power8-vector crypto direct-move"),
        ("powerpc", "pwr8", "power8-vector crypto direct-move htm", "power9-vector"),
        ("powerpc", "pwr9", "power9-vector isa-v30-instructions", "mma prefix-instrs"),
        ("powerpc", "pwr10", "mma paired-vector-memops prefix-instrs pcrelative-memops", "spe"),
        # z/Architecture Principles of Operation, by the facilities that each edition added.
        ("s390x", "z10", "", "distinct-ops high-word vector"),
        ("s390x", "z196", "distinct-ops high-word population-count", "transactional-execution vector"),
        ("s390x", "z13", "vector load-store-on-cond-2", "vector-enhancements-1 guarded-storage"),
        ("s390x", "z15", "vector-enhancements-2 deflate-conversion", "soft-float"),
        # LoongArch Reference Manual, and the Loongson 3A5000 user manual.
        ("loongarch", "la464", "64bit d lsx lasx lvz lbt", "32bit"),
    ],
)
def test_cpus_are_what_their_makers_sold(arch, cpu, has, lacks):
    for table in (LlvmTable(*key) for key in TABLES if key[0] == arch):
        assert set(has.split()) <= table.cpus[cpu]
        assert not set(lacks.split()) & table.cpus[cpu]
        assert set(lacks.split()) <= table.classes.keys()


@pytest.mark.parametrize(
    ("arch", "name", "feature_class"),
    [
        ("x86", "prefer-256-bit", "tuning"),
        ("x86", "slow-shld", "tuning"),
        ("x86", "sse-unaligned-mem", "tuning"),
        ("x86", "fast-gather", "tuning"),
        ("x86", "prefer-mask-registers", "tuning"),
        ("x86", "macrofusion", "tuning"),
        ("x86", "64bit-mode", "mode"),
        ("x86", "sahf", "isa"),
        ("x86", "uintr", "isa"),
        ("x86", "avx512vp2intersect", "isa"),
        ("aarch64", "a35", "tuning"),
        ("aarch64", "fuse-aes", "tuning"),
        ("aarch64", "use-postra-scheduler", "tuning"),
        ("aarch64", "v8.2a", "isa"),
        ("aarch64", "sme", "isa"),
        ("riscv", "v", "isa"),
        ("loongarch", "lsx", "isa"),
    ],
)
def test_a_feature_has_its_class(arch, name, feature_class):
    assert {LlvmTable(*key).classes[name] for key in TABLES if key[0] == arch} == {feature_class}


@pytest.mark.parametrize("version", [20, 21, 22])
def test_recent_cpus_have_their_features(version):
    x86, aarch64, riscv = (LlvmTable(arch, version).cpus for arch in ("x86", "aarch64", "riscv"))
    assert {"avx512bf16", "avx512vnni", "gfni", "vaes"} <= x86["znver4"]
    assert "avx512vp2intersect" in x86["znver5"] - x86["znver4"]
    assert {"egpr", "ndd", "ccmp", "nf", "zu", "push2pop2", "ppx"} <= x86["diamondrapids"]
    assert not {"avx512f", "amx-tile"} & x86["lunarlake"]
    assert {"sme", "sme2", "bf16", "i8mm"} <= aarch64["apple-m4"]
    assert "sve" not in aarch64["apple-m4"]
    assert {"v", "zvl256b", "zba", "zbb", "zbs"} <= riscv["spacemit-x60"]
    assert aarch64["cyclone"] == aarch64["apple-a7"]  # a second name, which is in no table of LLVM's own


def test_tuning_for_oryon_is_no_isa_feature():
    """From LLVM 20 on, being tuned for oryon-1 brings Armv8.6-A with it."""
    table = LlvmTable("aarch64", 22)
    assert table.classes["oryon-1"] == "tuning"
    assert {table.classes[name] for name in ("v8.6a", "neon", "sha3", "lse")} == {"isa"}


def test_a_difference_is_shown(installed, tmp_path):
    source = (PROJECT / "data" / "aarch64" / f"llvm-{installed}.tsv").read_text(encoding="utf-8")
    (tmp_path / "tools").mkdir()
    for module in (GENERATOR, GENERATOR.with_name("llvms.py")):
        shutil.copy(module, tmp_path / "tools")
    changed = tmp_path / "data" / "aarch64" / f"llvm-{installed}.tsv"
    changed.parent.mkdir(parents=True)
    changed.write_text(source.replace("feature\tfp-armv8\tisa", "feature\tfp-armv8\ttuning"), encoding="utf-8")

    check = run(tmp_path / "tools" / GENERATOR.name, "--check", "--arch", "aarch64")
    assert check.returncode == 1
    assert [line for line in check.stdout.splitlines() if "\t" in line] == [
        "-feature\tfp-armv8\ttuning\t-",
        "+feature\tfp-armv8\tisa\t-",
    ]
