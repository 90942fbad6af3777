"""Read the unwind table ``.eh_frame``: the ranges of functions, personality routines and landing pads.

Sources: LSB Core, "Exception Frames"; GCC's ``unwind-pe.h`` and ``eh_personality.cc``. Stripped files have it too, for
exceptions and backtraces.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_POINTERS = {0x2: "H", 0x3: "I", 0x4: "Q", 0xA: "h", 0xB: "i", 0xC: "q"}
"""The format of a pointer in DW_EH_PE_*, as the struct module writes it; 0 stands for the width of an address."""
_RELATIVE = 0x10
"""DW_EH_PE_pcrel: relative to the address of the pointer itself."""
_INDIRECT = 0x80
"""DW_EH_PE_indirect: the address of a pointer to what is meant."""
_OMITTED = 0xFF
"""DW_EH_PE_omit."""
_LEB128 = 0x1
"""DW_EH_PE_uleb128."""
_LARGEST_TABLE = 1 << 16
"""Bytes."""
_EXTENDED_LENGTH = 0xFFFFFFFF
"""The mark in place of a length which says that the length follows in 64 bits."""


class Handler(NamedTuple):
    """A personality routine, which the unwinder calls."""

    address: int
    indirect: bool
    """Whether that is the address of a pointer to it."""


class UnwindTable:
    """What one ``.eh_frame`` tells, up to the first damage."""

    def __init__(self, content: memoryview, address: int, order: str, bits: int, *, cut: bool = False) -> None:
        """Read a table at an address. ``cut``: other data follows what ends the table."""
        self.ranges: list[tuple[int, int]] = []
        """Start and end of each function."""
        self.handlers: set[Handler] = set()
        self.exception_tables: list[tuple[int, int]] = []
        """The start of each function that handles exceptions, and the address of its table (LSDA)."""
        self._content, self._address, self._order, self._bits = content, address, order, bits
        try:
            self._read(cut)
        except (struct.error, IndexError, KeyError, ValueError):
            return

    def personalities(self, pointed: Callable[[int, int], Iterable[int]]) -> Iterator[int]:
        """Yield the personality routines; ``pointed`` gives where the pointers in a range of addresses lead."""
        for handler in self.handlers:
            end = handler.address + self._bits // 8
            yield from pointed(handler.address, end) if handler.indirect else (handler.address,)

    def _read(self, cut: bool) -> None:
        content, mask = self._content, (1 << self._bits) - 1
        forms: dict[int, _Form] = {}
        word = struct.Struct(self._order + "I")
        at = 0
        while at + 4 <= len(content):
            (length,) = word.unpack_from(content, at)
            wide = length == _EXTENDED_LENGTH
            if wide:
                (length,) = struct.unpack_from(self._order + "Q", content, at + 4)
            field = at + (12 if wide else 4)
            if length == 0:  # the end of crtend.o's table; the table of crtbegin.o may precede others
                if cut:
                    return
                at = field
                continue
            (distance,) = word.unpack_from(content, field)
            if distance:
                common = field - distance
                if common not in forms:
                    forms[common] = self._form(common + 8)
                form = forms[common]
                start, size = form.bounds.unpack_from(content, field + 4)
                start = (start + (self._address + field + 4) * form.relative) & mask
                self.ranges.append((start, start + (size & mask)))
                if form.tables is not None:
                    self._add_exception_table(start, form.tables, field + 4 + form.bounds.size)
            at = field + length

    def _add_exception_table(self, start: int, encoding: int, at: int) -> None:
        at = _past_leb128(self._content, at)  # the size of what the augmentation adds
        if any(self._content[at : at + _width(encoding, self._bits)]):
            self.exception_tables.append((start, self._pointer(encoding, at)))

    def _form(self, at: int) -> _Form:
        """Return the format of the FDEs of a CIE, whose version is at an offset, and note its personality routine."""
        record = bytes(self._content[at : at + 64])
        names_end = record.index(0, 1)
        names = record[1:names_end]
        place = names_end + 1
        for _ in range(2):  # the alignments of code and data
            place = _past_leb128(record, place)
        place = place + 1 if record[0] == 1 else _past_leb128(record, place)  # the register of the return address
        encoding, tables = 0, None
        if names[:1] == b"z":
            place = _past_leb128(record, place)
            for name in names[1:]:
                if name == ord("R"):
                    encoding = record[place]
                    break
                if name == ord("P"):
                    if record[place] != _OMITTED:
                        address = self._pointer(record[place] & ~_INDIRECT, at + place + 1)
                        self.handlers.add(Handler(address, bool(record[place] & _INDIRECT)))
                    place += 1 + _width(record[place], self._bits)
                elif name == ord("L"):
                    tables = None if record[place] == _OMITTED else record[place]
                    place += 1
        if encoding == _OMITTED:
            raise KeyError(encoding)
        letter = _letter(encoding, self._bits)
        bounds = struct.Struct(f"{self._order}{letter}{letter}")
        return _Form(bounds, int(encoding & 0x70 == _RELATIVE), tables)

    def _pointer(self, encoding: int, at: int) -> int:
        """Return the pointer at an offset. An encoding without an own meaning here counts as an absolute address."""
        value: int = struct.unpack_from(self._order + _letter(encoding, self._bits), self._content, at)[0]
        return (value + (self._address + at) * (encoding & 0x70 == _RELATIVE)) & (1 << self._bits) - 1


class _Form(NamedTuple):
    """The format of the FDEs of a CIE."""

    bounds: struct.Struct
    relative: int
    """1 if the start of a function is relative to itself, else 0."""
    tables: int | None
    """The encoding of the address of exception tables, None without."""


def landing_pads(
    function: int, table: int, bytes_at: Callable[[int, int], bytes], order: str, bits: int
) -> Iterator[tuple[int, int]]:
    """Yield the landing pads outside of a function, and the calls that lead to them, of its exception table.

    Only a table with a base of its own for landing pads (LPStart) has such pads: those of a function in two parts.
    """
    head = bytes_at(table, 1)
    if head in (b"", bytes([_OMITTED])):
        return
    try:
        yield from _pads(function, table, bytes_at(table, _LARGEST_TABLE), order, bits)
    except (struct.error, IndexError, KeyError):
        return


def _pads(function: int, table: int, content: bytes, order: str, bits: int) -> Iterator[tuple[int, int]]:
    (base,) = struct.unpack_from(order + _letter(content[0], bits), content, 1)
    base += (table + 1) * (content[0] & 0x70 == _RELATIVE)
    at = 1 + _width(content[0], bits)
    if content[at] != _OMITTED:  # the encoding of types
        at = _past_leb128(content, at + 1) - 1
    encoding, (size, at) = content[at + 1], _leb128(content, at + 2)
    end = min(at + size, len(content))
    while at < end:
        if encoding & 0xF == _LEB128:
            start, at = _leb128(content, at)
            _, at = _leb128(content, at)
            pad, at = _leb128(content, at)
        else:
            width = _width(encoding, bits)
            start, _, pad = struct.unpack_from(order + 3 * _letter(encoding, bits), content, at)
            at += 3 * width
        at = _past_leb128(content, at)  # the action
        if pad:
            yield base + pad & (1 << bits) - 1, function + start


def _letter(encoding: int, bits: int) -> str:
    return _POINTERS[encoding & 0xF] if encoding & 0xF else {32: "I", 64: "Q"}[bits]


def _width(encoding: int, bits: int) -> int:
    return struct.calcsize(f"={_letter(encoding, bits)}")


def _past_leb128(record: bytes | memoryview, at: int) -> int:
    while record[at] & 0x80:
        at += 1
    return at + 1


def _leb128(record: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned number at an offset, and the offset after it."""
    end = _past_leb128(record, at)
    return sum((byte & 0x7F) << 7 * number for number, byte in enumerate(record[at:end])), end
