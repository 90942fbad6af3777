"""The seam to the outside: everything that cpufeat learns about a machine comes through :class:`Machine`.

:class:`ThisMachine` asks the processor and the kernel; a :class:`~cpufeat.detection.recording.Recording` answers what
was written down earlier. A reading that cannot be had is None, which callers take as "off".
"""

from __future__ import annotations

import os
import sys

from cpufeat.detection import instructions
from cpufeat.detection.instructions import Registers
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

LARGEST_FILE = 16 << 20
"""Bytes that are read of a file at the most: ``/proc/cpuinfo`` of 2,048 processors is about 3 MiB."""
Leaves = dict[tuple[int, int], Registers]
"""CPUID answers by (leaf, subleaf)."""


class Machine:
    """A machine of which nothing can be read; the others override what they can."""

    system: str = ""
    """``linux``, ``darwin``, ``windows``, ``freebsd``, ..."""
    version: str = ""
    """The system's version where it belongs in the triple: ``14.5.0`` of macOS, ``14.1`` of FreeBSD, Android's API."""
    arch: str = ""
    """What this process runs as: ``x86_64``, ``i686``, ..."""
    libc: str = ""
    """The last part of the triple: ``gnu``, ``musl``, ``android``, ``msvc`` or empty."""
    emulator: str = ""
    """What translates this process's instructions for another architecture, where the system tells: ``Rosetta 2``."""

    leaves: dict[int, Leaves] = {}
    """CPUID answers that were written down, by processor."""

    def cpuid(self, leaf: int, subleaf: int = 0, cpu: int | None = None) -> Registers | None:
        """Return what CPUID answers, on processor ``cpu`` or on the one at hand."""
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
        """Return what ``riscv_hwprobe`` answers of all processors, without the keys that this kernel does not know."""
        return {}

    def facilities(self) -> tuple[int, ...] | None:
        """Return the numbers that STFLE of s390x answers. Ask only where AT_HWCAP has bit 2 (HWCAP_STFLE)."""
        return None

    def sysctl(self, name: str) -> int | str | None:
        """Return a variable of the kernel (macOS and the BSDs): ``hw.ncpu``, ``machdep.cpu.brand_string``."""
        return None

    def processor_feature(self, number: int) -> bool | None:
        """Return what ``IsProcessorFeaturePresent`` of Windows answers for a ``PF_`` constant of winnt.h."""
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


_RISCV_HWPROBE = 258
_SYSTEMS = {"win": "windows", "cygwin": "windows", "msys": "windows", "android": "linux"}
_ARCHITECTURES = {
    "amd64": "x86_64",
    "i86pc": "x86_64",
    "arm64": "aarch64",
    "powerpc64le": "ppc64le",
    "powerpc64": "ppc64",
}
_OF_32_BITS = {"x86_64": "i686", "aarch64": "armv8l"}
_ELSEWHERE = {
    "darwin": ("darwin", "Darwin"),
    "win32": ("windows", "Windows"),
    **dict.fromkeys(("freebsd", "openbsd", "netbsd", "dragonfly"), ("bsd", "Bsd")),
}


class ThisMachine(Machine):
    """The machine, and the operating system, that this process runs on.

    What is here is Linux's, and what systems have in common. As ``pathlib.Path`` does, this makes an instance of the
    subclass for the system at hand; those are in :mod:`cpufeat.detection.systems`.
    """

    def __new__(cls, *_: object) -> ThisMachine:
        """Return an instance of this class, or of its subclass for this system."""
        platform = sys.platform if sys.platform == "win32" else sys.platform.rstrip("0123456789")
        if cls is not ThisMachine or platform not in _ELSEWHERE:
            return super().__new__(cls)
        module, name = _ELSEWHERE[platform]
        machine: ThisMachine = super().__new__(
            getattr(__import__(f"cpufeat.detection.systems.{module}", fromlist=[name]), name)
        )
        return machine

    def __init__(self) -> None:
        name = sys.platform.rstrip("0123456789")
        self.system = _SYSTEMS.get(name, name)
        if sys.platform != "win32":
            self.arch = process_arch(os.uname().machine)
        if self.system == "linux":
            self.libc, self.version = _libc()
        elif self.system == "windows":
            self.libc = "cygnus"
        self._loaded: tuple[instructions.Instructions | None] | None = None

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

    def permitted_states(self) -> int:
        """Ask the kernel."""
        instructions = self._instructions
        is_known = self.system == "linux" and self.arch == "x86_64"
        return instructions.permitted_states() if instructions and is_known else 0

    def getauxval(self, kind: int) -> int | None:
        """Read ``/proc/self/auxv`` (proc(5)), which needs no C library."""
        content = self.read_file("/proc/self/auxv") or b""
        word = 8 if sys.maxsize > 2**32 else 4
        numbers = [int.from_bytes(content[at : at + word], sys.byteorder) for at in range(0, len(content), word)]
        return dict(zip(numbers[::2], numbers[1::2], strict=False)).get(kind)

    def auxv_string(self, kind: int) -> str:
        """Read the text that the auxiliary vector points at: it lies in this process's own memory (getauxval(3))."""
        address = self.getauxval(kind)
        if not address:
            return ""
        import ctypes

        return ctypes.string_at(address).decode("ascii", "replace")

    def hwprobe(self, keys: tuple[int, ...]) -> dict[int, int]:
        """Call ``riscv_hwprobe`` (Linux Documentation/arch/riscv/hwprobe.rst)."""
        if self.system != "linux" or not self.arch.startswith("riscv"):
            return {}
        import ctypes

        pairs = (ctypes.c_int64 * (2 * len(keys)))(*(word for key in keys for word in (key, 0)))
        refused = ctypes.CDLL(None).syscall(_RISCV_HWPROBE, pairs, len(keys), 0, None, 0)
        answers = {} if refused else dict(zip(pairs[::2], pairs[1::2], strict=True))
        return {key: value & 0xFFFFFFFFFFFFFFFF for key, value in answers.items() if key >= 0}

    def facilities(self) -> tuple[int, ...] | None:
        """Execute STFLE."""
        return instructions.facilities()

    def read_file(self, path: str) -> bytes | None:
        """Read a file of this machine, by its whole path: ``lscpu`` is what recordings call that program's output."""
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
        try:
            from cpuinfo import get_cpu_info

            return dict(get_cpu_info())
        except Exception:  # where it does not know the architecture, importing it raises just that
            return None


def process_arch(machine: str) -> str:
    """Return what this process runs as, on a kernel that calls its machine so (a 64-bit one runs 32-bit programs)."""
    arch = _ARCHITECTURES.get(machine.lower(), machine)
    if arch[:1] == "i" and arch.endswith("86"):
        return "i686"
    return arch if sys.maxsize > 2**32 else _OF_32_BITS.get(arch, arch)


def _libc() -> tuple[str, str]:
    """Return the C library of Linux, and Android's API level."""
    if hasattr(sys, "getandroidapilevel"):
        return "android", str(sys.getandroidapilevel())
    if sys.platform == "win32" or not hasattr(os, "confstr"):
        return "musl", ""
    try:
        return ("gnu" if os.confstr("CS_GNU_LIBC_VERSION") else "musl"), ""
    except ValueError:
        return "musl", ""
