"""qemu-user: which CPUs it emulates, how whole, and where in a program's code it has been."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat.errors import UnknownNameError, VerifyError
from cpufeat.features import find, nearest
from cpufeat.support import processes
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_SPELLED = {"i686": "i386", **dict.fromkeys(("armv8l", "armv7l", "armv6l", "armv5tel"), "arm")}
"""Architectures that qemu-user calls otherwise."""
_PREFIXES = ("x86", "s390", "PowerPC", "MIPS")
"""What some emulators write before each model's name."""
_LEFT_OUT = re.compile(r"requested feature: CPUID\.[\w]+:\w+\.([\w.-]+) \[bit")
_REFUSED = re.compile(r"unable to find CPU model.*|Property .* not found")
_FAILED = re.compile(
    r"^(?:qemu-\S+: (?!warning: |uncaught |QEMU internal )|(?=The selected x86 CPU does not))(.*)", re.M
)
_WARNING = re.compile(r"^qemu-\S+: warning: .*\n?", re.M)
_INSTRUCTION = re.compile(rb"0x([0-9a-f]{1,16}):")
_SECONDS = 60.0
"""What a question to the emulator may take."""
_KEPT_VARIABLES = ("QEMU_LD_PREFIX", "QEMU_SET_ENV", "QEMU_STACK_SIZE", "QEMU_UNSET_ENV")


class Emulator(Value):
    """A qemu-user for one architecture."""

    path: str
    name: str
    """``qemu-x86_64``."""
    arch: str

    def models(self) -> tuple[str, ...]:
        """Return the CPU models that it lists."""
        said = self._ask("-cpu", "help").stdout.start.decode(errors="replace")
        listed = said.partition("\n\n")[0].splitlines()
        words = [line.split() for line in listed if line and not line.endswith(":")]
        return tuple(row[1 if row[0] in _PREFIXES else 0].strip("'") for row in words)

    def find_model(self, name: str, models: Sequence[str]) -> str:
        """Return a model as it is spelled here; changes (``Haswell,-avx``) stay. Raises VerifyError."""
        model, comma, changes = name.partition(",")
        spelled = {one.lower(): one for one in reversed(models)}
        if model.lower() not in spelled:
            near = nearest(model.lower(), spelled)
            hint = f"; did you mean {' or '.join(spelled[one] for one in near)}?" if near else ""
            raise VerifyError(f"{self.name} has no CPU model {model!r}{hint} ({self.name} -cpu help lists all)")
        return spelled[model.lower()] + comma + changes

    def left_out(self, model: str) -> frozenset[str]:
        """Return the features that a model has and that are not emulated. Raises VerifyError for a bad model."""
        said = self._ask("-cpu", model, os.devnull).stderr.start.decode(errors="replace")
        refused = _REFUSED.search(said)
        if refused:
            raise VerifyError(f"{model}: {refused[0]}")
        names = set()
        for flag in _LEFT_OUT.findall(said):
            try:
                names.add(find(self.arch, flag).name)
            except UnknownNameError:
                continue
        return frozenset(names)

    def command(self, model: str, watch: Watch | None = None) -> list[str]:
        """Return what to put before a program; without a ``model``, for the CPU that the emulator takes by itself."""
        return [self.path, *(["-cpu", model] if model else []), *(watch.options() if watch else [])]

    def bias(self, program: str) -> int | None:
        """Return how far from its own addresses a position-independent program is loaded; None if it is not.

        Asked by GDB's remote protocol, which stops the program before its first instruction; there it is ended.
        """
        with tempfile.TemporaryDirectory() as private:
            address = str(Path(private, "gdb"))
            process = subprocess.Popen(  # noqa: S603
                [self.path, "-g", address, program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
            try:
                return _offset(process, address)
            except (OSError, ValueError, IndexError):
                return None
            finally:
                process.kill()
                process.wait()

    def _ask(self, *arguments: str) -> processes.Ended:
        return processes.run([self.path, *arguments], seconds=_SECONDS, environment=environment())


def emulator(arch: str) -> Emulator:
    """Return the emulator for an architecture. Raises VerifyError, which says what to install."""
    name = f"qemu-{_SPELLED.get(arch, arch)}"
    path = shutil.which(name) or shutil.which(f"{name}-static")
    if path is None:
        packages = "qemu-user (Debian, Ubuntu), qemu-user-static (Fedora), qemu (Arch: qemu-user)"
        raise VerifyError(f"needs {name}, to run {arch} programs on other CPUs: install {packages}")
    return Emulator(path, name, arch)


def environment() -> dict[str, str]:
    """Return this process's environment without what would change the CPU, or write beside the program's output."""
    return {name: text for name, text in os.environ.items() if name[:5] != "QEMU_" or name in _KEPT_VARIABLES}


def without_warnings(said: str) -> str:
    """Return what a program wrote, without the emulator's warnings of what it does not emulate."""
    return _WARNING.sub("", said)


def failure(said: str) -> str:
    """Return why the emulator could not run a program, by what it said; empty if it could."""
    failed = _FAILED.search(said)
    return failed[1].strip() if failed else ""


class Watch:
    """Looks, while a program is run, for code that begins at some addresses.

    The emulator writes out each stretch of code when it first translates it, which is right before it runs it: a line
    for each instruction, which begins with the address. Only the asked for range is written out, and nothing is kept.
    """

    def __init__(self, entry: int, starts: Collection[int], bias: int) -> None:
        """Look for some of the file's own addresses, in a program that is loaded ``bias`` away from them."""
        self._entry, self._starts, self._bias = entry, frozenset(starts), bias
        self._seen: set[int] = set()
        self._rest = b""
        self.log = processes.Log(*os.pipe(), self._told)

    def seen(self) -> frozenset[int] | None:
        """Return the addresses that were run, None if the program's own entry was not: then it is somewhere else."""
        return self._starts & self._seen if self._entry in self._seen else None

    def options(self) -> list[str]:
        """Return the emulator's options."""
        ranges = (self._entry, self._entry), (min(self._starts), max(self._starts))
        listed = ",".join(f"{first + self._bias:#x}..{last + self._bias:#x}" for first, last in ranges)
        return ["-d", "in_asm", "-D", f"/dev/fd/{self.log.writing}", "-dfilter", listed]

    def _told(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:64]
        found = (_INSTRUCTION.match(line) for line in lines)
        self._seen.update(int(address[1], 16) - self._bias for address in found if address)


def _offset(process: subprocess.Popen[bytes], address: str) -> int:
    """Ask for the offsets of the program's sections: GDB manual, "General Query Packets", ``qOffsets``."""
    if sys.platform == "win32":
        raise OSError("there are no sockets in the file system")
    until = time.monotonic() + _SECONDS
    with socket.socket(socket.AF_UNIX) as connection:
        while True:
            try:
                connection.connect(address)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.005)
        connection.settimeout(_SECONDS)
        connection.sendall(b"$qOffsets#4b")
        answer = b""
        while not re.search(rb"\$[^#]*#..", answer) and len(answer) < 4096:
            part = connection.recv(4096)
            if not part:
                raise ValueError("the emulator ended")
            answer += part
        return int(answer.partition(b"Text=")[2].partition(b";")[0], 16)
