"""The x86 instructions that iced-x86 does not know: clang says which there are, and what they need."""

from __future__ import annotations

import mmap
import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from helpers.build_binaries import ZIG, assemble
from iced_x86 import Mnemonic

import cpufeat
from cpufeat import tables
from cpufeat.auditing.decoding.newer_x86 import newer
from cpufeat.errors import UnknownNameError
from cpufeat.features import FeatureSet, find, table

ZIG_FOLDER = Path(str(distribution("ziglang").locate_file("ziglang")))
FIRST_MNEMONICS = b"\x03aaa\x03aad"
"""The beginning of LLVM's table of x86 mnemonics: strings of a length and as many characters."""
KNOWN = {name.lower() for name in vars(Mnemonic) if name.isupper()}
TARGET = ("cc", "-target", "x86_64-linux-gnu", "-mcpu=diamondrapids", "-g0", "-w")


def mnemonics() -> list[str]:
    """Return the mnemonics of clang's assembler, without those that end in a size, which AT&T's syntax has."""
    names = []
    with Path(ZIG_FOLDER, "zig").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(FIRST_MNEMONICS)
        while at >= 0 and 0 < content[at] < 32:
            names.append(content[at + 1 : at + 1 + content[at]].decode())
            at += 1 + content[at]
    assert len(names) > 2000
    return [name for name in names if not (name[:-1] in names and name[-1] in "bwlq") and not name.endswith(".s")]


# --- every mnemonic

OLD = {
    "prefixes": "addr32 cs data16 ds es fs gs lock rep repne rex64 ss xacquire xrelease",
    "other names": "clr fcompi fucompi inb inl inw lcall ljmp movabs outb outl outw popfw pushfw retfq xstorerng",
    "hints, which older CPUs ignore": "prefetchrst2",
}
NOT_NEW = {name for names in OLD.values() for name in names.split()}
"""Mnemonics of clang's that iced-x86 has under another name, or as none of its own, and that every CPU runs."""
LOW = {"x": "xmm{}", "y": "ymm{}", "z": "zmm{}", "k": "k{}", "d": "ecx", "q": "rcx", "m": "[rcx + rdx]", "i": "1"}
LOW["t"] = "tmm{}"
HIGH = {**LOW, "x": "xmm2{}", "y": "ymm2{}", "z": "zmm2{}", "m": "[r17 + r18]", "d": "r16d", "q": "r17"}
"""Registers that only EVEX can name. No two operands of an instruction are of the same number."""
NUMBERS = (6, 7, 3, 5)
GENERAL = ["q", "i", "m", "qq", "dm", "qm", "qi", "iq", "tm", "ttt", "td", "ztd", "zti"]
"""The kinds of the operands of general instructions and of those of tiles."""
VECTOR = [
    "xx",
    "yy",
    "zz",
    "xm",
    "ym",
    "zm",
    "xy",
    "yz",
    "xz",
    "yx",
    "zy",
    "xxx",
    "yyy",
    "zzz",
    "zzm",
    "yxy",
    "xxm",
    "dx",
    "qx",
    "xd",
    "xxi",
    "yyi",
    "zzi",
    "kxi",
    "kyi",
    "kzi",
    "kxxi",
    "kyyi",
    "kzzi",
    "xxxi",
    "yyyi",
    "zzzi",
    "xxmi",
]


def instruction(name: str, shape: str, registers: dict[str, str]) -> str:
    return f"{name} " + ", ".join(registers[kind].format(number) for kind, number in zip(shape, NUMBERS, strict=False))


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], cpufeat.Audit]:
    """The name of a function for each instruction that the assembler accepts, and the audit of all of them."""
    lines = []
    for name in mnemonics():
        shapes = VECTOR if name[0] == "v" else ["", *GENERAL] if name not in KNOWN else []
        lines += [instruction(name, shape, registers) for shape in shapes for registers in (LOW, HIGH)]
    folder = tmp_path_factory.mktemp("mnemonics")
    source, made = folder / "all.s", folder / "all.o"
    command = [
        *ZIG,
        *TARGET,
        "-ferror-limit=0",
        "-fno-caret-diagnostics",
        "-Wa,--no-warn",
        "-c",
        str(source),
        "-o",
        str(made),
    ]
    source.write_text("\n".join([".intel_syntax noprefix", *lines]))
    errors = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    refused = {int(number) - 2 for number in re.findall(r"all\.s:(\d+):\d+: error", errors)}
    kept = {f"f{index}": line for index, line in enumerate(lines) if index not in refused}
    code = (f".type {name}, @function; {name}: {line}; ret; .size {name}, .-{name}" for name, line in kept.items())
    source.write_text("\n".join([".intel_syntax noprefix", *code]) + "\n")
    subprocess.run(command, check=True, capture_output=True)
    return kept, cpufeat.audit(made)


def test_every_mnemonic_of_the_assembler_is_known(functions: tuple[dict[str, str], cpufeat.Audit]) -> None:
    names, audit = functions
    assert len({line.split()[0] for line in names.values()}) > 850
    assert [names[unknown.function] for unknown in audit.unknown if names[unknown.function].strip() != "lock"] == []


def test_no_new_mnemonic_is_of_the_baseline(functions: tuple[dict[str, str], cpufeat.Audit]) -> None:
    names, audit = functions
    above = {function.name for function in audit.functions}
    others = {use.instruction.split()[0] for uses in audit.others.values() for use in uses}
    baseline = {line.split()[0] for name, line in names.items() if name not in above} - others
    assert baseline == NOT_NEW & {line.split()[0] for line in names.values()}


# --- what they need

HEADERS = re.compile(r"(avx10_2|movrs|amx(avx512|fp8|tf32|movrs|fp16|complex)|sm4evex|usermsr)\w*intrin\.h")
NO_NEW_INSTRUCTION = re.compile(
    r"_(cast|zext|load|store|set|undefined|abs|blend|permute|move_s|cvtsbh|cvtbf8_ph|prefetch)"
)
"""Intrinsics for which older instructions serve."""


@pytest.fixture(scope="module")
def intrinsics(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], cpufeat.Audit]:
    """The features that clang's headers demand for each of their functions, and the audit of all of them."""
    headers = [path for path in (ZIG_FOLDER / "lib" / "include").iterdir() if HEADERS.fullmatch(path.name)]
    headers.sort(key=lambda path: ("512" in path.name, path.name))  # those for 512 bits use the others
    guards = {path.name: re.search(r"#ifndef (__\w+)\n#define \1", path.read_text()) for path in headers}
    names = {header: guard[1] for header, guard in guards.items() if guard}
    lines = [f"#define {guard}" for guard in names.values()]
    lines += [
        "#include <immintrin.h>",
        "#define __IMMINTRIN_H",
        "#define static",
        "#define __inline__",
        "#define __inline",
    ]
    lines += [f"#undef {guard}\n#include <{header}>" for header, guard in names.items()]
    folder = tmp_path_factory.mktemp("intrinsics")
    source, ir, made = folder / "all.c", folder / "all.ll", folder / "all.o"
    source.write_text("\n".join(lines) + "\n")
    clang = [*ZIG, "cc", "-target", "x86_64-linux-gnu", "-O1", "-g0", "-w"]
    subprocess.run([*clang, "-S", "-emit-llvm", str(source), "-o", str(ir)], check=True)
    subprocess.run([*clang, "-c", str(ir), "-o", str(made)], check=True)
    text = ir.read_text()
    attributes = dict(re.findall(r'^attributes #(\d+) = .*"target-features"="([^"]*)"', text, re.M))
    defined = re.findall(r"^define [^@]*@(\w+)\(.*#(\d+)", text, re.M)
    return {name: features(attributes[number]) for name, number in defined}, cpufeat.audit(made)


def features(attributes: str) -> set[str]:
    found = set()
    for name in re.findall(r"\+([\w.-]+)", attributes):
        try:
            found.add(find("x86_64", name).name)
        except UnknownNameError:
            continue
    return found


def test_intrinsics_of_clangs_headers_need_what_the_headers_demand(
    intrinsics: tuple[dict[str, set[str]], cpufeat.Audit],
) -> None:
    demanded, audit = intrinsics
    assert len(demanded) > 500
    assert (audit.unknown, audit.undecoded) == ((), ())
    needs = {function.name: FeatureSet("x86_64", function.uses).closed().names for function in audit.functions}
    excess = [(name, needs[name] - demanded[name] - {"evex512"}) for name in demanded if name in needs]
    assert [(name, more) for name, more in excess if more] == []


def test_intrinsics_with_an_instruction_of_their_own_name_their_feature(
    intrinsics: tuple[dict[str, set[str]], cpufeat.Audit],
) -> None:
    demanded, audit = intrinsics
    new = {name for row in tables.rows("x86/encodings.tsv") for name in row[8].split()} | {"amx_fp16", "amx_complex"}
    named = {function.name: {*function.uses} & new for function in audit.functions}
    silent = [name for name in demanded if not named.get(name) and not NO_NEW_INSTRUCTION.search(name)]
    assert [name for name in silent if "msr" not in name] == []
    assert {*audit.others} >= {"urdmsr", "uwrmsr"}
    assert set().union(*named.values()) >= {"avx10_2", "movrs", "sm4", "amx_fp8", "amx_tf32", "amx_avx512", "amx_movrs"}


# --- the table


def test_each_row_needs_features_that_have_a_row() -> None:
    rows = tables.rows("x86/encodings.tsv")
    assert len(rows) > 200
    assert {name for row in rows for name in row[8].split()} <= {*table("x86_64")}


@pytest.mark.parametrize(
    ("encoding", "mnemonic", "needs"),
    [
        ("62 f3 7d 48 52 c1 00", "vminmaxps", "avx10_2"),
        ("62 fb 79 48 52 00 00", "vminmaxps", "avx10_2 egpr"),  # with R16 as a base: the bits B4 and X4
        ("62 f3 7d 18 52 c1 00", "vminmaxps", "avx10_2"),  # {sae}: no vector length
        ("62 f5 7f 08 6d c1", "vcvttsd2sis", "avx10_2"),
        ("62 e5 7f 08 6d c1", "vcvttsd2sis", "avx10_2 egpr"),  # to R16: the bit R4
        ("62 e5 7d 48 58 c1", "vaddbf16", "avx10_2"),  # to ZMM16, with the same bit
        ("0f 38 8b 01", "movrs", "movrs"),
        ("62 f4 7c 08 8b 01", "movrs", "egpr movrs"),
        ("c4 e2 7b 4a 04 11", "tileloaddrs", "amx_movrs"),
        ("62 f2 7f 08 4a 04 11", "tileloaddrs", "amx_movrs egpr"),
        ("c4 e7 7b f8 c1 10 00 00 00", "urdmsr", ""),
    ],
)
def test_an_encoding_is_known_with_its_length(encoding: str, mnemonic: str, needs: str) -> None:
    code = bytes.fromhex(encoding)
    known = newer(code + b"\x90" * 8, 64)
    assert known is not None
    assert (known.mnemonic, known.length) == (mnemonic, len(code))
    assert " ".join(sorted(known.requirement.features)) == needs
    assert known.requirement.other == ("" if needs else mnemonic)


@pytest.mark.parametrize("encoding", ["62 f3 7d 68 52 c1 00", "62 f3 7d 48 52", "0f 38 8b c1", "c4 e2 7b 4a c1", "90"])
def test_other_vector_lengths_and_operands_are_not_known(encoding: str) -> None:
    assert newer(bytes.fromhex(encoding), 64) is None


def test_new_instructions_decide_like_others(tmp_path: Path) -> None:
    text = ".globl f\n.type f, @function\nf: .byte 0x62, 0xf3, 0x7d, 0x48, 0x52, 0xc1, 0x00\nret\n.size f, .-f\n"
    audit = cpufeat.audit(assemble(tmp_path, text))
    assert ({*audit.needs}, audit.unknown, audit.undecoded) == ({"avx10_2"}, (), ())
    assert audit.functions[0].uses["avx10_2"][0].instruction == "vminmaxps"
    assert cpufeat.check(tmp_path / "text.o", "graniterapids").verdict == "may not run"
    assert cpufeat.check(tmp_path / "text.o", "diamondrapids").verdict == "runs"
