"""What every architecture's module gives back: one reading for each kind of core."""

from __future__ import annotations

from cpufeat.decisions import Decision, Withheld
from cpufeat.value import Value


class Reading(Value):
    """One source's account of one kind of core."""

    source: str
    """``CPUID``, ``/proc/cpuinfo``, ``lscpu``, ``py-cpuinfo``."""
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


class Identity(Value):
    """What a kind of core is taken to be."""

    cpu: str
    """LLVM's name, or a level where LLVM has none."""
    name: str
    """What people call it, empty where no table has it."""
    expected: frozenset[str]
    """What that CPU has by LLVM."""
    decisions: tuple[Decision, ...] = ()
    named: str = ""
    """The CPU of the model number alone, which the features may contradict; empty where no table has it."""
