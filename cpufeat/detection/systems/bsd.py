"""Read this machine under FreeBSD, OpenBSD, NetBSD and DragonFly: sysctl(3) and elf_aux_info(3)."""

from __future__ import annotations

import ctypes
import os
import sys

from cpufeat.detection.systems import sysctl
from cpufeat.detection.systems.base import NativeMachine, process_arch
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_AUXILIARY = {16: 25, 26: 26}
"""AT_HWCAP and AT_HWCAP2: Linux's number, and theirs (FreeBSD ``sys/elf_common.h``, OpenBSD ``sys/auxv.h``)."""


class Bsd(NativeMachine):
    """A machine with one of the BSDs."""

    def __init__(self, libc: Any = None) -> None:
        """Ask ``libc``, by default that of this process."""
        super().__init__()
        self._libc = libc or ctypes.CDLL(None)
        if sys.platform != "win32":
            self.version: str = os.uname().release.partition("-")[0]
        self.arch: str = process_arch(str(self.sysctl("hw.machine_arch") or self.arch))

    def sysctl(self, name: str) -> int | str | None:
        """Call ``sysctlbyname``, which OpenBSD does not have."""
        return sysctl.read(self._libc, name)

    def getauxval(self, kind: int) -> int | None:
        """Call ``elf_aux_info``, which NetBSD does not have. Capabilities are numbered as Linux's are."""
        function = getattr(self._libc, "elf_aux_info", None)
        if function is None or kind not in _AUXILIARY:
            return None
        function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
        value = ctypes.c_ulong()
        failed = function(_AUXILIARY[kind], ctypes.byref(value), ctypes.sizeof(value))
        return None if failed else value.value
