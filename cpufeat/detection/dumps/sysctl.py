"""Make a ``Recording`` of a saved output of ``sysctl hw machdep.cpu`` on macOS: ``hw.ncpu: 8``."""

from __future__ import annotations

from cpufeat.detection.dumps.paste import mend, several_machines
from cpufeat.detection.dumps.text import MAX_PROCESSORS
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError

_PREFIXES = ("hw.", "machdep.cpu.")


def is_variable(key: str) -> bool:
    """Whether a variable's name is one of macOS."""
    return key.startswith(_PREFIXES)


_TELL = ("hw.optional.", "machdep.cpu.features")
"""The beginnings of variables that tell features."""


def read(text: str, path: str) -> Recording:
    """Return the machine with these variables; one that is said twice, and differs, has no value.

    Raises DumpError where none tells features.
    """
    mended, decisions = mend(text)
    pairs = [line.partition(":")[::2] for line in mended.splitlines() if is_variable(line.strip())]
    values: dict[str, int | str] = {}
    differing = set()
    for name, value in ((name.strip(), _variable(value.strip())) for name, value in pairs):
        if values.setdefault(name, value) != value:
            differing.add(name)
    if not any(name.startswith(_TELL) for name in values):
        raise DumpError(
            f"{path}: no variable tells features: cut or filtered? Give what `sysctl hw machdep.cpu` prints"
        )
    values = {name: value for name, value in values.items() if name not in differing}
    count = values.get("hw.activecpu") or values.get("machdep.cpu.thread_count") or 1
    return Recording(
        system="darwin",
        arch="aarch64" if values.get("hw.optional.arm64") == 1 else "x86_64",
        libc="",
        sysctls=values,
        online=tuple(range(min(count, MAX_PROCESSORS))) if isinstance(count, int) else (),
        remarks=(*decisions, *several_machines("sysctl", sorted(differing))),
    )


def _variable(value: str) -> int | str:
    return int(value) if value.removeprefix("-").isdecimal() and len(value) <= 20 else value
