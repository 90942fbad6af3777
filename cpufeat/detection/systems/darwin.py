"""Read this machine under macOS: sysctl(3), and whether Rosetta 2 translates this process.

Sources: XNU ``bsd/kern/kern_mib.c``; Apple's "About the Rosetta translation environment" (``sysctl.proc_translated``).
"""

from __future__ import annotations

import ctypes

from cpufeat.detection.systems import sysctl
from cpufeat.detection.systems.base import NativeMachine
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class Darwin(NativeMachine):
    """A Mac."""

    def __init__(self, libc: Any = None) -> None:
        """Ask ``libc``, by default that of this process."""
        super().__init__()
        self._libc = libc or ctypes.CDLL(None)
        self.version: str = _of_three_parts(str(self.sysctl("kern.osproductversion") or ""))
        self.emulator = "Rosetta 2" if self.sysctl("sysctl.proc_translated") == 1 else ""

    def sysctl(self, name: str) -> int | str | None:
        """Call ``sysctlbyname``."""
        return sysctl.read(self._libc, name)


def _of_three_parts(version: str) -> str:
    """Return ``14.5.0`` for ``14.5``, as triples have it."""
    return ".".join([*version.split("."), "0", "0"][:3]) if version else ""
