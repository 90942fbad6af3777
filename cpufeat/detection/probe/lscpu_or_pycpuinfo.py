"""Get the values of lscpu's labels where there is no ``/proc/cpuinfo``: from lscpu's output, or from py-cpuinfo."""

from __future__ import annotations

from cpufeat.detection.machine import AT_HWCAP
from cpufeat.detection.probe import lscpu, pycpuinfo
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine


def described(machine: Machine) -> tuple[list[dict[str, str]], str]:
    """Return the values by label of each kind of core, and their source.

    py-cpuinfo takes a second, so it is asked only where the auxiliary vector is silent too. Where neither answers,
    there is one kind of core without values, and no source.
    """
    content = machine.read_file("lscpu")
    if content:
        return lscpu.kinds(content), "lscpu"
    answer = pycpuinfo.fields(machine) if machine.getauxval(AT_HWCAP) is None else {}
    return [answer], pycpuinfo.SOURCE if answer else ""
