"""What a module offers that finds the instructions that name an address, for one architecture."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.lifting.semantics import Step


class Reference(NamedTuple):
    """A place in the code that names an address."""

    site: int
    """The address of the instruction."""
    function: Function
    target: int


class Naming(Protocol):
    """What the code of an image names."""

    LEAD: int
    """Bytes from the start of a stub to before the end of the instruction in it that names a pointer, at most."""

    def references(self, low: int, high: int) -> Iterator[Reference]:
        """Yield the places in the code that name an address from ``low`` to before ``high``."""

    def switch(self, function: Function, pointed: Collection[int]) -> Callable[[Step], Collection[int]]:
        """Return what gives the places that an indirect jump may lead to; ``pointed``: where pointers do."""
