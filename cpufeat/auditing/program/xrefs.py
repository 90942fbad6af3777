"""Define the interface of the finders of references in code, one for each architecture."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Step


class Reference(NamedTuple):
    """An instruction that names an address."""

    site: int
    """The address of the instruction."""
    function: Function
    """The function that it belongs to."""
    target: int
    """The address that it names."""


class XrefFinder(Protocol):
    """Finds the instructions of one program that name an address."""

    STUB_LEAD: int
    """The most bytes from the start of a stub to the last byte of its instruction that names the pointer."""

    def xrefs_to(self, low: int, high: int, but: Function | None = None) -> Iterator[Reference]:
        """Yield the instructions that name an address from ``low`` to before ``high``; some perhaps twice.

        Those of the function ``but`` are left out.
        """

    def makes_parts_of(self, address: int) -> bool:
        """Tell whether an instruction makes a part of an address, which another may complete elsewhere."""

    def switch_targets(self, function: Function, pointed: Collection[int]) -> Callable[[Step], Collection[int]]:
        """Return a function from the indirect jumps of a function to the addresses in it that they may lead to.

        ``pointed`` are the addresses in the function to which pointers in data lead.
        """
