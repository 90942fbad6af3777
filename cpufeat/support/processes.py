"""Run a subprocess with limits on time and captured output."""

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

KEPT_BYTES = 1 << 20
"""Bytes of each output that are captured."""
_CHUNK = 1 << 16
_DRAIN_SECONDS = 1.0
"""The time for which output of processes that a program left behind is still read, in seconds."""
_limits_lock = threading.Lock()
"""Held while this process has the resource limits that a program is to inherit."""


class Output(Value):
    """The output of a program on stdout or stderr."""

    start: bytes
    """The first :data:`KEPT_BYTES` bytes."""
    size: int
    """Bytes written in all."""
    sha256: str
    """SHA-256 of all bytes written, in hexadecimal."""


class Ended(Value):
    """The end of a program: its status, time and output."""

    status: int
    """The exit status, or the negative number of the signal that ended it."""
    expired: bool
    """Whether :func:`run` killed it at the time limit."""
    seconds: float
    """The time that it ran, in seconds."""
    stdout: Output
    stderr: Output


class Log(NamedTuple):
    """A further pipe for a program to write to. :func:`run` closes both ends."""

    read_end: int
    write_end: int
    on_data: Callable[[bytes], None]
    """Called with each chunk that is read."""


def run(
    command: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str],
    log: Log | None = None,
    wait: Callable[[int, float], int | None] | None = None,
) -> Ended:
    """Run a program in a session of its own, without input and core dumps, for at most ``seconds``.

    ``wait``, if given, replaces ``waitpid``: called with the process ID and the seconds, it returns the wait status, or
    None at the time limit. Raises OSError for a program that cannot be started.
    """
    start = time.monotonic()
    with contextlib.ExitStack() as files:
        if log:
            files.callback(os.close, log.read_end)
        try:
            with _no_core_dumps():
                process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environment,
                    pass_fds=(log.write_end,) if log else (),
                    start_new_session=True,
                )
        finally:
            if log:
                os.close(log.write_end)
        readers: list[_Reader] = []
        try:
            files.enter_context(process)
            readers += (_Reader(file.fileno()) for file in (process.stdout, process.stderr) if file)
            readers += [_Reader(log.read_end, log.on_data)] if log else []
            has_ended = _wait(process, seconds, wait)
        finally:
            took = time.monotonic() - start
            _end(process, readers)
        stdout, stderr = (reader.output() for reader in readers[:2])
        return Ended(process.returncode, not has_ended, took, stdout, stderr)


def _wait(process: subprocess.Popen[bytes], seconds: float, wait: Callable[[int, float], int | None] | None) -> bool:
    """Return whether the program ended within so many seconds."""
    if wait is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    elif (status := wait(process.pid, seconds)) is not None:
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode is not None


@contextlib.contextmanager
def _no_core_dumps() -> Iterator[None]:
    """Start programs in this context with core dumps disabled. qemu-user, too, then writes none."""
    if sys.platform == "win32":
        yield
        return
    import resource

    with _limits_lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def _end(process: subprocess.Popen[bytes], readers: list[_Reader]) -> None:
    """Kill a program if it still runs, and the processes that it left behind unless they end soon."""
    has_ended = process.poll() is not None
    until = time.monotonic() + (_DRAIN_SECONDS if has_ended else 0)
    for reader in readers:
        reader.join(max(0, until - time.monotonic()))
    if not has_ended or any(reader.is_alive() for reader in readers):
        _kill(process)
    process.wait()
    for reader in readers:
        reader.stop()


def signal_name(number: int) -> str:
    """Return a signal's name, ``SIGSEGV``; real-time signals have none, and are ``signal 40``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and its session; on Windows, which has no sessions, only the program."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Reader(threading.Thread):
    """Reads a pipe until its end, or until stopped: a process that left the session may keep it open forever."""

    def __init__(self, file: int, on_data: Callable[[bytes], None] | None = None) -> None:
        super().__init__(daemon=True)
        self._file, self._on_data = os.dup(file), on_data
        self._start, self._size, self._digest = bytearray(), 0, hashlib.sha256()
        self._wake, self._waker = os.pipe()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while self._may_read() and (chunk := os.read(self._file, _CHUNK)):
                if self._on_data:
                    self._on_data(chunk)
                self._start += chunk[: KEPT_BYTES - len(self._start)]
                self._size += len(chunk)
                self._digest.update(chunk)

    def _may_read(self) -> bool:
        """Wait for data or the end of the pipe; return False once stopped. Windows cannot wait for two pipes."""
        if sys.platform == "win32":
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self._file, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            return all(key.fd != self._wake for key, _ in selector.select())

    def stop(self) -> None:
        """End the thread, once data on its way has been read."""
        self.join(_DRAIN_SECONDS)
        os.close(self._waker)
        if sys.platform != "win32":
            self.join()
        if not self.is_alive():
            os.close(self._file)
            os.close(self._wake)

    def output(self) -> Output:
        return Output(bytes(self._start), self._size, self._digest.hexdigest())
