"""Read the ranges of functions from the unwind table ``.eh_frame`` (LSB Core, "Exception Frames").

Stripped files have it too: exceptions and backtraces need it at run time.
"""

from __future__ import annotations

import struct

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_POINTERS = {0x2: "H", 0x3: "I", 0x4: "Q", 0xA: "h", 0xB: "i", 0xC: "q"}
"""The format of a pointer in DW_EH_PE_*, as the struct module writes it; 0 stands for the width of an address."""
_RELATIVE = 0x10
"""DW_EH_PE_pcrel: relative to the address of the pointer itself."""
_OMITTED = 0xFF
"""DW_EH_PE_omit."""
_EXTENDED_LENGTH = 0xFFFFFFFF
"""The mark in place of a length which says that the length follows in 64 bits."""


def frame_ranges(content: memoryview, address: int, order: str, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each function in ``.eh_frame`` at an address, up to the first damage."""
    try:
        yield from _ranges(content, address, order, bits)
    except (struct.error, IndexError, KeyError, ValueError):
        return


def _ranges(content: memoryview, address: int, order: str, bits: int) -> Iterator[tuple[int, int]]:
    forms: dict[int, tuple[struct.Struct, int]] = {}
    word = struct.Struct(order + "I")
    mask = (1 << bits) - 1
    at = 0
    while at + 4 <= len(content):
        (length,) = word.unpack_from(content, at)
        wide = length == _EXTENDED_LENGTH
        if wide:
            (length,) = struct.unpack_from(order + "Q", content, at + 4)
        field = at + (12 if wide else 4)
        if length == 0:  # the end of crtend.o's table; the table of crtbegin.o may precede others
            at = field
            continue
        (distance,) = word.unpack_from(content, field)
        if distance:
            common = field - distance
            if common not in forms:
                forms[common] = _form(bytes(content[common + 8 : common + 64]), order, bits)
            form, relative = forms[common]
            start, size = form.unpack_from(content, field + 4)
            start = (start + (address + field + 4) * relative) & mask
            yield start, start + (size & mask)
        at = field + length


def _form(record: bytes, order: str, bits: int) -> tuple[struct.Struct, int]:
    """Return the format of the two pointers in the FDEs of a CIE, and 1 if the first is relative to itself, else 0.

    ``record``: the CIE from its version on.
    """
    names_end = record.index(0, 1)
    names = record[1:names_end]
    at = names_end + 1
    for _ in range(2):  # the alignments of code and data
        at = _past_leb128(record, at)
    at = at + 1 if record[0] == 1 else _past_leb128(record, at)  # the register of the return address
    encoding = 0
    if names[:1] == b"z":
        at = _past_leb128(record, at)
        for name in names[1:]:
            if name == ord("R"):
                encoding = record[at]
                break
            if name == ord("P"):
                at += 1 + _width(record[at], bits)
            elif name == ord("L"):
                at += 1
    if encoding == _OMITTED:
        raise KeyError(encoding)
    letter = _letter(encoding, bits)
    return struct.Struct(f"{order}{letter}{letter}"), int(encoding & 0x70 == _RELATIVE)


def _letter(encoding: int, bits: int) -> str:
    return _POINTERS[encoding & 0xF] if encoding & 0xF else {32: "I", 64: "Q"}[bits]


def _width(encoding: int, bits: int) -> int:
    return struct.calcsize(f"={_letter(encoding, bits)}")


def _past_leb128(record: bytes, at: int) -> int:
    while record[at] & 0x80:
        at += 1
    return at + 1
