"""Running somebody's program for no longer, and keeping no more of what it writes, than was agreed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

KEPT = 1 << 20
"""Bytes that are kept of each output."""
_CHUNK = 1 << 16
_GRACE = 1.0
"""Seconds that what a program has left running may still write."""
_starting = threading.Lock()
"""Held while the limits of this process are those of what it starts."""


class Output(Value):
    """What a program wrote."""

    start: bytes
    """The first :data:`KEPT` bytes."""
    size: int
    sha256: str
    """Of all of it."""


class Ended(Value):
    """How a program ended."""

    status: int
    """The exit status, or the negative number of the signal that ended it."""
    expired: bool
    """Whether that was done here, when the time was over."""
    seconds: float
    stdout: Output
    stderr: Output


class Log(NamedTuple):
    """A pipe that a program is handed beside its outputs, and who is told what comes through."""

    reading: int
    writing: int
    """Both ends are closed by :func:`run`."""
    told: Callable[[bytes], None]


def run(
    command: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str],
    log: Log | None = None,
    wait: Callable[[int, float], int | None] | None = None,
) -> Ended:
    """Run a program in a session of its own, without input and without a core dump. Raises OSError if there is none.

    ``wait`` takes the place of ``waitpid``: it is given the process and the seconds, and returns its status in the end,
    or None when the time is over.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as files:
        if log:
            files.callback(os.close, log.reading)
        try:
            with _no_core_dumps():
                process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environment,
                    pass_fds=(log.writing,) if log else (),
                    start_new_session=True,
                )
        finally:
            if log:
                os.close(log.writing)
        readers: list[_Reader] = []
        try:
            files.enter_context(process)
            readers += (_Reader(file.fileno()) for file in (process.stdout, process.stderr) if file)
            readers += [_Reader(log.reading, log.told)] if log else []
            expired = not _is_over(process, seconds, wait)
        finally:
            took = time.monotonic() - start
            _end(process, readers)
        stdout, stderr = (reader.output() for reader in readers[:2])
        return Ended(process.returncode, expired, took, stdout, stderr)


def _is_over(process: subprocess.Popen[bytes], seconds: float, wait: Callable[[int, float], int | None] | None) -> bool:
    if wait is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    elif (status := wait(process.pid, seconds)) is not None:
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode is not None


@contextlib.contextmanager
def _no_core_dumps() -> Iterator[None]:
    """Let what is started meanwhile inherit that it leaves no core dump. qemu-user writes one itself, where it may."""
    if sys.platform == "win32":
        yield
        return
    import resource

    with _starting:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def _end(process: subprocess.Popen[bytes], readers: list[_Reader]) -> None:
    """End a program if it runs, and what it left running if that does not end soon."""
    is_over = process.poll() is not None
    until = time.monotonic() + (_GRACE if is_over else 0)
    for reader in readers:
        reader.join(max(0, until - time.monotonic()))
    if not is_over or any(reader.is_alive() for reader in readers):
        _kill(process)
    process.wait()
    for reader in readers:
        reader.stop()


def signal_name(number: int) -> str:
    """Return what a signal is called, ``SIGSEGV``; those for real time have no names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and its session; on Windows, which has none, only the program."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Reader(threading.Thread):
    """Reads a pipe until its end, or until it is stopped: a process that left the session may keep it open forever."""

    def __init__(self, file: int, told: Callable[[bytes], None] | None = None) -> None:
        super().__init__(daemon=True)
        self._file, self._told = os.dup(file), told
        self._start, self._size, self._digest = bytearray(), 0, hashlib.sha256()
        self._wake, self._waker = os.pipe()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while self._may_read() and (chunk := os.read(self._file, _CHUNK)):
                if self._told:
                    self._told(chunk)
                self._start += chunk[: KEPT - len(self._start)]
                self._size += len(chunk)
                self._digest.update(chunk)

    def _may_read(self) -> bool:
        """Wait for something to read, or the end of it, unless it is stopped. Windows cannot wait for two pipes."""
        if sys.platform == "win32":
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self._file, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            return all(key.fd != self._wake for key, _ in selector.select())

    def stop(self) -> None:
        """End the thread, after a while for what is on its way."""
        self.join(_GRACE)
        os.close(self._waker)
        if sys.platform != "win32":
            self.join()
        if not self.is_alive():
            os.close(self._file)
            os.close(self._wake)

    def output(self) -> Output:
        return Output(bytes(self._start), self._size, self._digest.hexdigest())
