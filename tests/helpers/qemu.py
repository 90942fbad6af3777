"""Running programs on CPUs that are not here, by qemu-user (TCG emulates x86 up to AVX2).

A model that asks for more than TCG has says so on standard error and gets less, in CPUID as well.
"""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

PROCESSES = len(os.sched_getaffinity(0))
NO_64_BIT = "CPU does not support 64 bit mode"
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def models(qemu: str) -> list[str]:
    """Every CPU model that this qemu lists."""
    listed = subprocess.run([qemu, "-cpu", "help"], capture_output=True, text=True, check=False).stdout
    return re.findall(r"^x86 (\S+)", listed, re.M)


def run(
    qemu: str, cpu: str, command: Sequence[str], environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run a program on a CPU model, which may have changes (``Haswell,-avx``)."""
    emulated = [qemu, "-cpu", cpu, *command]
    return subprocess.run(emulated, env=environment, capture_output=True, text=True, check=False, timeout=120)


def side_by_side(function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Call a function that waits for a process, as many at a time as there are processors."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(function, items))
