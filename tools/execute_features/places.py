"""The places where instructions are run: this machine, and CPUs that qemu-user emulates."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.errors import UnknownNameError
from cpufeat.features import find
from cpufeat.levels import level_features
from tools.execute_features.compare import Difference, differences
from tools.execute_features.program import HERE, ROOT, executed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TUNABLES = "glibc.cpu.hwcaps=-AVX,-AVX2,-BMI2,-SSE4_1,-SSE4_2,-SSSE3"
"""For Python: glibc 2.36 uses BMI1 where it finds AVX2, SSSE3 where it finds SSE4.2, and does not ask for them."""
_SECONDS = 300


class Place(NamedTuple):
    """Where to run the instructions."""

    arch: str
    where: str
    """``here``, or the emulator and its version."""
    emulator: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable, "-S")
    """The Python that detects there; it may have an emulator of its own."""
    arguments: tuple[str, ...] = ()
    """``permission``: request the use of AMX first."""


def here(arch: str, *arguments: str) -> Place:
    """Return this machine, where programs of ``arch`` run."""
    return Place(arch, "here", arguments=arguments)


def emulated(arch: str, qemu: str, cpu: str, root: Path | None = None) -> Place:
    """Return a CPU of an emulator; ``root`` holds Debian's Python where this one is of another architecture."""
    run = (qemu, "-cpu", cpu)
    python: tuple[str, ...] = (*run, sys.executable, "-S")
    if root is not None:
        (program,) = (root / "usr" / "bin").glob("python3.[0-9]*")
        python = (qemu, "-L", str(root), "-cpu", cpu, str(program), "-s", "-B")
    return Place(arch, version(qemu), run, python)


def version(qemu: str) -> str:
    """Return ``qemu VERSION`` of an emulator."""
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    return "qemu " + said.partition("version ")[2].split()[0]


def compared(place: Place, program: Path) -> list[Difference]:
    """Run the program and Python in a place; return what differs. Raises LookupError where one of them cannot run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": TUNABLES}
    commands = ((*place.emulator, str(program)), (*place.python, str(HERE / "detect.py")))
    outputs = []
    for command in commands:
        done = _run([*command, *place.arguments], environment)
        if done.returncode:
            raise LookupError(done.stderr)
        outputs.append(done.stdout)
    return differences(place.arch, place.where, executed(place.arch, outputs[0]), json.loads(outputs[1]))


def _run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS)


def models(qemu: str) -> list[str]:
    """Return every CPU model that qemu-x86_64 lists."""
    return re.findall(r"^(?:x86 |  )(\S+)(?:  |$)", _help(qemu).partition("Recognized")[0], re.MULTILINE)


def flags(qemu: str) -> list[str]:
    """Return the flags of qemu-x86_64 that stand for a feature, but for those that every program here needs."""
    found, baseline = [], level_features("x86_64", "x86-64")
    for flag in _help(qemu).partition("Recognized CPUID flags:")[2].split():
        try:
            name = find("x86_64", flag).name
        except UnknownNameError:
            continue
        if name not in baseline and name != "64bit":
            found.append(flag)
    return found


def random_cpus(qemu: str, seed: int) -> Iterator[str]:
    """Yield CPUs of qemu-x86_64 that run programs of 64 bits, with some features more and some less; never ends."""
    generator = random.Random(seed)
    known, switches = models(qemu), flags(qemu)
    while True:
        changed = generator.sample(switches, generator.randrange(1, 12))
        cpu = ",".join([generator.choice(known), *(generator.choice("+-") + flag for flag in changed)])
        if subprocess.run([qemu, "-cpu", cpu, "/bin/true"], capture_output=True, check=False).returncode == 0:
            yield cpu


def _help(qemu: str) -> str:
    return subprocess.run([qemu, "-cpu", "help"], capture_output=True, text=True, check=False).stdout
