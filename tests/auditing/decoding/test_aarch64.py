"""Audits of AArch64 code: the tables against clang's assembler, and code that clang compiled for a CPU."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import SYSTEMS, ZIG, assemble, build, build_kernel

import cpufeat
from cpufeat import tables
from cpufeat.auditing.decoding.opcodes_aarch64 import requirement
from cpufeat.auditing.formats.loader import images
from cpufeat.errors import UnknownNameError
from cpufeat.features import find, implied

if TYPE_CHECKING:
    from pathlib import Path

TRIPLE = "aarch64-linux-gnu"
EXTENSIONS = [
    "crc",
    "crypto",
    "aes",
    "sha2",
    "sha3",
    "sm4",
    "lse",
    "lse128",
    "rdm",
    "dotprod",
    "fp16",
    "fp16fml",
    "jscvt",
    "fcma",
    "rcpc",
    "rcpc3",
    "pauth",
    "flagm",
    "sb",
    "bf16",
    "i8mm",
    "memtag",
    "mops",
    "hbc",
    "cssc",
    "wfxt",
    "rng",
    "ls64",
    "ssbs",
    "predres",
    "predres2",
    "sve",
    "sve2",
    "sve2-aes",
    "sve2-sha3",
    "sve2-sm4",
    "sve2-bitperm",
    "sve2p1",
    "sve-b16b16",
    "f32mm",
    "f64mm",
    "sme",
    "sme2",
    "sme2p1",
    "sme-f64f64",
    "sme-i16i64",
    "sme-f16f16",
    "sme-f8f16",
    "sme-f8f32",
    "sme-lutv2",
    "faminmax",
    "lut",
    "fp8",
    "fp8fma",
    "fp8dot4",
    "fp8dot2",
    "ssve-fp8fma",
    "ssve-fp8dot2",
    "ssve-fp8dot4",
    "d128",
    "the",
    "gcs",
    "cpa",
]
"""Names for ``.arch_extension``."""
NAMES = {
    "frint3264": "fptoint",
    "b16b16": "sve_b16b16",
    "sve-bitperm": "sve2_bitperm",
    "sve-aes": "sve2_aes",
    "fcma": "complxnum",
}
EXTENSIONS += [
    "sve2p2",
    "sme2p2",
    "sve2p3",
    "sme2p3",
    "cmpbr",
    "lsfe",
    "fprcvt",
    "f8f32mm",
    "f8f16mm",
    "f16f32dot",
    "f16f32mm",
    "f16mm",
    "lsui",
    "occmo",
    "pops",
    "pcdphint",
    "lscp",
    "mops-go",
    "mtetc",
    "ssve-aes",
    "sve-aes2",
    "sve-b16mm",
    "sve-bfscale",
    "sve-f16f32mm",
    "sme-mop4",
    "sme-tmop",
    "sme-b16b16",
    "ssve-bitperm",
    "ssve-fexpa",
    "pauth-lr",
    "tlbid",
]
SEVERAL_ENCODINGS = re.compile(r"movprfx|((and|orr|eor) z\d+\.\w, z\d+\.\w|(dupm|mov) z\d+\.\w), #")
"""MOVPRFX, which the assembler accepts only before some instructions, and immediate operands with several encodings."""
ROWS = [row for name in ("encodings", "system") for row in tables.rows(f"aarch64/{name}.tsv") if row[3]]
EXAMPLES = [row[3] for row in ROWS]


def refused(folder: Path, lines: list[str], head: str = "") -> dict[int, str]:
    """Return clang's messages about the lines that it rejects, by the index of the line."""
    source = folder / "lines.s"
    source.write_text("\n".join([head.replace("\n", "; "), *lines]) + "\n")
    command = [*ZIG, "cc", "-target", TRIPLE, "-c", str(source), "-o", str(folder / "lines.o"), "-ferror-limit=0"]
    stderr = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return {int(number) - 2: message for number, message in re.findall(r"lines\.s:(\d+):\d+: error: (.*)", stderr)}


def named(message: str) -> set[str]:
    """Return our names of the features in an assembler's message."""
    features = set()
    for word in re.findall(r"[\w-]+", message.partition("requires: ")[2]):
        try:
            features.add(find("aarch64", NAMES.get(word, word)).name)
        except UnknownNameError:
            continue
    return features


def test_the_assembler_requires_the_features_of_the_row(tmp_path: Path) -> None:
    """A feature that implies it, or is implied by it, will do: the assembler is of another LLVM than the rows."""
    messages = refused(tmp_path, EXAMPLES)
    wrong = []
    asked = 0
    for index, (_, _, needs, example) in enumerate(ROWS):
        names = named(messages.get(index, ""))
        needed = set(needs.split()) - {"other"}
        asked += bool(names)
        closed = {feature for name in names for feature in implied("aarch64", name)}
        if names and not all(name in closed or names & implied("aarch64", name) for name in needed):
            wrong.append((example, needs, messages[index]))
    assert "\n".join(map(str, wrong)) == ""
    assert asked > 1500


def test_the_assembler_encodes_examples_as_words_of_their_row(tmp_path: Path) -> None:
    head = ".arch armv9.5-a\n" + "\n".join(f".arch_extension {name}" for name in EXTENSIONS)
    bad = refused(tmp_path, EXAMPLES, head)
    kept = [row for index, row in enumerate(ROWS) if index not in bad and not SEVERAL_ENCODINGS.match(row[3])]
    assert len(kept) > 1500
    assert refused(tmp_path, [row[3] for row in kept], head) == {}
    (image,) = images(tmp_path / "lines.o")
    words = [int.from_bytes(image.bytes_at(4 * index, 4), "little") for index in range(len(kept))]
    wrong = [
        (row[3], f"{word:08x}")
        for row, word in zip(kept, words, strict=True)
        if word & int(row[1], 16) != int(row[0], 16)
    ]
    assert "\n".join(map(str, wrong)) == ""


def test_no_instruction_word_matches_two_rows() -> None:
    rows = [(int(mask, 16), int(value, 16)) for value, mask, *_ in tables.rows("aarch64/encodings.tsv")]
    assert len(rows) > 5000
    for index, (mask, value) in enumerate(rows):
        assert value & ~mask == 0
        same_byte = (row for row in rows[index + 1 :] if row[1] >> 24 == value >> 24)
        assert [other for other in same_byte if (value ^ other[1]) & mask & other[0] == 0] == []


@pytest.mark.parametrize("hint", ["paciasp", "bti c", "autiasp", "xpaclri", "csdb", "pacia1716"])
def test_hint_instructions_are_harmless(tmp_path: Path, hint: str) -> None:
    audit = cpufeat.audit(assemble(tmp_path, f"f: {hint}\nnop\nyield\nret\n", triple=TRIPLE))
    assert (set(audit.needs), set(audit.harmless)) == (set(), {hint.split(maxsplit=1)[0]})


def test_every_harmless_row_is_a_hint() -> None:
    rows = tables.rows("aarch64/harmless.tsv")
    assert rows
    for value, mask, *_ in rows:
        assert int(value, 16) & 0xFFFFF01F == 0xD503201F  # HINT #imm, Arm ARM C6.2.126
        assert int(mask, 16) | 0xFE0 == 0xFFFFFFFF


@pytest.mark.parametrize("container", SYSTEMS)
@pytest.mark.parametrize(("cpu", "feature"), [("generic", ""), ("generic+sve", "sve"), ("generic+sve2", "sve")])
def test_kernels_need_the_features_that_the_compiler_was_given(
    tmp_path: Path, container: str, cpu: str, feature: str
) -> None:
    cpu = "baseline" if cpu == "generic" and container != "Mach-O" else cpu
    audit = cpufeat.audit(build_kernel(tmp_path, triple=f"aarch64-{SYSTEMS[container]}", cpu=cpu))
    assert (audit.format, audit.arch, audit.undecoded) == (container, "aarch64", ())
    assert feature in {"", *audit.needs}
    assert set(audit.needs) <= (implied("aarch64", "sve2") if feature else set())


def test_atomics_need_lse_only_where_they_may(tmp_path: Path) -> None:
    source = tmp_path / "add.c"
    source.write_text("void add(long *p) { __atomic_fetch_add(p, 1, 5); }")
    with_lse = cpufeat.audit(build(tmp_path / "a.o", "-O2", "-c", source, triple=TRIPLE, cpu="generic+lse"))
    without = cpufeat.audit(build(tmp_path / "b.o", "-O2", "-mno-outline-atomics", "-c", source, triple=TRIPLE))
    assert ([*with_lse.needs], [*without.needs]) == (["lse"], [])
    assert with_lse.functions[0].uses["lse"][0].instruction.startswith("ldadd")


def test_words_that_the_file_calls_data_are_not_code(tmp_path: Path) -> None:
    text = "f: ret\n.word 0x04a20020\n.type g, @function\ng: .inst 0x04a20020\nret\n"
    audit = cpufeat.audit(assemble(tmp_path, text, triple=TRIPLE))
    assert [(function.name, function.start) for function in audit.functions] == [("g", 8)]


def test_words_that_are_no_instruction_are_reported(tmp_path: Path) -> None:
    text = ".type f, @function\nf: add z0.s, z0.s, z1.s\nret\n.inst 0x02000000, 0x03000000\n.size f, .-f\n"
    audit = cpufeat.audit(assemble(tmp_path, text, triple=TRIPLE, cpu="generic+sve"))
    assert [(undecoded.address, undecoded.size) for undecoded in audit.undecoded] == [(8, 8)]
    assert not audit.functions[0].certain


def test_instructions_of_the_baseline_require_nothing() -> None:
    ldr, fadd, branch = 0xF9400020, 0x4E22D420, 0x14000001
    assert [requirement(word) for word in (ldr, fadd, branch)] == [None, None, None]
