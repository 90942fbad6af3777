"""Read this machine under Linux and Android: auxiliary vector, ``riscv_hwprobe``, STFLE, register permissions."""

from __future__ import annotations

import os
import sys

from cpufeat.detection import instructions
from cpufeat.detection.machine import AT_HWCAP
from cpufeat.detection.systems.base import NativeMachine

_RISCV_HWPROBE = 258
"""The number of the system call."""


class Linux(NativeMachine):
    """A machine with Linux."""

    def __init__(self) -> None:
        super().__init__()
        self.libc: str
        self.version: str
        self.libc, self.version = _libc()

    def permitted_states(self) -> int:
        """Ask the kernel."""
        instructions = self._instructions
        return instructions.permitted_states() if instructions and self.arch == "x86_64" else 0

    def getauxval(self, kind: int) -> int | None:
        """Read ``/proc/self/auxv`` (proc(5)), which needs no C library; where it is hidden, ask the C library."""
        content = self.read_file("/proc/self/auxv")
        if not content:
            is_replaced = kind == AT_HWCAP and self.arch in instructions.CODE  # glibc has its own for x86
            return None if is_replaced else _from_libc(kind)
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
        if not self.arch.startswith("riscv"):
            return {}
        import ctypes

        pairs = (ctypes.c_int64 * (2 * len(keys)))(*(word for key in keys for word in (key, 0)))
        refused = ctypes.CDLL(None).syscall(_RISCV_HWPROBE, pairs, len(keys), 0, None, 0)
        answers = {} if refused else dict(zip(pairs[::2], pairs[1::2], strict=True))
        return {key: value & 0xFFFFFFFFFFFFFFFF for key, value in answers.items() if key >= 0}

    def facilities(self) -> tuple[int, ...] | None:
        """Execute STFLE."""
        return instructions.facilities() if self.arch == "s390x" else None


def _from_libc(kind: int) -> int | None:
    """Call ``getauxval``, which answers 0 for what the vector lacks, and tells that apart by ``errno``."""
    import errno

    try:
        import ctypes

        function = ctypes.CDLL(None, use_errno=True).getauxval
    except (ImportError, OSError, AttributeError):
        return None
    function.argtypes, function.restype = (ctypes.c_ulong,), ctypes.c_ulong
    ctypes.set_errno(0)
    value: int = function(kind)
    return None if ctypes.get_errno() == errno.ENOENT else value


def _libc() -> tuple[str, str]:
    """Return the C library, and Android's API level."""
    if hasattr(sys, "getandroidapilevel"):
        return "android", str(sys.getandroidapilevel())
    if sys.platform == "win32" or not hasattr(os, "confstr"):
        return "musl", ""
    try:
        return ("gnu" if os.confstr("CS_GNU_LIBC_VERSION") else "musl"), ""
    except ValueError:
        return "musl", ""
