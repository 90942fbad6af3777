"""List the addresses of code and data that are reached from outside of the file: by loaders, run times, other files."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property

from cpufeat.auditing.formats.image import RESOLVER, WayIn
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.formats.image import Image, Symbol

EXPORTED = WayIn("exported", at_load=False)
"""Other files may refer to it by its symbol."""
_MODULE_ENTRY = WayIn("called by Python when it imports the module", at_load=True)
_MODULE = ("PyInit_", "PyInitU_")
"""The entry point of a Python extension module (PEP 489). Nothing links with one: its other exports are not used."""


class EntryPoints:
    """The ways in to the addresses of one image."""

    def __init__(self, image: Image) -> None:
        """List them when they are first looked up."""
        self._image = image

    def between(self, low: int, high: int) -> list[tuple[int, WayIn]]:
        """Return the addresses from ``low`` to before ``high`` that are entered from outside, and how."""
        start, end = bisect_left(self._pairs, (low,)), bisect_left(self._pairs, (high,))
        return self._pairs[start:end]

    @cached_property
    def _pairs(self) -> list[tuple[int, WayIn]]:
        image = self._image
        pairs = {*image.ways_in.items(), *((address, RESOLVER) for address in image.resolvers), *self._exports()}
        return sorted(pairs)

    def _exports(self) -> Iterator[tuple[int, WayIn]]:
        visible = [symbol for symbol in self._image.symbols if symbol.visible]
        entries = [symbol for symbol in visible if self._is_module_entry(symbol)]
        way = _MODULE_ENTRY if entries else EXPORTED
        yield from ((symbol.address, way) for symbol in entries or visible)

    def _is_module_entry(self, symbol: Symbol) -> bool:
        """Tell whether a symbol is the entry point of a Python extension module; names of Mach-O begin with `_`."""
        return symbol.name.removeprefix("_" if self._image.format == "Mach-O" else "").startswith(_MODULE)
