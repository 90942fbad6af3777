"""py-cpuinfo's answer, on systems where nothing better can be read."""

from __future__ import annotations

from cpufeat.probe.procfs import Processor
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def processor(answer: dict[str, Any]) -> Processor:
    """Return the x86 processor that ``cpuinfo.get_cpu_info()`` describes."""
    return Processor(
        vendor=str(answer.get("vendor_id_raw", "")),
        family=_number(answer.get("family")),
        model=_number(answer.get("model")),
        stepping=_number(answer.get("stepping")),
        brand=" ".join(str(answer.get("brand_raw", "")).split()),
        flags=frozenset(str(flag) for flag in answer.get("flags", ())),
    )


def count(answer: dict[str, Any]) -> int:
    """Return the number of processors, at least one."""
    return max(_number(answer.get("count")) or 1, 1)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
