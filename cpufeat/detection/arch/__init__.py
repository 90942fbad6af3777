"""One module an architecture: what a machine reads, turned into features and identity."""

from __future__ import annotations

import sys

from cpufeat.features import family
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from cpufeat.decisions import Withheld
    from cpufeat.detection.machine import Machine


class Reading(Value):
    """One source's account of one kind of core."""

    source: str
    """``CPUID``, ``/proc/cpuinfo``, ``sysctl``, ..."""
    vendor: str = ""
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    brand: str = ""
    hypervisor: str = ""
    core: str = ""
    """``atom`` for an efficiency core that says so, else empty."""
    count: int = 1
    """Processors that read so."""
    reported: dict[str, str] = {}
    """What the hardware reports, gated or not: feature name -> evidence."""
    withheld: dict[str, Withheld] = {}
    """Those of ``reported`` that may not be used, with the reason."""
    untold: frozenset[str] = frozenset()
    """Features of which this answer says neither yes nor no: its kernel may be older than they are."""


def read(machine: Machine) -> list[Reading]:
    """Return what the best source that answers says of each kind of core, the one to tune for first.

    Loads only the module of the machine's architecture. Raises UnknownNameError for an architecture without tables.
    """
    name = f"{__name__}.{family(machine.arch)}"
    __import__(name)
    readings: list[Reading] = sys.modules[name].read(machine)
    return readings
