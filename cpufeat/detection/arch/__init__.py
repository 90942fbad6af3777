"""Read the identity and features of each kind of core: one module per family of architectures.

A :class:`~cpufeat.detection.machine.Machine` comes in; each module's ``read`` returns a :class:`Reading` for each kind
of core, the one to tune for first. :mod:`.identity` then finds the CPU that a reading describes.
"""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from cpufeat.decisions import Withheld

PROCESS = "this process"
"""The source of what is known of a machine that answers nothing: a program of its architecture runs."""


class Reading(Value):
    """One source's account of one kind of core."""

    source: str
    """``CPUID``, ``/proc/cpuinfo``, ``sysctl``, ..., or :data:`PROCESS`."""
    vendor: str = ""
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    microcode: int | None = None
    """x86: its revision, where the source that has the features tells it."""
    brand: str = ""
    hypervisor: str = ""
    core: str = ""
    """x86: ``atom`` for an efficiency core that says so; RISC-V, LoongArch: the core's own name; else empty."""
    count: int = 1
    """The number of processors with this reading."""
    reported: dict[str, str] = {}
    """The features that the hardware reports, usable or not: name -> evidence."""
    withheld: dict[str, Withheld] = {}
    """The features in ``reported`` that may not be used, with the reason."""
    undetermined: frozenset[str] = frozenset()
    """Features that the source can neither confirm nor rule out: its kernel may be older than they are."""
    states: tuple[str, ...] = ()
    """The register states that the operating system enabled (rows of ``x86/states.tsv``); only CPUID tells."""
    states_evidence: str = ""
    """The evidence for ``states``: ``XCR0 is 0xe7``; empty if they were not read."""
