"""APX: the length and the features of each instruction that clang's assembler encodes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import assemble, build_kernel

import cpufeat

if TYPE_CHECKING:
    from pathlib import Path

ADDED = {
    "imulq %r17, %r18": "egpr",
    "addq %r16, (%rax,%r20)": "egpr",
    "lock addq %r16, (%rax)": "egpr",
    "addl %gs:(%r16), %r17d": "egpr",
    "movw $5, %r16w": "egpr",
    "movabsq $0x1234567890abcdef, %r21": "egpr",
    "movzbl (%r16), %eax": "egpr",
    "cvtsi2sd %r16, %xmm0": "egpr",
    "vcvtsd2si %xmm19, %r16": "avx512f egpr",
    "call *%r17": "egpr",
    "{evex} addb $3, %al": "egpr",
    "pushp %rbx": "ppx",
    "push2 %rbx, %rcx": "push2pop2",
    "pop2p %r14, %r15": "ppx push2pop2",
    "{nf} addq %rax, %rbx": "nf",
    "addq $300000, %rbx, %rcx": "ndd",
    "subw $300, %bx, %cx": "ndd",
    "{nf} addq %r16, %rbx, %rcx": "egpr ndd nf",
    "addq %rax, %rbx, %r16": "egpr ndd",
    "shldq $3, %rax, %rbx, %rcx": "ndd",
    "shldq %cl, %rax, %rbx, %rcx": "ndd",
    "negq %rax, %rbx": "ndd",
    "{nf} imulq $100000, %rax, %rbx": "nf",
    "imulzuw $100, %ax, %bx": "zu",
    "setzune %al": "zu",
    "ccmpeq {dfv=zf} %rax, %rbx": "ccmp",
    "ccmplq {dfv=} $300000, (%rax)": "ccmp",
    "ctestneq {dfv=of} $5, %rax": "ccmp",
    "cmovneq %rax, %rbx, %rcx": "ndd",
    "cfcmovneq %rax, %rbx": "cf",
    "{nf} popcntq %rax, %rbx": "nf popcnt",
    "{nf} lzcntq %rax, %rbx": "lzcnt nf",
    "movbeq (%r16), %rbx": "egpr movbe",
    "adcxq %rax, %rbx, %rcx": "adx ndd",
    "crc32q %r16, %rbx": "crc32 egpr",
    "{nf} andnq %rax, %rbx, %rcx": "bmi nf",
    "rorxq $3, %r17, %rax": "bmi2 egpr",
    "cmpbexadd %r16, %rax, (%rbx)": "cmpccxadd egpr",
    "movdiri %rax, (%r16)": "egpr movdiri",
    "vaddpd (%r16), %zmm0, %zmm1": "avx512f egpr",
    "vmovdqu64 64(%rax,%r17,8), %ymm20": "avx512f avx512vl egpr",
    "kmovq (%r16), %k1": "avx512bw egpr",
    "tileloadd (%r16,%rax), %tmm0": "amx_tile egpr",
}
"""Instruction -> all features that it needs."""
APX = "egpr+ndd+nf+push2pop2+ppx+ccmp+zu"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> cpufeat.Audit:
    functions = (
        f".type f{index}, @function\nf{index}: {line}\nret\n.size f{index}, .-f{index}"
        for index, line in enumerate(ADDED)
    )
    return cpufeat.audit(assemble(tmp_path_factory.mktemp("apx"), "\n".join(functions) + "\n"))


def test_the_length_of_every_apx_instruction_is_known(audit: cpufeat.Audit) -> None:
    assert audit.undecoded == ()
    assert all(function.certain for function in audit.functions)


@pytest.mark.parametrize(("index", "line"), list(enumerate(ADDED)))
def test_an_instruction_needs_what_apx_adds_and_what_it_needed_before(
    audit: cpufeat.Audit, index: int, line: str
) -> None:
    function = next(function for function in audit.functions if function.name == f"f{index}")
    assert " ".join(sorted(function.uses)) == ADDED[line]


@pytest.mark.parametrize("name", ["base64.c", "dot.c", "matrix.c", "print.c", "scan.c"])
def test_clangs_code_for_apx_is_decoded_wholly(tmp_path: Path, name: str) -> None:
    with_apx = cpufeat.audit(build_kernel(tmp_path, triple="x86_64-linux-gnu", cpu=f"x86_64_v3+{APX}", name=name))
    without = cpufeat.audit(build_kernel(tmp_path, triple="x86_64-linux-gnu", cpu="x86_64_v3", name=name))
    assert with_apx.undecoded == ()
    assert set(with_apx.needs) - set(without.needs) <= {*APX.split("+"), *cpufeat.Target.parse("x86-64-v3").features}
    assert set(with_apx.needs) & set(APX.split("+"))
