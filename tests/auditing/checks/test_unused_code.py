"""Functions to which nothing refers: shown to be unused, or only not seen to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build

import cpufeat
from cpufeat.auditing.report import CHECKED, UNREFERRED, UNUSED

if TYPE_CHECKING:
    from pathlib import Path

X86, ARM = "x86_64-linux-gnu", "aarch64-linux-gnu"
CODE = {
    X86: "{}: vpaddd %ymm0, %ymm0, %ymm0\n ret\n",
    ARM: ".arch_extension sve\n{}: add z0.s, z0.s, z1.s\n ret\n",
}
CHECK = {
    X86: ".globl ask\nask: mov $7, %eax\n xor %ecx, %ecx\n cpuid\n test $32, %ebx\n jz 1f\n call f\n1: ret\n",
    ARM: ".globl ask\nask: mov w0, #16\n bl getauxval\n tbz w0, #22, 1f\n bl f\n1: ret\n",
}


def reached(folder: Path, text: str, triple: str, *options: str) -> str:
    """How the function ``unused`` is reached, in a file that checks before it calls another."""
    names = "".join(f".type {name}, %function\n" for name in ("f", "ask", "unused"))
    source = folder / "text.s"
    code = "".join(CODE[triple].format(name) + f".size {name}, .-{name}\n" for name in ("f", "unused"))
    source.write_text(f"{names}{CHECK[triple]}.size ask, .-ask\n{code}{text}")
    audit = cpufeat.audit(build(folder / "built", *options, source, triple=triple))
    by_name = {function.name: function for function in audit.functions}
    assert by_name["f"].reached == CHECKED
    assert bool(by_name["unused"].bare) == (by_name["unused"].reached != UNUSED)
    return by_name["unused"].reached


@pytest.mark.parametrize("options", [("-c",), ("-shared", "-fPIC")], ids=["object", "library"])
def test_a_local_function_whose_address_nothing_makes_is_unused(options: tuple[str, ...], tmp_path: Path) -> None:
    assert reached(tmp_path, "", X86, *options) == UNUSED


def test_an_object_for_arm_tells_too(tmp_path: Path) -> None:
    assert reached(tmp_path, "", ARM, "-c") == UNUSED


PAGE_OF_UNUSED = ".text\n.globl names\nnames: adrp x0, unused\n ret\n"


@pytest.mark.parametrize(("text", "expected"), [("", UNUSED), (PAGE_OF_UNUSED, UNREFERRED)])
def test_a_library_for_arm_tells_unless_another_function_may_complete_the_address(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert reached(tmp_path, text, ARM, "-shared") == expected


FIXED = ("-nostdlib", "-static", "-Wl,-e,ask")


def test_a_program_at_a_fixed_address_tells_if_no_data_holds_the_address(tmp_path: Path) -> None:
    assert reached(tmp_path, "", X86, *FIXED) == UNUSED
    assert reached(tmp_path, ".data\n .byte 0\n .long unused\n", X86, *FIXED) == UNREFERRED


@pytest.mark.parametrize(("text", "expected"), [("", UNUSED), (".data\n .byte 0\n .rva unused\n", UNREFERRED)])
def test_a_dll_tells_if_no_data_holds_the_distance_from_its_base(text: str, expected: str, tmp_path: Path) -> None:
    source = tmp_path / "text.s"
    source.write_text(DLL + text)
    audit = cpufeat.audit(build(tmp_path / "x.dll", "-shared", "-nostdlib", source, triple="x86_64-windows-gnu"))
    words = sorted((function.start, function.reached) for function in audit.functions)
    assert [word for _, word in words] == [CHECKED, expected]


DLL = """
.text
.globl DllMainCRTStartup
DllMainCRTStartup:
.seh_proc DllMainCRTStartup
 mov $7, %eax
 xor %ecx, %ecx
.seh_endprologue
 cpuid
 test $32, %ebx
 jz 1f
 call used
1: ret
.seh_endproc
used:
.seh_proc used
.seh_endprologue
 vpaddd %ymm0, %ymm0, %ymm0
 ret
.seh_endproc
unused:
.seh_proc unused
.seh_endprologue
 vpaddd %ymm0, %ymm0, %ymm0
 ret
.seh_endproc
"""

DISTANCES = {
    "from their own place": ".section .rodata\n .balign 4\n .long unused - .\n",
    "from the start of their table": """.section .rodata
 .balign 4
table: .long f - table, unused - table
.text
.globl names
names: lea table(%rip), %rax
 ret
""",
}


@pytest.mark.parametrize("text", DISTANCES.values(), ids=DISTANCES)
@pytest.mark.parametrize("options", [("-c",), ("-shared", "-fPIC")], ids=["object", "library"])
def test_a_function_to_which_a_distance_in_data_leads_may_be_used(
    options: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    assert reached(tmp_path, text, X86, *options) == UNREFERRED


def test_a_relocation_of_an_unknown_type_may_refer_to_anything(tmp_path: Path) -> None:
    assert reached(tmp_path, ".data\n .byte ask\n", X86, "-c") == UNREFERRED
