"""Read 64-bit Arm machines: features from the auxiliary vector or the kernel's names, and the kinds of core.

Source: Linux ``Documentation/arch/arm64/elf_hwcaps.rst``. The kernel reports what all cores have.
"""

from __future__ import annotations

from cpufeat.detection.arch.arm_cores import read_cores
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.arch import Reading
    from cpufeat.detection.machine import Machine


def read(machine: Machine) -> list[Reading]:
    """Return the reading of each kind of core by the best source that answers, the biggest first."""
    if machine.system == "darwin":
        from cpufeat.detection.arch import aarch64_darwin

        return aarch64_darwin.read(machine)
    if machine.system == "windows":
        from cpufeat.detection.arch import aarch64_windows

        return aarch64_windows.read(machine)
    return read_cores(machine)
