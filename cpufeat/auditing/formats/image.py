"""What the analyses see of a binary, whatever its format: sections, functions, symbols, and where pointers lead.

Everything in an image is an address of one space. Where the file gives none, the reader makes one up: the sections of
an object are laid out one after another with their relocations applied, and what other files define (``externals``)
stands above them all. So a call, a pointer and a RIP-relative operand lead to an address in every kind of file.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

SPACING = 64
"""Bytes that are reserved by default for each thing that another file defines: operands may add an offset to it."""


class Function(NamedTuple):
    """A stretch of code, from ``start`` to before ``end``."""

    start: int
    end: int
    name: str
    """As the file spells it, without demangling; empty where it has none."""


class Symbol(NamedTuple):
    """A name that the file itself defines."""

    address: int
    size: int
    """In bytes, 0 where the file does not say."""
    name: str
    kind: str
    """``function``, ``resolver`` (what an ELF ``ifunc`` names), ``data`` or ``label`` (of no stated type)."""
    visible: bool
    """Whether other files can refer to it: in objects a global symbol, in linked files an exported one."""


class Section(Value):
    """A part of the file that is in memory at run time: a section, or a segment of a file without sections."""

    name: str
    address: int
    content: memoryview
    """Empty for what starts as zeros; in objects with the relocations applied."""
    size: int
    """In memory."""
    executable: bool
    writable: bool
    alignment: int
    """In an object, all that is known of its final address; 1 where the file does not say."""
    offset: int
    """In the file (or the member of an archive)."""

    @property
    def end(self) -> int:
        """The address after its last byte."""
        return self.address + self.size


class Image(Value):
    """One program, library or object: the file, a member of an archive, or one architecture of a universal binary."""

    name: str
    """Of the file, and in brackets of the member."""
    format: str
    """The name of a row of :data:`cpufeat.auditing.formats.loader.FORMATS`: ``ELF``."""
    arch: str
    """Our name (``x86_64``), or the format's own for one that has no tables."""
    bits: int
    """Of a pointer: 32 or 64."""
    kind: str
    """``object``, ``executable`` or ``library``."""
    sections: tuple[Section, ...]
    """By address, without overlap."""
    symbols: tuple[Symbol, ...]
    functions: tuple[Function, ...]
    """By address, without overlap: from symbols and unwind tables. Code outside of them belongs to nothing known."""
    data: tuple[tuple[int, int], ...]
    """By address: stretches of executable sections that the file itself says hold no code."""
    pointers: Mapping[int, int]
    """Where a relocation stores an address, and that address (without the bias of position-independent files)."""
    externals: Mapping[int, str]
    """The made-up addresses of what other files define, and its name."""
    entry: int | None
    """Where an executable starts."""
    bases: tuple[int, ...] = (0,)
    """What offsets in jump tables may count from: 0 for addresses; the image base of PE files."""
    narrow: frozenset[int] = frozenset()
    """In objects: where a relocation stores an address in fewer bytes than a pointer has."""
    spacing: int = SPACING
    """Bytes that are kept free for each of :attr:`externals`."""
    resolvers: frozenset[int] = frozenset()
    """Functions that the loader calls to choose others (ELF's ``ifunc``), whether or not a symbol says so."""

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
        """Return the section that is at an address."""
        at = bisect_right(self._section_starts, address) - 1
        return self.sections[at] if at >= 0 and address < self.sections[at].end else None

    def function_at(self, address: int) -> Function | None:
        """Return the function that an address lies in."""
        at = bisect_right(self._function_starts, address) - 1
        return self.functions[at] if at >= 0 and address < self.functions[at].end else None

    def name_of(self, address: int) -> str:
        """Return the name of what begins at an address, empty if there is none."""
        return self._names.get(address, "")

    def bytes_at(self, address: int, size: int) -> bytes:
        """Return up to ``size`` bytes of the file at an address; fewer where its section ends."""
        section = self.section_at(address)
        return bytes(section.content[address - section.address :][:size]) if section else b""

    def place_of(self, address: int) -> str:
        """Return an address as tools print it: in an object section and offset, ``.text+0x40``."""
        section = self.section_at(address) if self.kind == "object" else None
        return f"{section.name}+{address - section.address:#x}" if section else f"{address:#x}"
