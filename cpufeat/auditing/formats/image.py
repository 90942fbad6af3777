"""Define the image of a binary, alike for every format: sections, functions, symbols and pointers in one address space.

The reader makes up the addresses that a file does not have: it lays out the sections of an object one after another,
applies their relocations, and places what other files define (``externals``) above them. So calls, pointers and
RIP-relative operands lead to an address in every kind of file.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPACING = 64
"""Bytes that are reserved by default for each thing that another file defines: operands may add an offset to it."""

_FIRST_FIXED = 0x10000
"""The lowest address of an executable that is loaded at a fixed address: position-independent ones begin at 0."""


class Function(NamedTuple):
    """A function: the code from ``start`` to before ``end``."""

    start: int
    end: int
    name: str
    """Its name in the file, not demangled; empty if there is none."""


class Symbol(NamedTuple):
    """A symbol that the file itself defines."""

    address: int
    size: int
    """In bytes, 0 if unknown."""
    name: str
    kind: str
    """``function``, ``resolver`` (what an ELF ``ifunc`` names), ``data`` or ``label`` (of no stated type)."""
    visible: bool
    """Whether other files can refer to it: it is global in an object, or exported by a linked file."""


class Section(Value):
    """A part of the file that is loaded into memory: a section, or a segment of a file without sections."""

    name: str
    address: int
    content: memoryview
    """The bytes in the file, none for zero-initialized data; in objects, with the relocations applied."""
    size: int
    """Bytes in memory."""
    executable: bool
    writable: bool
    alignment: int
    """In bytes, 1 if unknown. In an object, its final address will be a multiple of this."""
    offset: int
    """The offset from the start of the file, or of the member of an archive."""

    @property
    def end(self) -> int:
        """The address after its last byte."""
        return self.address + self.size


class WayIn(NamedTuple):
    """A way by which a loader or run time comes to an address by itself, without a reference in the code."""

    how: str
    """In words, after the name of what is there: ``called by the loader``."""
    at_load: bool
    """Whether that happens whenever the file is loaded or started."""
    leads_on: bool = False
    """Whether what it refers to runs at load too, and is not only prepared for later."""

    @property
    def rank(self) -> tuple[bool, bool]:
        """A key that sorts what runs at load first."""
        return (not self.leads_on, not self.at_load)


ENTRY = WayIn("the entry point", at_load=True)
INITIALISER = WayIn("called by the loader", at_load=True, leads_on=True)
FINALISER = WayIn("called by the loader at the end", at_load=False)
UNWINDER = WayIn("called when an exception is thrown", at_load=False)
RESOLVER = WayIn("called by the loader", at_load=True, leads_on=True)
THREAD_DATA = WayIn("in the initial data of threads", at_load=False)
RUN_TIME = WayIn("known to the Objective-C run time", at_load=False)
INTERPOSED = WayIn("called in place of a function of another library", at_load=False)


class Image(Value):
    """One program, library or object: the file, a member of an archive, or one architecture of a universal binary."""

    name: str
    """The name of the file, followed by that of the member in brackets."""
    format: str
    """The name of a row of :data:`cpufeat.auditing.formats.loader.FORMATS`: ``ELF``."""
    arch: str
    """cpufeat's name (``x86_64``), or the format's name of an architecture that is not in ``architectures.tsv``."""
    bits: int
    """The size of a pointer: 32 or 64."""
    kind: str
    """``object``, ``executable`` or ``library``."""
    sections: tuple[Section, ...]
    """By address, without overlap."""
    symbols: tuple[Symbol, ...]
    functions: tuple[Function, ...]
    """By address, without overlap, from symbols and unwind tables. There may be code outside of them."""
    data: tuple[tuple[int, int], ...]
    """Start and end of each part of an executable section that the file itself calls data, by address."""
    pointers: Mapping[int, int]
    """Address of each pointer that a relocation stores -> the address that it points to, before any load bias."""
    externals: Mapping[int, str]
    """Made-up address of each thing that another file defines -> its name."""
    entry: int | None
    """The entry point of an executable."""
    bases: tuple[int, ...] = (0,)
    """The bases that entries of jump tables may have: 0 for absolute addresses, and the image base of PE files."""
    narrow: frozenset[int] = frozenset()
    """The places in an object where a relocation stores an address in fewer bytes than a pointer has."""
    spacing: int = SPACING
    """Bytes that are reserved for each of :attr:`externals`."""
    resolvers: frozenset[int] = frozenset()
    """Starts of the functions that the loader calls to select others (ELF's ``ifunc``), with or without a symbol."""
    ways_in: Mapping[int, WayIn] = MappingProxyType({})
    """The ways in to addresses of code and of data, besides symbols and resolvers."""
    library: str = ""
    """The name by which programs ask for it (ELF's DT_SONAME), empty if there is none."""
    tells_references: bool = False
    """Whether all that makes an address can be seen: relocations, and instructions that hold a whole distance."""
    landing_pads: tuple[tuple[int, int], ...] = ()
    """Where exceptions lead out of a function: the landing pad and the address of the call, by landing pad."""

    @cached_property
    def is_fixed(self) -> bool:
        """Whether it is loaded at a fixed address, so that numbers in code and data may be addresses."""
        return self.kind == "executable" and min(self._section_starts, default=0) >= _FIRST_FIXED

    @cached_property
    def _section_starts(self) -> list[int]:
        return [section.address for section in self.sections]

    @cached_property
    def _function_starts(self) -> list[int]:
        return [function.start for function in self.functions]

    @cached_property
    def _names(self) -> dict[int, str]:
        return {symbol.address: symbol.name for symbol in reversed(self.symbols)} | dict(self.externals)

    def section(self, name: str) -> Section | None:
        """Return the first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def section_at(self, address: int) -> Section | None:
        """Return the section that an address is in."""
        at = bisect_right(self._section_starts, address) - 1
        return self.sections[at] if at >= 0 and address < self.sections[at].end else None

    def function_at(self, address: int) -> Function | None:
        """Return the function that an address is in."""
        at = bisect_right(self._function_starts, address) - 1
        return self.functions[at] if at >= 0 and address < self.functions[at].end else None

    def pointed(self, start: int, end: int) -> Iterator[int]:
        """Yield where the pointers of an array lead, whose entries begin from ``start`` on and end by ``end``."""
        width = self.bits // 8
        section = self.section_at(start)
        for place in range(start, min(end, section.end if section else start) - width + 1, width):
            if place in self.pointers:
                yield self.pointers[place]
            elif self.is_fixed:
                yield int.from_bytes(self.bytes_at(place, width), "little")

    def name_of(self, address: int) -> str:
        """Return the symbol or external name at an address, empty if there is none."""
        return self._names.get(address, "")

    def bytes_at(self, address: int, size: int) -> bytes:
        """Return up to ``size`` bytes of the file at an address; fewer at the end of its section."""
        section = self.section_at(address)
        return bytes(section.content[address - section.address :][:size]) if section else b""

    def place_of(self, address: int) -> str:
        """Return an address as tools print it: in an object section and offset, ``.text+0x40``."""
        section = self.section_at(address) if self.kind == "object" else None
        return f"{section.name}+{address - section.address:#x}" if section else f"{address:#x}"
