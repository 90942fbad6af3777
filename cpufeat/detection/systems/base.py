"""Define the base class of this machine, which answers what every operating system answers in the same way."""

from __future__ import annotations

import os
import sys

from cpufeat.detection import instructions
from cpufeat.detection.machine import LARGEST_FILE, Machine
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from cpufeat.detection.instructions import Registers

_SYSTEMS = {"win": "windows", "cygwin": "windows", "msys": "windows", "android": "linux"}
_ARCHITECTURES = {
    "amd64": "x86_64",
    "i86pc": "x86_64",
    "arm64": "aarch64",
    "powerpc64le": "ppc64le",
    "powerpc64": "ppc64",
}
_32_BIT_ARCHITECTURES = {"x86_64": "i686", "aarch64": "armv8l", "ppc64": "ppc"}
"""What a 32-bit process runs as, by what a 64-bit kernel calls itself."""
_64_BIT_ARCHITECTURES = {"i686": "x86_64", "armv8l": "aarch64", "ppc": "ppc64", "ppcle": "ppc64le", "s390": "s390x"}
"""What a 64-bit process runs as, by what its kernel calls itself under ``setarch linux32`` (COMPAT_UTS_MACHINE)."""


class NativeMachine(Machine):
    """The machine that this process runs on; the subclasses add what their system's kernel answers."""

    origin = "process"

    def __init__(self) -> None:
        name = sys.platform.rstrip("0123456789")
        self.system: str = _SYSTEMS.get(name, name)
        if sys.platform != "win32":
            self.arch: str = process_arch(os.uname().machine)
        if self.system == "windows":
            self.libc = "cygnus"
        self._loaded: tuple[instructions.Instructions | None] | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Return how to make a copy: in another process it asks the machine that the other process runs on."""
        return type(self), ()

    def _load(self) -> instructions.Instructions | None:
        return instructions.load(self.arch)

    @property
    def _instructions(self) -> instructions.Instructions | None:
        if self._loaded is None:
            self._loaded = (self._load(),)
        return self._loaded[0]

    def cpuid(self, leaf: int, subleaf: int = 0, cpu: int | None = None) -> Registers | None:
        """Execute CPUID; with ``cpu``, on that processor (None where this thread may not run there)."""
        instructions = self._instructions
        if instructions is None:
            return None
        if cpu is None:
            return instructions.cpuid(leaf, subleaf)
        if sys.platform == "win32" or sys.platform == "darwin" or not hasattr(os, "sched_setaffinity"):
            return None
        allowed = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {cpu})
            return instructions.cpuid(leaf, subleaf)
        except OSError:
            return None
        finally:
            os.sched_setaffinity(0, allowed)

    def xgetbv(self, index: int = 0) -> int | None:
        """Execute XGETBV."""
        instructions = self._instructions
        return None if instructions is None else instructions.xgetbv(index)

    def read_file(self, path: str) -> bytes | None:
        """Read a file of this machine by its absolute path (``lscpu`` names that program's output in recordings)."""
        if not path.startswith("/"):
            return None
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                return file.read(LARGEST_FILE)
        except OSError:
            return None

    def online_cpus(self) -> tuple[int, ...]:
        """Return the processors in this thread's affinity mask, or all where there is none."""
        if not hasattr(os, "sched_getaffinity"):
            return tuple(range(os.cpu_count() or 1))
        return tuple(sorted(os.sched_getaffinity(0)))

    def py_cpuinfo(self) -> dict[str, Any] | None:
        """Ask py-cpuinfo."""
        from cpufeat.support.extras import extra

        try:
            with extra("compat"):
                from cpuinfo import get_cpu_info

            return dict(get_cpu_info())
        except Exception:  # where it does not know the architecture, importing it raises just that
            return None


def process_arch(machine: str) -> str:
    """Return this process's architecture for uname(2)'s ``machine``, which may be of more bits, or pretend fewer."""
    arch = _ARCHITECTURES.get(machine.lower(), machine)
    if arch[:1] == "i" and arch.endswith("86"):
        arch = "i686"
    return (_64_BIT_ARCHITECTURES if sys.maxsize > 2**32 else _32_BIT_ARCHITECTURES).get(arch, arch)
