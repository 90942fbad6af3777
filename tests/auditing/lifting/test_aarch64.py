"""Lifted AArch64 code: words against capstone, and jump tables against what a compiler was given."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import capstone
import pytest
from helpers.build_binaries import build, build_kernel

from cpufeat.auditing.formats.loader import images
from cpufeat.auditing.lifting.aarch64_constants import words_of
from cpufeat.auditing.lifting.aarch64_decoder import STACK, lift_word
from cpufeat.auditing.lifting.aarch64_jump_tables import jump_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIPLE = "aarch64-linux-gnu"
READ_ONLY = {"cmp", "cmn", "tst", "st1", "st2", "st3", "st4"}
"""Capstone 5 says of these that they write their first operand."""
LINK = 31


def instructions() -> Iterator[tuple[int, capstone.CsInsn]]:
    """Random words that capstone can decode."""
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    decoder.detail = True
    chance = random.Random(5496)
    for word in (chance.getrandbits(32) for _ in range(60_000)):
        instruction = next(decoder.disasm(word.to_bytes(4, "little"), 0x1000), None)
        if instruction is not None:
            yield word, instruction


def number(instruction: capstone.CsInsn, register: int) -> int:
    name = instruction.reg_name(register)
    known = {"sp": STACK, "wsp": STACK, "fp": 30, "lr": LINK}
    return known.get(name) or (int(name[1:]) + 1 if re.fullmatch(r"[xw]\d+", name) else 0)


def test_every_register_that_capstone_says_is_written_is_lifted_as_written() -> None:
    """Otherwise an answer would be taken to be in a register still, and a branch on it for a check."""
    seen, wrong = 0, []
    for word, instruction in instructions():
        written = {number(instruction, register) for register in instruction.regs_access()[1]} - {0, LINK}
        lifted = {register for step in lift_word(word, 0x1000) for register in step.writes}
        seen += bool(written)
        if not written <= lifted and instruction.mnemonic not in READ_ONLY:
            wrong.append(f"{word:08x} {instruction.mnemonic} {instruction.op_str}: {written - lifted}")
    assert "\n".join(wrong) == ""
    assert seen > 9_000


def test_branches_lead_where_capstone_says() -> None:
    seen, wrong = 0, []
    for word, instruction in instructions():
        immediates = [operand.imm for operand in instruction.operands if operand.type == capstone.arm64.ARM64_OP_IMM]
        if capstone.CS_GRP_BRANCH_RELATIVE in instruction.groups and immediates:
            seen += 1
            (step,) = lift_word(word, 0x1000)
            if step.target != immediates[-1] % (1 << 64):
                wrong.append(f"{word:08x} {instruction.mnemonic} {instruction.op_str}: {step.target}")
    assert wrong == []
    assert seen > 1_000


def test_every_word_of_compiled_sve_code_is_lifted(tmp_path: Path) -> None:
    (image,) = images(build_kernel(tmp_path, triple=TRIPLE, cpu="generic+sve2"))
    code = b"".join(bytes(section.content) for section in image.sections if section.executable)
    assert all(lift_word(word, 0) for word in words_of(code))


SWITCH = """
int f(int x, int *p) {
    switch (x) {
    CASES
    }
    return *p;
}
"""


@pytest.mark.parametrize("number", [20, 90, 600])
@pytest.mark.parametrize("level", ["-O1", "-Os"])
def test_jump_tables_are_read_to_their_end(number: int, level: str, tmp_path: Path) -> None:
    """Entries of one byte, two and four; each leads to where a case begins."""
    cases = "\n".join(f'case {at}: *p += {at * at * 7 + 5}; __asm__ volatile("nop"); break;' for at in range(number))
    source = tmp_path / "switch.c"
    source.write_text(SWITCH.replace("CASES", cases))
    options = (level, "-fno-sanitize=all", "-c", source)
    (image,) = images(build(tmp_path / "switch.o", *options, triple=TRIPLE))
    (function,) = (function for function in image.functions if function.name == "f")
    code = image.bytes_at(function.start, function.end - function.start)
    (table,) = jump_tables(code, function.start).values()
    targets = table.targets(image.bytes_at(table.address, table.length * table.width))
    assert table.length == number
    assert len(set(targets)) == number
    assert all(function.start < target < function.end and target % 4 == 0 for target in targets)
