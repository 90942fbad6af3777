"""Guarded or bare: small programs whose functions' names say the answer, by two compilers; and what surrounds them."""

from __future__ import annotations

import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import ZIG, assemble, build
from helpers.paths import GUARDS
from helpers.requirements import tool

import cpufeat

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat import Audit

CASES = GUARDS / "cases.c"
ANSWERS = {"guarded": True, "bare": False, "unused": None}
CASE = re.compile(rf"_?(({'|'.join(ANSWERS)})_\w+)")
PLAIN = ("-mcpu=baseline", "-fno-sanitize=all")
COMPILERS = {
    "gcc": ("gcc", "-march=x86-64", "-fno-ipa-icf"),  # functions with the same code stay apart
    "clang": (*ZIG, "cc", "-target", "x86_64-linux-gnu", "-mcpu=x86_64", "-fno-sanitize=all"),
    "clang for Arm": (*ZIG, "cc", "-target", "aarch64-linux-gnu", *PLAIN),
    "clang for Arm and musl": (*ZIG, "cc", "-target", "aarch64-linux-musl", *PLAIN),
    "clang for Arm and macOS": (*ZIG, "cc", "-target", "aarch64-macos", "-fno-sanitize=all"),
    "clang for Arm and Windows": (*ZIG, "cc", "-target", "aarch64-windows-gnu", *PLAIN),
    "clang for Arm and FreeBSD": (*ZIG, "cc", "-target", "aarch64-freebsd", *PLAIN),
}
ONLY = {
    "clang for Arm and macOS": ("program", "library", "object"),
    "clang for Arm and Windows": ("object",),  # what is linked has no names
    "clang for Arm and FreeBSD": ("object",),
}
NEEDED = {"x86_64": "avx2", "aarch64": "sve"}
"""What the functions of the cases need."""
KINDS = {
    "program": ("-pie", "-fPIE"),
    "fixed": ("-no-pie", "-fno-pie"),
    "library": ("-shared", "-fPIC"),
    "object": ("-c",),
    "fixed object": ("-c", "-fno-pie"),
}


def compiled(output: Path, compiler: str, *options: str) -> Path:
    command = COMPILERS[compiler]
    subprocess.run([tool(command[0]), *command[1:], "-g0", *options, str(CASES), "-o", str(output)], check=True)
    return output


def answers(audit: Audit, names: dict[int, str] | None = None) -> dict[str, bool | None]:
    """What an audit says of each case; ``names``: of functions by address, where the file has none."""
    spelled = {function.start: function.name for function in audit.functions} if names is None else names
    by_case = {CASE.match(spelled.get(function.start, "")): function.guarded for function in audit.functions}
    return {match[1]: guarded for match, guarded in by_case.items() if match}


def expected(names: dict[str, bool | None]) -> dict[str, bool | None]:
    return {name: ANSWERS[name.partition("_")[0]] for name in names}


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
@pytest.mark.parametrize(
    ("compiler", "kind"),
    [(compiler, kind) for compiler in COMPILERS for kind in KINDS if kind in ONLY.get(compiler, KINDS)],
)
def test_each_function_is_guarded_or_bare_as_its_name_says(
    compiler: str, kind: str, level: str, tmp_path: Path
) -> None:
    audit = cpufeat.audit(compiled(tmp_path / "cases", compiler, *KINDS[kind], level))
    answers_by_name = answers(audit)
    cases = set(re.findall(r"^NEEDS(?:_EXPORTED)?\((\w+)\)$", CASES.read_text(), re.M)) | INLINE
    assert answers_by_name.keys() == cases - (RESOLVED if " and " in compiler else set())
    assert answers_by_name == expected(answers_by_name)
    assert NEEDED[audit.arch] in audit.bare


INLINE = {"guarded_inline", "bare_inline"}
RESOLVED = {"guarded_resolved", "bare_resolved"}
"""By ``ifunc``, which only glibc has of these."""


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_stripped_programs_get_the_same_answers(level: str, tmp_path: Path) -> None:
    """Variables that hold answers are found by what is stored in them (not Zig's: its check always says no)."""
    named = cpufeat.audit(compiled(tmp_path / "named", "gcc", level))
    names = {function.start: function.name for function in named.functions}
    strip = tool("strip")
    subprocess.run([strip, "-s", str(tmp_path / "named"), "-o", str(tmp_path / "bald")], check=True)
    assert answers(cpufeat.audit(tmp_path / "bald"), names) == answers(named)


def test_reasons_name_the_check_and_the_way(tmp_path: Path) -> None:
    audit = cpufeat.audit(compiled(tmp_path / "cases", "gcc", "-O0"))
    why = {function.name: function.why for function in audit.functions}
    assert why["guarded_variable"] == "reached only through own, which tests flags, have"
    assert why["guarded_inline"] == "behind its own test of __cpu_model"
    assert why["bare_after"] == "reached from after without a check (the entry point)"
    assert why["guarded_resolved"].startswith("reached only through resolve, which tests")
    assert why["unused_code"] == "nothing refers to it"


def test_without_any_check_everything_is_bare(tmp_path: Path) -> None:
    path = assemble(tmp_path, ".globl f\nf: vpaddd %ymm0, %ymm0, %ymm0\nret\ng: popcnt %eax, %eax\nret")
    audit = cpufeat.audit(path)
    assert audit.bare == audit.needs
    assert {function.why for function in audit.functions} == {"no branch in this file depends on what the CPU can do"}


NUMBERS = """
.globl _start
_start: mov $7, %eax
xor %ecx, %ecx
cpuid
test $32, %ebx
jz other
call guarded
other: cmp $guarded + OFFSET, %esi
ret
.type guarded, @function
guarded: nop
vpaddd %ymm0, %ymm0, %ymm0
ret
.size guarded, .-guarded
"""


@pytest.mark.parametrize(("offset", "is_guarded"), [("0", False), ("1", True)])
def test_a_number_amid_a_function_is_no_way_into_it(offset: str, is_guarded: bool, tmp_path: Path) -> None:
    """In a program at a fixed address, numbers may be addresses."""
    source = tmp_path / "text.s"
    source.write_text(NUMBERS.replace("OFFSET", offset) + ".type other, @function\n.size other, 7\n")
    path = build(tmp_path / "fixed", "-nostdlib", "-static", source, triple="x86_64-linux-gnu")
    (function,) = (needs for needs in cpufeat.audit(path).functions if "avx2" in needs.uses)
    assert function.guarded is is_guarded


LOOP = """
.globl f
.type f, @function
f: lea table(%rip), %rdx
1: mov $7, %eax
xor %ecx, %ecx
cpuid
add $8, %rdx
push %rdx
mov %ebx, (%rdx)
test $32, %ebx
jnz 2f
jmp 1b
2: vpaddd %ymm0, %ymm0, %ymm0
jmp 1b
.data
table: .zero 4096
"""


def test_a_pointer_that_a_loop_advances_is_followed_for_a_while(tmp_path: Path) -> None:
    (function,) = (needs for needs in cpufeat.audit(assemble(tmp_path, LOOP)).functions if "avx2" in needs.uses)
    assert (function.guarded, function.why) == (True, "behind its own test of CPUID")


@pytest.mark.parametrize(("number", "bare"), [(5_000, []), (80_000, ["avx2"])])
def test_a_use_in_endless_code_is_bare(number: int, bare: list[str], tmp_path: Path) -> None:
    """Branches behind a test, more than any function has: bare, since what is not followed to its end may be."""
    branches = "\n".join(f"jz {at}f\n{at}: inc %rbx" for at in range(number))
    text = f".globl f\n.type f, @function\nf: mov $7, %eax\ncpuid\ntest $32, %ebx\njnz 1f\nret\n1: {branches}\n"
    path = assemble(tmp_path, text + "vpaddd %ymm0, %ymm0, %ymm0\nret\n.size f, .-f")
    assert list(cpufeat.audit(path).bare) == bare


def test_damaged_code_is_audited_without_an_error(tmp_path: Path) -> None:
    """Flipped bytes of code make other programs: each has its answers, in the same words, and soon."""
    whole = compiled(tmp_path / "cases", "gcc", "-O2", "-c").read_bytes()
    audit = cpufeat.audit(whole)
    start = whole.find(bytes.fromhex("c5fdfec0"))
    chance = random.Random(5496)
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            changed[chance.randrange(start, start + 2000)] = chance.randrange(256)
        other = cpufeat.audit(bytes(changed))
        assert other.bare <= other.needs
        assert all(function.guarded in (True, False, None) and function.why for function in other.functions)
    assert audit.bare
