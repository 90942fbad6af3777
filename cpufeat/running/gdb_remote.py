"""Speak GDB's remote protocol with qemu-user's stub, to find out at which instruction a program received a signal.

The stub stops the program at every signal, before the program sees it; the program is then continued with that signal.
Source: GDB manual, "Remote Serial Protocol"; the order of registers is that of qemu's ``gdb-xml`` files.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat.running.process_memory import Code, code_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

if sys.platform == "win32":
    raise ImportError("Windows has no UNIX sockets")

_PROGRAM_COUNTERS: Mapping[str, tuple[int, int]] = {"x86_64": (128, 8), "i686": (32, 4), "aarch64": (256, 8)}
"""Offset and size in bytes of the program counter in the answer to ``g``."""
_SIGNALS = frozenset({4, 5, 6, 8, 10, 11})
"""SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGBUS and SIGSEGV, by GDB's numbers."""
_MAX_STOPS = 1000
"""Stops that are looked at: a program that handles a signal very often shall not be slowed down for long."""
_CONNECT_INTERVAL = 0.002
"""Seconds between two attempts to connect."""
_PACKET = re.compile(rb"\$([^#]*)#..", re.DOTALL)
_CHUNK = 4096


class Stub:
    """The stub of an emulated program, which waits for it to be connected before the program starts."""

    def __init__(self, folder: str, arch: str) -> None:
        """Use a socket in a folder of its own."""
        self.address: str = str(Path(folder, "stub"))
        self._counter = _PROGRAM_COUNTERS.get(arch)
        self._stops = 0
        self.code: Code | None = None
        """The code at which the last signal was received; None if none was, or if that is not known."""

    def options(self) -> list[str]:
        """Return the emulator's options that turn the stub on."""
        return ["-g", self.address]

    def observe(self, process: int, seconds: float) -> bool:
        """Let a program run to its end, signals included; return False if that takes too long."""
        until = time.monotonic() + seconds
        try:
            with _Connection(self.address, process, until) as connection:
                answer = connection.ask("?")
                while answer[:1] in ("T", "S", "O"):
                    answer = connection.ask(self._continued(answer, connection, process))
        except TimeoutError:
            return False
        except OSError:  # the emulator ended, or never began
            pass
        return True

    def _continued(self, answer: str, connection: _Connection, process: int) -> str:
        """Return the request with which to continue after a stop; the first stop has the number of SIGTRAP."""
        if answer.startswith("O"):
            return ""
        number, is_first = int(answer[1:3], 16), not self._stops
        self._stops += 1
        if is_first:
            return "c"
        if number in _SIGNALS and self._counter and self._stops < _MAX_STOPS:
            offset, size = self._counter
            registers = connection.ask("g")[2 * offset : 2 * (offset + size)]
            self.code = code_at(process, int.from_bytes(bytes.fromhex(registers), "little"))
        return f"C{number:02x}"


class _Connection:
    """A connection to a stub, up to a time limit."""

    def __init__(self, address: str, process: int, until: float) -> None:
        """Wait for the stub of a process. Raises TimeoutError, and OSError if the process ends before."""
        self._until, self._received = until, b""
        self._socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._socket.connect(address)
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if not Path(f"/proc/{process}/exe").exists():
                    self._socket.close()
                    raise
            if time.monotonic() > until:
                self._socket.close()
                raise TimeoutError
            time.sleep(_CONNECT_INTERVAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: str) -> str:
        """Send a request and return the answer, empty at the end of the connection; an empty request is not sent."""
        if request:
            content = request.encode()
            self._socket.sendall(b"$%b#%02x" % (content, sum(content) & 0xFF))
        while not (match := _PACKET.search(self._received)):
            self._socket.settimeout(max(self._until - time.monotonic(), _CONNECT_INTERVAL))
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                return ""
            self._received += chunk
        self._received = self._received[match.end() :]
        self._socket.sendall(b"+")
        return match[1].decode(errors="replace")
