"""One module an architecture: what a machine reads, turned into features and identity."""

from __future__ import annotations

import sys

from cpufeat.features import family
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.arch.reading import Reading
    from cpufeat.machine import Machine


def read(machine: Machine) -> list[Reading]:
    """Return what the best source that answers says of each kind of core, the one to tune for first.

    Loads only the module of the machine's architecture. Raises UnknownNameError for an architecture without tables.
    """
    name = f"{__name__}.{family(machine.arch)}"
    __import__(name)
    readings: list[Reading] = sys.modules[name].read(machine)
    return readings
