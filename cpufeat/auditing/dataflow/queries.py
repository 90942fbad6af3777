"""Look up the functions and variables by which a program asks what the CPU can do (``data/queries.tsv``)."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from cpufeat import tables
from cpufeat.auditing.formats.image import Symbol
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.formats.image import Section
    from cpufeat.auditing.program.functions import Program

_WORD = 4
_BL = 0x94000000
_FIRST_INSTRUCTIONS = 24
"""Bytes before the call."""
_IF_EQUAL = rb"[\x00\x20\x40\x60\x80\xa0\xc0\xe0]..\x54"
_GETAUXVAL = re.compile(
    rb"(?:\x5f\x24\x03\xd5)?\x1f\x40\x00\xf1" + _IF_EQUAL + rb"\x1f\x68\x00\xf1" + _IF_EQUAL, re.DOTALL
)
"""The start of glibc's (``misc/getauxval.c``): BTI C; CMP X0, #AT_HWCAP; B.EQ; CMP X0, #AT_HWCAP2; B.EQ."""


class Query(NamedTuple):
    """A row of ``data/queries.tsv``."""

    answer: str
    """``returns``, ``points``, ``fills``, ``lists``, ``holds`` or ``resolvers``: see the table."""
    numbers: frozenset[int]
    """The first arguments for which the answer is about the CPU; empty: all."""


class Queries:
    """The queries that one program can make, by address."""

    def __init__(self, program: Program) -> None:
        """Look the names of a program up in the table."""
        self._program, self._image = program, program.image
        self._rows = {
            name: Query(answer, frozenset(map(int, numbers.replace("*", "").split())))
            for name, answer, numbers, _ in tables.rows("queries.tsv")
        }
        external = {address: self._named(name) for address, name in self._image.externals.items()}
        defined = {symbol.address: self._named(symbol.name) for symbol in self.own_functions()}
        self._by_address = {address: query for address, query in (external | defined).items() if query}

    def _named(self, name: str) -> Query | None:
        """Return the query of a symbol's name; names of Mach-O begin with `_`."""
        apple = self._program.convention.asks_system and self._image.format == "Mach-O"
        return self._rows.get(name.removeprefix("_") if apple else name)

    def __iter__(self) -> Iterator[int]:
        """Yield the addresses, most of them in other files, that answer a query."""
        return iter(self._by_address)

    def at(self, address: int) -> Query | None:
        """Return the query that what is at an address answers: data or a function, of this or another file."""
        return self._by_address.get(address)

    def own_functions(self) -> list[Symbol]:
        """Return the functions of the file itself that return the system's answers, about the CPU or other things.

        None where programs ask the CPU itself: there they are found by their instructions.
        """
        if not self._program.convention.asks_system:
            return []
        functions = [symbol for symbol in self._image.symbols if symbol.kind == "function"]
        named = [symbol for symbol in functions if (query := self._named(symbol.name)) and query.answer == "returns"]
        return named or list(self._nameless_getauxval())

    def _nameless_getauxval(self) -> Iterator[Symbol]:
        """Yield glibc's ``getauxval`` where its symbol was stripped: in the loader, and in static programs.

        It compares its argument itself, or first calls the function that does.
        """
        for section in self._program.executable_sections():
            for match in _GETAUXVAL.finditer(section.content):
                if match.start() % _WORD == 0:
                    start = section.address + match.start()
                    for address in (start, *self._first_callers(section, start)):
                        yield Symbol(address, 0, "getauxval", "function", False)

    def _first_callers(self, section: Section, callee: int) -> Iterator[int]:
        """Yield the starts of functions that call another one among their first instructions."""
        words = struct.iter_unpack("<I", section.content[: len(section.content) & -_WORD])
        for index, (word,) in enumerate(words):
            site = section.address + _WORD * index
            if word == _BL | (callee - site >> 2) & 0x3FFFFFF:
                caller = self._program.function_at(site)
                if caller and site - caller.start <= _FIRST_INSTRUCTIONS:
                    yield caller.start

    def own_data(self) -> list[Symbol]:
        """Return the data of the file itself that holds answers."""
        data = [symbol for symbol in self._image.symbols if symbol.kind == "data"]
        return [symbol for symbol in data if (query := self._named(symbol.name)) and query.answer == "holds"]

    def external_data(self, answer: str) -> set[int]:
        """Return the addresses of data in other files that gives an answer of a kind, every byte of it."""
        addresses = [address for address in self._image.externals if self._answer(address) == answer]
        return {byte for address in addresses for byte in range(address, address + self._image.spacing)}

    def _answer(self, address: int) -> str:
        return self._by_address[address].answer if address in self._by_address else ""

    def lists_functions(self, start: int) -> bool:
        """Tell whether a function stores the addresses of others for its caller, each with whether the CPU can run it.

        Such a function calls none of them.
        """
        queries = (self._named(symbol.name) for symbol in self._program.symbols.at(start))
        return any(query.answer == "lists" for query in queries if query)
