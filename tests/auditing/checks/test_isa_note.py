"""The ISA levels that files state, as linkers write them and as readelf reads them, against their code."""

from __future__ import annotations

import random
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build, build_kernel
from helpers.requirements import tool

import cpufeat
from cpufeat.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

INSTRUCTIONS = {
    "x86-64": "nop",
    "x86-64-v2": "pshufb %xmm0, %xmm0",
    "x86-64-v3": "vpaddd %ymm0, %ymm0, %ymm0",
    "x86-64-v4": "vpaddd %zmm0, %zmm0, %zmm0",
}
NOTE = """
.section .note.gnu.property, "a", @note
.balign 8
.long 4, {size}, 5
.asciz "GNU"
{properties}
"""
NEEDED, USED, CONTROL_FLOW = 0xC0008002, 0xC0010002, 0xC0000002


def note(*properties: tuple[int, int]) -> str:
    lines = "\n".join(f".long {kind:#x}, 4, {value}, 0" for kind, value in properties)
    return NOTE.format(size=16 * len(properties), properties=lines)


def made(folder: Path, text: str, *options: str) -> Path:
    """Assemble, and perhaps link; not by Zig, which leaves such notes out."""
    compiler = tool("gcc")
    (folder / "text.s").write_text(text)
    subprocess.run([compiler, str(folder / "text.s"), "-o", str(folder / "made"), *(options or ["-c"])], check=True)
    return folder / "made"


@pytest.mark.parametrize("states", INSTRUCTIONS)
@pytest.mark.parametrize("code", INSTRUCTIONS)
def test_a_level_that_differs_from_that_of_the_code_is_a_fault(states: str, code: str, tmp_path: Path) -> None:
    option = "x86-64-baseline" if states == "x86-64" else states
    text = f".globl f\n.type f, @function\nf: {INSTRUCTIONS[code]}\nret"
    path = made(tmp_path, text, "-shared", "-nostdlib", f"-Wl,-z,{option}")
    readelf = tool("readelf")
    shown = subprocess.run([readelf, "-nW", str(path)], capture_output=True, text=True, check=True).stdout
    assert f"x86 ISA needed: {option}" in shown
    stated = cpufeat.audit(path).note
    assert stated
    assert stated.needed == states
    order = list(INSTRUCTIONS)
    wrong = [] if states == code else [f"states {states} as needed: the code's instructions are of {code}"]
    assert [fault.partition(" (")[0] for fault in stated.faults] == wrong
    assert all("(" in fault for fault in stated.faults) is (order.index(states) <= order.index(code))


def test_a_level_used_only_behind_a_check_is_not_needed(tmp_path: Path) -> None:
    """Needed is of what is bare, used of everything."""
    text = """
.globl f
.type f, @function
f: mov $7, %eax
xor %ecx, %ecx
cpuid
test $32, %ebx
jz 1f
vpaddd %ymm0, %ymm0, %ymm0
1: ret
"""
    right = cpufeat.audit(made(tmp_path, text + note((NEEDED, 1), (USED, 4)))).note
    assert right
    assert (right.needed, right.used, right.faults) == ("x86-64", "x86-64-v3", ())
    wrong = cpufeat.audit(made(tmp_path, text + note((NEEDED, 4), (USED, 1)))).note
    assert wrong
    assert wrong.faults == (
        "states x86-64-v3 as needed: the code's instructions are of x86-64",
        "states x86-64 as used: the code's instructions are of x86-64-v3 (avx2)",
    )


def test_an_unknown_level_is_a_fault(tmp_path: Path) -> None:
    stated = cpufeat.audit(made(tmp_path, "nop" + note((NEEDED, 1 << 7)))).note
    assert stated
    assert stated.needed == ""
    assert stated.faults == ("states a level as needed that is not known here (bits 0x80)",)


def test_files_without_a_level_have_no_note(tmp_path: Path) -> None:
    assert cpufeat.audit(build_kernel(tmp_path, triple="x86_64-linux-gnu")).note is None
    assert cpufeat.audit(made(tmp_path, "nop" + note((0xC0000002, 3)))).note is None, "that is control-flow protection"


def test_branch_protection_of_arm_is_not_a_level(tmp_path: Path) -> None:
    source = tmp_path / "code.c"
    source.write_text("int f(int a) { return a; }")
    path = build(tmp_path / "code.o", "-c", "-mbranch-protection=standard", source, triple="aarch64-linux-gnu")
    assert b".note.gnu.property" in path.read_bytes()
    assert cpufeat.audit(path).note is None


def test_damaged_notes_are_read_without_an_error(tmp_path: Path) -> None:
    whole = made(tmp_path, "nop" + note((NEEDED, 1), (USED, 4))).read_bytes()
    start, chance = whole.index(struct.pack("<3I", 4, 32, 5)), random.Random(8002)
    for _ in range(200):
        changed = bytearray(whole)
        changed[start + chance.randrange(48)] = chance.randrange(256)
        struct.pack_into("<I", changed, start + 4 * chance.randrange(12), chance.choice([0, 1, 2**31, 2**32 - 1]))
        try:
            stated = cpufeat.audit(bytes(changed)).note
        except AuditError:
            continue
        assert stated is None or stated.needed in ("", *INSTRUCTIONS)
