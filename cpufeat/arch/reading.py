"""What every architecture's module gives back: one reading for each kind of core."""

from __future__ import annotations

from cpufeat.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from cpufeat.decisions import Withheld


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
