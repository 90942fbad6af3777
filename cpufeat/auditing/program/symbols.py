"""Look up symbols by address: the objects of data that they name, and names for messages."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.auditing.formats.image import Image, Symbol


class Symbols:
    """An index of the symbols of an image."""

    def __init__(self, image: Image) -> None:
        """Index the symbols when they are first looked up."""
        self._image = image

    @cached_property
    def _by_address(self) -> dict[int, list[Symbol]]:
        symbols: dict[int, list[Symbol]] = {}
        for symbol in self._image.symbols:
            symbols.setdefault(symbol.address, []).append(symbol)
        return symbols

    def at(self, address: int) -> Sequence[Symbol]:
        """Return the symbols of an address."""
        return self._by_address.get(address, ())

    @cached_property
    def _objects(self) -> list[tuple[int, int]]:
        """Start and end of each object of data whose size a symbol gives."""
        objects = (symbol for symbol in self._image.symbols if symbol.kind == "data" and symbol.size)
        return sorted({(symbol.address, symbol.address + symbol.size) for symbol in objects})

    def object_at(self, address: int) -> tuple[int, int] | None:
        """Return the start and end of the object of data around an address, None if no symbol gives one."""
        at = bisect_right(self._objects, (address, 1 << 64)) - 1
        return self._objects[at] if at >= 0 and address < self._objects[at][1] else None

    def last_object_end(self, address: int) -> int:
        """Return the end of the last object before an address whose size a symbol gives, 0 if there is none."""
        at = bisect_right(self._objects, (address,)) - 1
        return self._objects[at][1] if at >= 0 else 0

    def describe(self, address: int) -> str:
        """Return a name for messages of what is at an address: a symbol, or a section and an offset."""
        external = self._image.externals.get(address - address % self._image.spacing)
        if external:
            return external
        sized = self.object_at(address)
        name = self._image.name_of(sized[0] if sized else address)
        section = self._image.section_at(address)
        return name or (f"{section.name}+{address - section.address:#x}" if section else f"{address:#x}")
