"""What a machine reports, one module for each family of architectures.

A :class:`~cpufeat.detection.machine.Machine` comes in, a :class:`~cpufeat.detection.arch.reading.Reading` for each kind
of core goes out (:func:`read`); :mod:`.identity` then finds the CPU that a reading describes.
"""

from __future__ import annotations

import sys

from cpufeat.features import family
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.arch.reading import Reading
    from cpufeat.detection.machine import Machine


def read(machine: Machine) -> list[Reading]:
    """Return what the best source that answers says of each kind of core, the one to tune for first.

    Loads only the module of the machine's architecture. Raises UnknownNameError for an architecture without tables.
    """
    name = f"{__name__}.{family(machine.arch)}"
    __import__(name)
    readings: list[Reading] = sys.modules[name].read(machine)
    return readings
