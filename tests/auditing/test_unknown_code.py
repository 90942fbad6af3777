"""Code that is reached but that the decoder does not know is never fine: audits name it, and ``--max`` cannot tell."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import ZIG, assemble
from helpers.paths import MACHINES

import cpufeat
from cpufeat import tables
from cpufeat.auditing.decoding import regions
from cpufeat.cli import main

if TYPE_CHECKING:
    from pathlib import Path

EVEX, EVEX_LOAD = "62 f6 7d 48 ff c1", "62 f6 7d 48 ff 44 88 01"
"""Map 6, opcode FF: no instruction of any manual."""
LEAST = {
    EVEX: "avx512f",
    EVEX_LOAD: "avx512f",
    "62 f3 7d 48 ee 05 00 00 00 00 07": "avx512f",
    "62 f3 7d 48 ee 04 25 00 00 00 00 07": "avx512f",
    "62 f1 7d 48 0b c1": "avx512f",
    "c4 e2 79 fe c1": "avx",
    "c5 f9 0b c1": "avx",
    "8f e9 78 fe c1": "xop",
    "8f ea 78 fe c1 01 02 03 04": "xop",
}
"""Encodings of no instruction whose prefix tells their length -> the feature that the prefix needs."""
LEAST_OF_OTHERS = {
    "0f 0f c1 01": "3dnow",
    "d5 00 06": "egpr",
    "62 f4 7c 48 27 c0": "egpr",
    "0f 38 ef c1": "",
    "0f 04": "",
    "06": "",
}
"""Encodings of no instruction whose length is not known -> the feature that they need at least."""
AARCH64 = "aarch64-linux-gnu"


def byte(encoding: str) -> str:
    return ".byte " + ", ".join(f"0x{number}" for number in encoding.split())


def function(*lines: str) -> str:
    body = "\n".join(lines)
    return f".globl f\n.type f, @function\nf: nop\n{body}\n.size f, .-f\n"


@pytest.mark.parametrize(("encoding", "least"), LEAST.items())
def test_the_prefix_tells_the_length_and_the_least_that_is_needed(tmp_path: Path, encoding: str, least: str) -> None:
    audit = cpufeat.audit(assemble(tmp_path, function(byte(encoding), "crc32 %eax, %eax", "ret")))
    (unknown,) = audit.unknown
    assert (unknown.address, unknown.place, unknown.function) == (1, ".text+0x1", "f")
    assert (unknown.bytes, unknown.least, unknown.certain) == (encoding, least, True)
    assert least in unknown.reason
    assert {*audit.needs} == {least, "crc32"}
    assert audit.functions[0].certain
    assert audit.functions[0].uses[least][0].instruction == f"(unknown) {encoding}"
    assert audit.undecoded == ()


@pytest.mark.parametrize(("encoding", "least"), LEAST_OF_OTHERS.items())
def test_other_bytes_tell_at_most_the_least_that_they_need(tmp_path: Path, encoding: str, least: str) -> None:
    audit = cpufeat.audit(assemble(tmp_path, function(byte(encoding), "ret")))
    (unknown,) = audit.unknown
    assert (unknown.address, unknown.least, unknown.certain) == (1, least, True)
    assert unknown.bytes.startswith(encoding)


@pytest.mark.parametrize("encoding", [EVEX, "c4 e2 79 fe c1", "8f e9 78 fe c1"])
def test_32_bit_code_has_the_same_prefixes(tmp_path: Path, encoding: str) -> None:
    audit = cpufeat.audit(assemble(tmp_path, function(byte(encoding), "ret"), triple="x86-linux-gnu", cpu="i686"))
    assert [(unknown.bytes, unknown.least) for unknown in audit.unknown] == [(encoding, LEAST[encoding])]


# --- verdicts


@pytest.mark.parametrize(
    ("encoding", "limit", "status"),
    [(EVEX, "x86-64-v4", 3), (EVEX, "x86-64-v3", 1), ("0f 38 ef c1", "x86-64-v4", 3), ("90", "x86-64", 0)],
)
@pytest.mark.parametrize("is_archive", [False, True])
def test_unknown_code_within_the_limit_is_neither_yes_nor_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str, limit: str, status: int, *, is_archive: bool
) -> None:
    file = assemble(tmp_path, function(byte(encoding), "ret"))
    if is_archive:
        subprocess.run([*ZIG, "ar", "rcs", tmp_path / "lib.a", file], check=True, cwd=tmp_path)
        file = tmp_path / "lib.a"
    assert main(["audit", str(file), "--max", limit]) == status
    printed = " ".join(capsys.readouterr().out.split())
    assert ("Needs no more than" in printed) is (status == 0)
    assert ("Cannot tell whether it needs more than x86-64-v4" in printed) is (status == 3)
    assert (encoding in printed) is (status != 0)


def test_a_recorded_machine_is_no_limit_for_unknown_code(tmp_path: Path) -> None:
    file = assemble(tmp_path, function(byte("0f 38 ef c1"), "ret"))
    assert main(["audit", str(file), "--machine", str(MACHINES / "zen5-kvm.json")]) == 3
    assert main(["check", str(file), "--cpu", "znver5"]) == 3


# --- what is no code


JUMP_TABLE = f"""
lea t(%rip), %rdx; movslq (%rdx,%rdi,4), %rax; add %rdx, %rax; jmp *%rax
1: ret
2: nop; ret
t: .long 1b - t, 2b - t
{byte("06 07 62")}
"""
NO_CODE = {
    "after a return": f"ret; {byte(EVEX)}",
    "after a jump": f"jmp 1f; {byte(EVEX)}; 1: ret",
    "after a trap": f"ud2; {byte('06 06 06')}",
    "a jump table": JUMP_TABLE,
}


@pytest.mark.parametrize("text", NO_CODE.values(), ids=NO_CODE)
def test_bytes_that_nothing_reaches_are_not_unknown_code(tmp_path: Path, text: str) -> None:
    assert cpufeat.audit(assemble(tmp_path, function(text))).unknown == ()


def test_what_only_a_local_label_names_may_be_data(tmp_path: Path) -> None:
    table = f".byte 0x90\n{byte(EVEX)}\n{byte('06 06 06 06')}\n"
    (unknown,) = cpufeat.audit(assemble(tmp_path, f"{function('ret')}K256: {table}")).unknown[:1]
    assert not unknown.certain
    assert main(["audit", str(tmp_path / "text.o"), "--max", "x86-64"]) == 0


def test_code_behind_a_jump_table_of_a_function_is_reached(tmp_path: Path) -> None:
    audit = cpufeat.audit(assemble(tmp_path, function(JUMP_TABLE.replace("2: nop", f"2: {byte(EVEX)}"))))
    assert [(unknown.bytes, unknown.certain) for unknown in audit.unknown] == [(EVEX, True)]


def test_an_instruction_across_the_end_of_a_piece_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "LARGEST", 16)
    file = assemble(tmp_path, function(*["vpaddd %zmm0, %zmm1, %zmm2"] * 9, "ret"))
    audit = cpufeat.audit(file)
    assert {*audit.needs} == {"avx512f"}
    assert audit.unknown == ()


# --- 64-bit Arm


def test_an_unknown_word_needs_at_least_what_its_encoding_space_does(tmp_path: Path) -> None:
    audit = cpufeat.audit(assemble(tmp_path, function(".inst 0x06000000", "ret"), triple=AARCH64))
    (unknown,) = audit.unknown
    assert (unknown.address, unknown.place, unknown.function) == (4, ".text+0x4", "f")
    assert (unknown.bytes, unknown.least, unknown.certain) == ("00 00 00 06", "", True)
    assert main(["audit", str(tmp_path / "text.o"), "--max", "neoverse-v2"]) == 3


@pytest.mark.parametrize(("space", "least"), [("04", "sve"), ("45", "sve"), ("a0", "sme"), ("c1", "sme"), ("5e", "")])
def test_a_free_encoding_of_sve_or_sme_needs_at_least_that(tmp_path: Path, space: str, least: str) -> None:
    rows = tables.rows("aarch64/encodings.tsv")
    word = next(value for value, _, needs, _ in rows if needs == "unallocated" and value.startswith(space))
    (unknown,) = cpufeat.audit(assemble(tmp_path, function(f".inst 0x{word}", "ret"), triple=AARCH64)).unknown
    assert (unknown.least, unknown.certain) == (least, True)


WORDS = {
    "after a return": "ret; .inst 0x06000000",
    "after a jump": "b 1f; .inst 0x06000000; 1: ret",
    "after a jump to a register": "br x0; .inst 0x06000000",
}


@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
def test_words_that_nothing_reaches_are_not_unknown_code(tmp_path: Path, text: str) -> None:
    audit = cpufeat.audit(assemble(tmp_path, function(text), triple=AARCH64))
    assert audit.unknown == ()
    assert len(audit.undecoded) == 1


REACHED = {
    "by a branch": "cbz x0, 1f; ret; 1: .inst 0x06000000",
    "after a call": "bl g; .inst 0x06000000; ret",
    "through a jump table": """
cmp w0, #1; b.hi 3f
adrp x1, t; add x1, x1, :lo12:t; ldrb w2, [x1, w0, uxtw]
adr x3, 1f; add x2, x3, w2, sxtb #2; br x2
1: ret
2: .inst 0x06000000
3: ret
.pushsection .rodata; t: .byte 0, (2b - 1b) / 4; .popsection
""",
}


@pytest.mark.parametrize("text", REACHED.values(), ids=REACHED)
def test_unknown_words_are_found_wherever_control_flow_leads(tmp_path: Path, text: str) -> None:
    audit = cpufeat.audit(assemble(tmp_path, function(text), triple=AARCH64))
    assert [(unknown.bytes, unknown.certain) for unknown in audit.unknown] == [("00 00 00 06", True)]
