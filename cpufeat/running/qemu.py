"""Call qemu-user: list the CPU models that it emulates and how completely, and observe which code of a program runs."""

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

from cpufeat import tables
from cpufeat.errors import UnknownNameError, VerifyError
from cpufeat.features import find, nearest
from cpufeat.support import processes
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_MODEL_PREFIXES = ("x86", "s390", "PowerPC", "MIPS")
"""The first word of each line in some emulators' lists of models."""
_UNEMULATED = re.compile(r"requested feature: CPUID\.[\w]+:\w+\.([\w.-]+) \[bit")
_BAD_MODEL = re.compile(r"unable to find CPU model.*|Property .* not found")
_ERROR = re.compile(
    r"^(?:qemu-\S+: (?!warning: |uncaught |QEMU internal )|(?=The selected x86 CPU does not))(.*)", re.M
)
_WARNING = re.compile(r"^qemu-\S+: warning: .*\n?", re.M)
_INSTRUCTION = re.compile(rb"0x([0-9a-f]{1,16}):")
_TIME_LIMIT = 60.0
"""The time limit in seconds for a question to the emulator."""
_PASSED_VARIABLES = ("QEMU_LD_PREFIX", "QEMU_SET_ENV", "QEMU_STACK_SIZE", "QEMU_UNSET_ENV")


class Emulator(Value):
    """The emulator qemu-user for one architecture."""

    path: str
    name: str
    """``qemu-x86_64``."""
    arch: str

    def models(self) -> tuple[str, ...]:
        """Return the names of the CPU models that it lists."""
        listing = self._ask("-cpu", "help").stdout.start.decode(errors="replace")
        lines = listing.partition("\n\n")[0].splitlines()
        words = [line.split() for line in lines if line and not line.endswith(":")]
        return tuple(row[1 if row[0] in _MODEL_PREFIXES else 0].strip("'") for row in words)

    def find_model(self, name: str, models: Sequence[str]) -> str:
        """Return a model in the emulator's spelling, with its changes (``Haswell,-avx``). Raises VerifyError."""
        model, comma, changes = name.partition(",")
        spellings = {known.lower(): known for known in reversed(models)}
        if model.lower() not in spellings:
            suggestions = [spellings[known] for known in nearest(model.lower(), spellings)]
            hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
            raise VerifyError(f"{self.name} has no CPU model {model!r}{hint} ({self.name} -cpu help lists all)")
        return spellings[model.lower()] + comma + changes

    def unemulated_features(self, model: str) -> frozenset[str]:
        """Return the features of a model that are not emulated. Raises VerifyError for an unknown model."""
        warnings = self._ask("-cpu", model, os.devnull).stderr.start.decode(errors="replace")
        error = _BAD_MODEL.search(warnings)
        if error:
            raise VerifyError(f"{model}: {error[0]}")
        names = set()
        for flag in _UNEMULATED.findall(warnings):
            try:
                names.add(find(self.arch, flag).name)
            except UnknownNameError:
                continue
        return frozenset(names)

    def command(self, model: str, watch: Watch | None = None) -> list[str]:
        """Return the command line that a program is appended to; ``model`` empty: the emulator's default."""
        return [self.path, *(["-cpu", model] if model else []), *(watch.options() if watch else [])]

    def load_bias(self, program: str) -> int | None:
        """Return the offset from a program's own addresses to those where it is loaded; None if it cannot be loaded.

        The program is started under GDB's remote protocol, which stops it before its first instruction, and killed.
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
                return _query_offset(process, address)
            except (OSError, ValueError, IndexError):
                return None
            finally:
                process.kill()
                process.wait()

    def _ask(self, *arguments: str) -> processes.Ended:
        return processes.run([self.path, *arguments], seconds=_TIME_LIMIT, environment=environment())


def emulator(arch: str) -> Emulator:
    """Return the emulator for an architecture. Raises VerifyError, which says what to install."""
    spelling = (tables.architecture(arch).qemu if tables.has_tables(arch) else "") or arch
    name = f"qemu-{spelling}"
    path = shutil.which(name) or shutil.which(f"{name}-static")
    if path is None:
        packages = "qemu-user (Debian, Ubuntu), qemu-user-static (Fedora), qemu (Arch: qemu-user)"
        raise VerifyError(f"needs {name}, to run {arch} programs on other CPUs: install {packages}")
    return Emulator(path, name, arch)


def environment() -> dict[str, str]:
    """Return this process's environment without the variables of QEMU that change the CPU or write output."""
    return {name: text for name, text in os.environ.items() if name[:5] != "QEMU_" or name in _PASSED_VARIABLES}


def without_warnings(stderr: str) -> str:
    """Return what a program wrote to stderr, without the emulator's warnings about unemulated features."""
    return _WARNING.sub("", stderr)


def failure(stderr: str) -> str:
    """Return the emulator's message about why it could not run a program, empty if there is none."""
    error = _ERROR.search(stderr)
    return error[1].strip() if error else ""


class Watch:
    """Observes which of some functions run in an emulated program.

    The emulator logs each block of code when it first translates it, right before it runs the block: a line for each
    instruction, which begins with the address. Only the range of the functions is logged, and the log is not stored.
    """

    def __init__(self, entry: int, starts: Collection[int], bias: int) -> None:
        """Watch the functions at ``starts``, in the file's own addresses; the program is loaded ``bias`` above them."""
        self._entry, self._starts, self._bias = entry, frozenset(starts), bias
        self._seen: set[int] = set()
        self._rest = b""
        self.log: processes.Log = processes.Log(*os.pipe(), self._read)

    def seen(self) -> frozenset[int] | None:
        """Return the functions that ran, by start; None if the program's entry point did not: the bias is wrong."""
        return self._starts & self._seen if self._entry in self._seen else None

    def options(self) -> list[str]:
        """Return the emulator's options that turn the log on."""
        ranges = (self._entry, self._entry), (min(self._starts), max(self._starts))
        logged = ",".join(f"{first + self._bias:#x}..{last + self._bias:#x}" for first, last in ranges)
        return ["-d", "in_asm", "-D", f"/dev/fd/{self.log.write_end}", "-dfilter", logged]

    def _read(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[:64]
        matches = (_INSTRUCTION.match(line) for line in lines)
        self._seen.update(int(match[1], 16) - self._bias for match in matches if match)


def _query_offset(process: subprocess.Popen[bytes], address: str) -> int:
    """Return the offset of the program's text (GDB manual, "General Query Packets", ``qOffsets``). Raises OSError."""
    if sys.platform == "win32":
        raise OSError("Windows has no UNIX sockets")
    until = time.monotonic() + _TIME_LIMIT
    with socket.socket(socket.AF_UNIX) as connection:
        while True:
            try:
                connection.connect(address)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.005)
        connection.settimeout(_TIME_LIMIT)
        connection.sendall(b"$qOffsets#4b")
        answer = b""
        while not re.search(rb"\$[^#]*#..", answer) and len(answer) < 4096:
            part = connection.recv(4096)
            if not part:
                raise ValueError("the emulator exited")
            answer += part
        return int(answer.partition(b"Text=")[2].partition(b";")[0], 16)
