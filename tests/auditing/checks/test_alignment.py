"""Misaligned memory operands: which instructions fault, by this CPU, and which operands of a file are found."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import iced_x86
import pytest
from helpers.build_binaries import assemble
from helpers.paths import SCRIPTS
from helpers.requirements import tool
from iced_x86 import Code, Decoder, EncodingKind, MemorySizeInfo, OpCodeInfo, OpCodeOperandKind, Register
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

import cpufeat
from cpufeat.auditing.checks.alignment import alignments, misaligned
from cpufeat.auditing.formats.loader import images

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = [
    OpCodeOperandKind.MEM,
    OpCodeOperandKind.XMM_OR_MEM,
    OpCodeOperandKind.YMM_OR_MEM,
    OpCodeOperandKind.ZMM_OR_MEM,
]
REGISTERS = {
    OpCodeOperandKind.XMM_REG: Register.XMM1,
    OpCodeOperandKind.XMM_VVVV: Register.XMM2,
    OpCodeOperandKind.YMM_REG: Register.YMM1,
    OpCodeOperandKind.YMM_VVVV: Register.YMM2,
    OpCodeOperandKind.ZMM_REG: Register.ZMM1,
    OpCodeOperandKind.ZMM_VVVV: Register.ZMM2,
    OpCodeOperandKind.MM_REG: Register.MM1,
}
PRIVILEGED = {"invept", "invpcid", "invvpid", "xsaves", "xsaves64", "xrstors", "xrstors64"}


def encoded(code: int) -> bytes:
    """An instruction of that opcode with memory at RDI; empty for one with operands of other kinds."""
    info = OpCodeInfo(code)  # type: ignore[arg-type]
    instruction = iced_x86.Instruction()
    instruction.code = code  # type: ignore[assignment]
    for number, kind in enumerate(info.op_kinds()):
        if kind in MEMORY:
            instruction.set_op_kind(number, iced_x86.OpKind.MEMORY)
            instruction.memory_base = Register.RDI
        elif kind in REGISTERS:
            instruction.set_op_kind(number, iced_x86.OpKind.REGISTER)
            instruction.set_op_register(number, REGISTERS[kind])
        elif kind == OpCodeOperandKind.IMM8:
            instruction.set_op_kind(number, iced_x86.OpKind.IMMEDIATE8)
        else:
            return b""
    encoder = iced_x86.Encoder(64)
    try:
        encoder.encode(instruction, 0)
    except ValueError:
        return b""
    return encoder.take_buffer()


def candidates() -> dict[int, bytes]:
    """Every opcode of 16 bytes of memory and more that user code can run, encoded."""
    encodings = {}
    for name, code in vars(Code).items():
        info = OpCodeInfo(code) if name.isupper() else None
        if info is None or not info.mode64 or info.is_privileged or name.split("_")[0].lower() in PRIVILEGED:
            continue
        vector = info.encoding in (EncodingKind.VEX, EncodingKind.EVEX)
        if (
            MemorySizeInfo(info.memory_size).size in (16, 32, 64) and (vector or info.encoding == EncodingKind.LEGACY)
        ) or code in alignments():
            encodings[code] = encoded(code)
    return {code: bytes_ for code, bytes_ in encodings.items() if bytes_}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="asks an x86-64 CPU")
def test_this_cpu_faults_where_the_table_says() -> None:
    """Each instruction at an address that is a multiple of 64, and at one that is not even of 16."""
    tried = candidates()
    runner = [sys.executable, "-I", str(SCRIPTS / "run_instructions.py")]
    text = "\n".join(code.hex() for code in tried.values())
    result = subprocess.run(runner, input=text, capture_output=True, text=True, check=True)
    statuses = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    asked = {code: off for code, (aligned, off) in zip(tried, statuses, strict=True) if aligned == 0}
    faulted = {code for code, off in asked.items() if off == -signal.SIGSEGV}
    names = {value: name for name, value in vars(Code).items() if name.isupper()}
    assert len(asked) > 250
    stated = {names[code] for code in asked if code in alignments()}
    lenient = {name for name in stated if name.startswith("SHA")}  # AMD's CPUs ask less than Intel's manual here
    assert {names[code] for code in faulted} | lenient == stated


def everything(image: cpufeat.auditing.formats.image.Image) -> set[tuple[int, int]]:
    """The operands of all functions that must be aligned and are not, by decoding every one."""
    covered = set()
    for function in image.functions:
        for instruction in Decoder(
            64, image.bytes_at(function.start, function.end - function.start), ip=function.start
        ):
            if instruction.code in alignments() and instruction.is_ip_rel_memory_operand:
                place = instruction.ip_rel_memory_address
                section = image.section_at(place)
                if section and (place - section.address) % alignments()[instruction.code]:
                    covered.add((instruction.ip, place))
    return covered


@pytest.mark.parametrize("shift", [8, 4])
def test_matching_bytes_finds_every_operand_that_decoding_finds(shift: int) -> None:
    """A library as if it were an object whose constants lie a few bytes off: then thousands of operands are wrong."""
    (image,) = images(_multiarray_umath.__file__)
    moved = tuple(
        section if section.executable else section.replace(address=section.address - shift, size=section.size + shift)
        for section in image.sections
    )
    image = image.replace(kind="object", sections=moved)
    faults = misaligned(image)
    wanted = everything(image)
    assert len(wanted) > 1000
    assert wanted <= {(fault.address, fault.operand) for fault in faults}


PLACES = """
.globl f
.type f, @function
f: {}
ret
.size f, .-f
.section .constants, "a", @progbits
.balign {}
.zero {}
constant: .quad 1, 2
"""


@pytest.mark.parametrize(
    ("instruction", "alignment", "offset", "has"),
    [
        ("punpckldq constant(%rip), %xmm0", 16, 0, None),
        ("punpckldq constant(%rip), %xmm0", 8, 0, 8),
        ("punpckldq constant(%rip), %xmm0", 16, 8, 8),
        ("punpckldq constant+4(%rip), %xmm0", 16, 0, 4),
        ("pshufd $1, constant(%rip), %xmm0", 16, 8, 8),
        ("pshufb constant(%rip), %xmm0", 16, 8, 8),
        ("palignr $3, constant(%rip), %xmm9", 16, 8, 8),
        ("movups constant(%rip), %xmm0", 16, 8, None),
        ("pcmpistri $3, constant(%rip), %xmm0", 16, 8, None),
        ("vpunpckldq constant(%rip), %xmm0, %xmm0", 16, 8, None),
        ("vmovdqa constant(%rip), %xmm0", 16, 8, 8),
        ("vmovdqa constant(%rip), %ymm0", 16, 0, 16),
        ("vmovdqa constant(%rip), %ymm12", 32, 0, None),
        ("vmovdqa64 constant(%rip), %zmm0", 32, 0, 32),
        ("vmovdqa64 constant(%rip), %zmm30{%k1}", 64, 0, None),
        ("cmpxchg16b constant(%rip)", 16, 8, 8),
        ("fxsave constant(%rip)", 16, 8, 8),
        ("xsave constant(%rip)", 32, 0, 32),
        ("movaps %fs:8, %xmm0", 16, 0, None),
        ("movaps 8(%rdi), %xmm0", 16, 0, None),
    ],
)
def test_operands_in_an_object_are_as_aligned_as_their_section_and_offset(
    instruction: str, alignment: int, offset: int, has: int | None, tmp_path: Path
) -> None:
    faults = cpufeat.audit(assemble(tmp_path, PLACES.format(instruction, alignment, offset))).misaligned
    assert [fault.has for fault in faults] == ([] if has is None else [has])
    assert all(fault.function == "f" and "constant" in fault.symbol for fault in faults if "+4" not in instruction)
    assert all(fault.instruction.split()[0] == instruction.split(maxsplit=1)[0] for fault in faults)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], True),
        ([(0, 1)], False),
        ([(0, 64)], False),
        ([(-8, 0)], True),
        ([(-8, 1)], False),
        ([(1, 64)], True),
        ([(-64, -8), (0, 1)], False),
        ([(-64, -8), (8, 64)], True),
    ],
)
def test_bytes_that_the_file_calls_data_are_no_instruction(
    data: list[tuple[int, int]], told: bool, tmp_path: Path
) -> None:
    """``data``: ranges from the misaligned instruction on, from the first byte to before the last."""
    (image,) = images(assemble(tmp_path, PLACES.format("punpckldq constant(%rip), %xmm0", 8, 0)))
    (fault,) = misaligned(image)
    ranges = tuple((fault.address + start, fault.address + end) for start, end in data)
    assert misaligned(image.replace(data=ranges)) == ((fault,) if told else ())


ABSOLUTE = """
.globl _start
_start: movaps odd, %xmm0
movaps even, %xmm0
ret
.data
.balign 16
even: .zero 8
odd: .zero 16
"""


@pytest.mark.parametrize("bits", ["-m64", "-m32"])
def test_operands_at_absolute_addresses_are_found(bits: str, tmp_path: Path) -> None:
    """In code for fixed addresses operands are absolute; in 32-bit code all are."""
    compiler = tool("gcc")
    source = tmp_path / "text.s"
    source.write_text(ABSOLUTE)
    command = [compiler, bits, "-nostdlib", "-no-pie", "-static", str(source), "-o", str(tmp_path / "program")]
    subprocess.run(command, check=True)
    (fault,) = cpufeat.audit(tmp_path / "program").misaligned
    assert (fault.function, fault.needs, fault.has) == ("_start", 16, 8)
    assert fault.symbol.startswith("odd (.data+0x8")
