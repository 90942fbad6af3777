"""Make a ``Recording`` of a saved output of ``sysctl hw machdep.cpu`` on macOS: ``hw.ncpu: 8``."""

from __future__ import annotations

from cpufeat.detection.dumps.text import MAX_PROCESSORS
from cpufeat.detection.recording import Recording

_PREFIXES = ("hw.", "machdep.cpu.")


def is_variable(key: str) -> bool:
    """Whether a variable's name is one of macOS."""
    return key.startswith(_PREFIXES)


def read(text: str, path: str) -> Recording:
    """Return the machine with these variables."""
    pairs = [line.partition(":")[::2] for line in text.splitlines() if is_variable(line.strip())]
    values = {key.strip(): _variable(value.strip()) for key, value in pairs}
    count = values.get("hw.activecpu") or values.get("machdep.cpu.thread_count") or 1
    return Recording(
        system="darwin",
        arch="aarch64" if values.get("hw.optional.arm64") == 1 else "x86_64",
        libc="",
        sysctls=values,
        online=tuple(range(min(count, MAX_PROCESSORS))) if isinstance(count, int) else (),
    )


def _variable(value: str) -> int | str:
    return int(value) if value.removeprefix("-").isdecimal() and len(value) <= 20 else value
