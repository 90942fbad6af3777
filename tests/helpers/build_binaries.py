"""Binaries for audits to look at, made by zig's C compiler and assembler for any system."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from helpers.paths import KERNELS, PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.auditing.report import Audit

ZIG = (sys.executable, "-m", "ziglang")
SOURCES = ("dot.c", "matrix.c", "population.c", "scan.c")
SYSTEMS = {"ELF": "linux-gnu", "Mach-O": "macos", "COFF": "windows-gnu"}
"""The systems whose objects are of those formats."""


def build(output: Path, *arguments: str | Path, triple: str, cpu: str = "baseline") -> Path:
    """Compile or link something."""
    command = [*ZIG, "cc", "-target", triple, f"-mcpu={cpu}", "-g0", "-o", str(output), *map(str, arguments)]
    subprocess.run(command, check=True)
    return output


def kernels(folder: Path, *, triple: str, cpu: str = "baseline", name: str = "dot.c") -> Path:
    """Compile one of the kernels to an object."""
    options = ["-O3", "-mprefer-vector-width=512"] if triple.startswith("x86_64") else ["-O3"]
    return build(folder / f"{name}-{triple}-{cpu}.o", *options, "-c", KERNELS / name, triple=triple, cpu=cpu)


def assembled(folder: Path, text: str, *, triple: str = "x86_64-linux-gnu", cpu: str = "baseline") -> Path:
    """Assemble a text."""
    source = folder / "text.s"
    source.write_text(text)
    return build(folder / "text.o", "-c", source, triple=triple, cpu=cpu)


# --- what docs/audit.md knows of false alarms

PAGE = PROJECT / "docs" / "audit.md"
IN_CODE = re.compile(r"`([^`]+)`")
ON_ARM = " on Arm"


class Alarm(NamedTuple):
    """A row of the page's table of false alarms."""

    where: str
    features: set[str]
    functions: list[str]
    """Parts of their names; empty where the page names none."""

    def explains(self, function: str, features: set[str]) -> bool:
        """Whether it is of these features in this function; of code without a name the features must do."""
        named = not self.functions or "0x" in function or any(part in function for part in self.functions)
        return named and features <= self.features


def alarms(arch: str) -> list[Alarm]:
    """The rows of an architecture."""
    rows = (re.split(r" *\| *", line)[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| "))
    split = ((where, what.partition(" in ")) for where, what, _ in rows if where != "where")
    found = [Alarm(where, {*IN_CODE.findall(what[0])}, IN_CODE.findall(what[2])) for where, what in split]
    return [alarm for alarm in found if alarm.where.endswith(ON_ARM) == (arch == "aarch64")]


def unexplained(audit: Audit, where: str) -> list[tuple[str, set[str]]]:
    """The functions with bare uses that the page does not know, and those uses."""
    known = [alarm for alarm in alarms(audit.arch) if alarm.where == where]
    assert known, f"{PAGE.name} has nothing of {where}"
    bare = [(function.name, set(function.bare)) for function in audit.functions if function.bare]
    return [one for one in bare if not any(alarm.explains(*one) for alarm in known)]
