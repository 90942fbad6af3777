"""Read the answer of py-cpuinfo, on systems where nothing better can be read.

It passes on the words of ``/proc/cpuinfo``, lscpu, dmesg, isainfo or sysinfo. Of POWER it names bits of
``ibm,pa-features``, counted from the wrong end and from the property's header on: those words are no kernel's, and
match no feature.
"""

from __future__ import annotations

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine

SOURCE = "py-cpuinfo"
_LABELS = {
    "arch_string_raw": "Architecture",
    "vendor_id_raw": "Vendor ID",
    "brand_raw": "Model name",
    "family": "CPU family",
    "model": "Model",
    "stepping": "Stepping",
    "count": "CPU(s)",
    "flags": "Flags",
}


def fields(machine: Machine) -> dict[str, str]:
    """Return py-cpuinfo's values by lscpu's labels, empty where it has none. They are of one kind of core."""
    answer = machine.py_cpuinfo() or {}
    return {label: _text(answer[key]) for key, label in _LABELS.items() if key in answer}


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
