"""Read 32-bit Arm machines: features from the auxiliary vector or the kernel's names, and the kinds of core.

Sources: Linux ``arch/arm/kernel/setup.c`` (hardware capabilities, AT_PLATFORM) and ``arch/arm64/include/asm/hwcap.h``
(those of 32-bit programs).
"""

from __future__ import annotations

from cpufeat.detection.arch.arm_cores import read_cores
from cpufeat.detection.machine import AT_PLATFORM
from cpufeat.detection.probe import midr
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.arch import Reading
    from cpufeat.detection.machine import Machine
    from cpufeat.detection.probe.midr import ArmCore

_64_BIT_FLAG = "asimd"
"""A word that only 64-bit kernels print."""
_FLAGS_ON_64_BIT = frozenset(
    ["half", "thumb", "fastmult", "vfp", "edsp", "neon", "vfpv3", "tls", "vfpv4", "idiva", "idivt", "vfpd32", "lpae"]
)
"""The flags that a 64-bit kernel shows every 32-bit program, where there is Advanced SIMD."""


def read(machine: Machine) -> list[Reading]:
    """Return the reading of each kind of core by the best source that answers, the biggest first."""
    platform = midr.version(machine.auxv_string(AT_PLATFORM).removeprefix("v"))
    return read_cores(machine, lambda core: _versions(platform or core.architecture or 0), _flags)


def _versions(number: int) -> dict[str, str]:
    return {f"architecture>={least}": f"architecture {number}" for least in range(4, number + 1)}


def _flags(core: ArmCore) -> frozenset[str]:
    """Return the words for 32-bit features.

    A 32-bit program may find the words for 64-bit features in ``/proc/cpuinfo``. Since it runs there, the core has the
    32-bit features of all 64-bit cores as well.
    """
    return core.flags | _FLAGS_ON_64_BIT if _64_BIT_FLAG in core.flags else core.flags
