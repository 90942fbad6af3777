"""Find misaligned memory operands of x86 code, if their addresses are known at link time.

A legacy-SSE operand of 16 bytes faults (#GP, which POSIX systems report as SIGSEGV without an address) unless its
address is a multiple of 16; the VEX form of the same instruction does not. So a linker that loses a section's alignment
makes code that works on every machine with AVX and fails on the others (wasmer #5496). ``data/x86/alignment.tsv`` holds
what departs from that rule.

The address of an operand is constant if it is RIP-relative, relocated or absolute. In a linked file it is final modulo
the page, since loaders place segments at multiples of a page, whatever their ``p_align``. In an object only the
alignment of the section and the offset in it are known: linkers guarantee no more.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache

from cpufeat import tables
from cpufeat.auditing.report import Misaligned
from cpufeat.support.extras import extra
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from iced_x86 import Code_, Instruction, OpCodeInfo

    from cpufeat.auditing.formats.image import Image, Section

_LEGACY_SIZE = 16
"""Bytes of the legacy operands that must be aligned."""
_UNKNOWN = 1 << 12
"""The alignment that an address outside of all sections is taken to have: nothing can be said of it."""
_OPERAND = (
    rb"(?:[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]|(?P<absolute>[\x04\x0c\x14\x1c\x24\x2c\x34\x3c]\x25))"
    rb"(?P<displacement>.{4})"
)
"""ModRM (and SIB) of an operand with a displacement alone, which in 64-bit code without SIB is relative to RIP."""


def misaligned(image: Image) -> tuple[Misaligned, ...]:
    """Return the instructions whose memory operand must be aligned and is not, or in an object need not be, by address.

    Empty for other architectures than x86.
    """
    if image.arch not in ("x86_64", "i686"):
        return ()
    code = (section for section in image.sections if section.executable)
    ranges = {_code_around(image, section, at) for section in code for at in _suspects(image, section)}
    return tuple(fault for start, end in sorted(ranges) for fault in _faults(image, start, end))


def _suspects(image: Image, section: Section) -> Iterator[int]:
    """Yield the addresses in a section whose bytes look like an instruction with a misaligned operand.

    Decoding 20 million instructions to find none takes seconds; matching bytes finds too many, never too few.
    """
    for alignment, immediate, pattern in _patterns():
        for match in pattern.finditer(section.content):
            displacement = int.from_bytes(match["displacement"], "little", signed=True)
            if image.bits == 64 and match["absolute"] is None:
                displacement += section.address + match.end("displacement") + immediate
            if _alignment_at(image, displacement % (1 << image.bits)) < alignment:
                yield section.address + match.start()


def _code_around(image: Image, section: Section, address: int) -> tuple[int, int]:
    """Return the start and end of the function at an address, or of the gap between functions there."""
    function = image.function_at(address)
    if function:
        return function.start, function.end
    after = bisect_right(image.functions, address, key=lambda function: function.start)
    start = max(section.address, image.functions[after - 1].end if after else 0)
    return start, min([section.end, *[function.start for function in image.functions[after : after + 1]]])


def _faults(image: Image, start: int, end: int) -> Iterator[Misaligned]:
    """Yield the misaligned operands of the code from start to end."""
    with extra("audit"):
        from iced_x86 import Decoder

    function = image.function_at(start)
    for instruction in Decoder(image.bits, image.bytes_at(start, end - start), ip=start):
        needs = alignments().get(instruction.code, 1)
        operand = _constant_operand(instruction) if needs > 1 else None
        if operand is None or _is_data(image, instruction.ip):
            continue
        has = _alignment_at(image, operand)
        if has < needs:
            name = function.name if function else _place(image, start)
            yield Misaligned(instruction.ip, name, str(instruction), operand, _place(image, operand), needs, has)


def _constant_operand(instruction: Instruction) -> int | None:
    """Return the constant address of a memory operand, None if it depends on a register or is thread-local."""
    with extra("audit"):
        from iced_x86 import OpKind, Register

    if instruction.segment_prefix in (Register.FS, Register.GS):
        return None
    if instruction.is_ip_rel_memory_operand:
        return instruction.ip_rel_memory_address
    registers = (instruction.memory_base, instruction.memory_index)
    memory = any(kind == OpKind.MEMORY for kind in (instruction.op0_kind, instruction.op1_kind))
    return instruction.memory_displacement if memory and registers == (Register.NONE, Register.NONE) else None


def _is_data(image: Image, address: int) -> bool:
    """Tell whether the file marks an address in a section of code as data."""
    at = bisect_right(image.data, (address, 1 << 64)) - 1
    return at >= 0 and address < image.data[at][1]


def _alignment_at(image: Image, address: int) -> int:
    """Return the alignment in bytes that an address is sure to have when the program runs."""
    section = image.section_at(address)
    if section is None:
        return _UNKNOWN
    if image.kind == "object":
        offset = address - section.address
        return min(section.alignment, offset & -offset) if offset else section.alignment
    return address & -address if address else _UNKNOWN


def _place(image: Image, address: int) -> str:
    """Return a name for what is at an address: its symbol, and the section and offset."""
    section = image.section_at(address)
    position = f"{section.name}+{address - section.address:#x}" if section else f"{address:#x}"
    symbol = image.name_of(address)
    return f"{symbol} ({position})" if symbol else position


@cache
def alignments() -> dict[Code_, int]:
    """Return the required alignment in bytes of each ``Code`` of iced-x86 whose memory operand must be aligned."""
    with extra("audit"):
        from iced_x86 import Code, EncodingKind, MemorySizeInfo, Mnemonic, OpCodeInfo

    mnemonics = {value: name.lower() for name, value in vars(Mnemonic).items() if isinstance(value, int)}
    ruled = {(mnemonic, encodings): alignment for mnemonic, encodings, alignment, _ in tables.rows("x86/alignment.tsv")}
    required: dict[Code_, int] = {}
    codes: list[Code_] = [value for name, value in vars(Code).items() if name.isupper()]
    for code in codes:
        info = OpCodeInfo(code)
        size = MemorySizeInfo(info.memory_size).size
        encodings = "legacy" if info.encoding == EncodingKind.LEGACY else "vector"
        implied = "size" if encodings == "legacy" and size == _LEGACY_SIZE else ""
        rule = ruled.get((mnemonics[info.mnemonic], encodings), implied)
        if rule:
            required[code] = size if rule == "size" else int(rule)
    return required


@cache
def _patterns() -> tuple[tuple[int, int, re.Pattern[bytes]], ...]:
    """Return triples: alignment, bytes of the immediate, and a pattern of such instructions without legacy prefixes."""
    with extra("audit"):
        from iced_x86 import OpCodeInfo, OpCodeOperandKind

    opcodes: dict[tuple[int, int, bytes, bytes], set[int]] = {}
    for code, alignment in alignments().items():
        info = OpCodeInfo(code)
        immediate = int(OpCodeOperandKind.IMM8 in info.op_kinds())
        for first, rest in _heads(info, alignment):
            opcodes.setdefault((alignment, immediate, first, rest), set()).add(info.op_code)
    return tuple(
        # Only one byte is consumed: a match may lie inside of an instruction and overlap a real one.
        (alignment, immediate, re.compile(b"%b(?=%b%b%b)" % (first, rest, _any(last), _OPERAND), re.DOTALL))
        for (alignment, immediate, first, rest), last in opcodes.items()
    )


def _heads(info: OpCodeInfo, alignment: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield regular expressions of what precedes the opcode: of the first byte, and of the others."""
    with extra("audit"):
        from iced_x86 import EncodingKind, OpCodeTableKind

    if info.encoding == EncodingKind.LEGACY:
        yield rb"\x0f", {OpCodeTableKind.T0F38: rb"\x38", OpCodeTableKind.T0F3A: rb"\x3a"}.get(info.table, b"")
        return
    length = alignment.bit_length() - _LEGACY_SIZE.bit_length()
    if info.encoding == EncodingKind.VEX:
        vector = _any(byte for byte in range(256) if byte >> 2 & 1 == length)
        yield rb"\xc5", vector
        yield rb"\xc4", b"." + vector
    else:
        yield rb"\x62", b".." + _any(byte for byte in range(256) if byte >> 5 & 3 == length)


def _any(values: Iterable[int]) -> bytes:
    """Return a regular expression that matches any of these bytes."""
    return b"[%b]" % b"".join(b"\\x%02x" % value for value in sorted(values))
