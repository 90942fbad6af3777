"""Define ``Machine``, the only interface to operating system and hardware: each method is a question to a machine.

:mod:`cpufeat.detection.systems` asks the processor and the kernel; a :class:`~cpufeat.detection.recording.Recording`
replays recorded answers. A question without an answer returns None, which callers take as "off".
"""

from __future__ import annotations

from cpufeat.detection.instructions import Registers
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from cpufeat.decisions import Decision

AT_PLATFORM, AT_HWCAP, AT_HWCAP2 = 15, 16, 26
"""Entries of the auxiliary vector (<linux/auxvec.h>)."""
LARGEST_FILE = 16 << 20
"""The most bytes that are read from a file: ``/proc/cpuinfo`` of 2,048 processors is about 3 MiB."""
Leaves = dict[tuple[int, int], Registers]
"""CPUID answers by (leaf, subleaf)."""


class Machine:
    """A machine that answers nothing; subclasses override the questions that they can answer."""

    system: str = ""
    """``linux``, ``darwin``, ``windows``, ``freebsd``, ..."""
    version: str = ""
    """The system's version where it belongs in the triple: ``14.5.0`` of macOS, ``14.1`` of FreeBSD, Android's API."""
    arch: str = ""
    """The architecture of this process: ``x86_64``, ``i686``, ..."""
    libc: str = ""
    """The last part of the triple: ``gnu``, ``musl``, ``android``, ``msvc`` or empty."""
    emulator: str = ""
    """The translator of this process's instructions for another architecture, if the system tells: ``Rosetta 2``."""
    origin: str = ""
    """``process`` where a process asks the machine that it runs on, which proves ``arch``; empty for others' dumps."""

    leaves: dict[int, Leaves] = {}
    """Recorded CPUID answers, by processor."""
    remarks: tuple[Decision, ...] = ()
    """What was odd about the text that it was read from, and what was made of it."""

    def cpuid(self, leaf: int, subleaf: int = 0, cpu: int | None = None) -> Registers | None:
        """Return CPUID's answer, on processor ``cpu`` or on the current one."""
        return None

    def xgetbv(self, index: int = 0) -> int | None:
        """Return an extended control register (0 is XCR0). Ask only where CPUID 1:ECX[27] is set."""
        return None

    def permitted_states(self) -> int:
        """Return the states, as bits of XCR0, that this process has asked the kernel for and may use."""
        return 0

    def read_file(self, path: str) -> bytes | None:
        """Return a file's bytes, :data:`LARGEST_FILE` at the most."""
        return None

    def getauxval(self, kind: int) -> int | None:
        """Return an entry of the auxiliary vector, a number (<linux/auxvec.h>): AT_HWCAP is 16, AT_HWCAP2 26."""
        return None

    def auxv_string(self, kind: int) -> str:
        """Return an entry of the auxiliary vector that points at text: AT_PLATFORM is 15, AT_BASE_PLATFORM 24."""
        return ""

    def hwprobe(self, keys: tuple[int, ...]) -> dict[int, int]:
        """Return ``riscv_hwprobe``'s answers for all processors, without the keys that this kernel does not know."""
        return {}

    def facilities(self) -> tuple[int, ...] | None:
        """Return the numbers that STFLE of s390x answers. Ask only where AT_HWCAP has bit 2 (HWCAP_STFLE)."""
        return None

    def sysctl(self, name: str) -> int | str | None:
        """Return a variable of the kernel (macOS and the BSDs): ``hw.ncpu``, ``machdep.cpu.brand_string``."""
        return None

    def processor_feature(self, number: int) -> bool | None:
        """Return the answer of ``IsProcessorFeaturePresent`` of Windows for a ``PF_`` constant of winnt.h."""
        return None

    def registry(self, key: str, name: str) -> int | str | None:
        """Return a value of Windows' registry, below HKEY_LOCAL_MACHINE."""
        return None

    def online_cpus(self) -> tuple[int, ...]:
        """Return the numbers of the processors that this process may run on."""
        return ()

    def py_cpuinfo(self) -> dict[str, Any] | None:
        """Return the answer of the py-cpuinfo library, the last resort: it starts programs and takes a second."""
        return None
