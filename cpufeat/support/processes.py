"""Run a subprocess with limits on time and captured output, and if asked with an end to all that it starts."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pkgutil
import select
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.support.deadline import Deadline
from cpufeat.support.interpreter import interpreter
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

KEPT_BYTES = 1 << 20
"""Bytes of each output that are captured."""
_CHUNK = 1 << 16
_DRAIN_SECONDS = 1.0
"""The time for which output of processes that a program left behind is still read, in seconds."""
_START_SECONDS, _KILL_SECONDS = 60.0, 10.0
"""Seconds that a supervisor may take to start a program, and to end all that it started."""
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
) -> Ended:
    """Run a program in a session of its own, without input and core dumps, for at most ``seconds``.

    Raises OSError for a program that cannot be started.
    """
    return _run(_Session(), command, seconds, environment, log)


def run_supervised(
    command: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str],
    log: Log | None = None,
    observe: Callable[[int, float], bool] | None = None,
) -> Ended:
    """Run a program as :func:`run` does, and end every process that it left behind.

    ``observe``, if given, is called with the process ID and the seconds; it returns whether the program ended, or will
    soon. Raises OSError for a program that cannot be started, and without a Python interpreter to supervise it.
    """
    return _run(_Supervised(observe), command, seconds, environment, log)


def _run(
    session: _Session, command: Sequence[str], seconds: float, environment: Mapping[str, str], log: Log | None
) -> Ended:
    with contextlib.ExitStack() as files:
        if log:
            files.callback(os.close, log.read_end)
        try:
            with _no_core_dumps():
                process = subprocess.Popen(  # noqa: S603
                    session.command(command),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environment,
                    pass_fds=(*((log.write_end,) if log else ()), *session.inherited),
                    start_new_session=True,
                )
        finally:
            session.close_inherited()
            if log:
                os.close(log.write_end)
        readers: list[_Reader] = []
        start = time.monotonic()
        status: int | None = None
        try:
            files.enter_context(process)
            session.begin(process)
            start = time.monotonic()
            readers += (_Reader(file.fileno()) for file in (process.stdout, process.stderr) if file)
            readers += [_Reader(log.read_end, log.on_data)] if log else []
            status = session.wait(seconds)
        finally:
            took = time.monotonic() - start
            _drain(readers, _DRAIN_SECONDS if status is not None else 0)
            if status is None or any(reader.is_alive() for reader in readers) or session.is_supervised:
                session.kill()
            process.wait()
            for reader in readers:
                reader.stop()
        stdout, stderr = (reader.output() for reader in readers[:2])
        return Ended(process.returncode if status is None else status, status is None, took, stdout, stderr)


class _Session:
    """A program in a session of its own."""

    is_supervised: bool = False
    inherited: tuple[int, ...] = ()
    """The file descriptors that the process inherits."""

    def command(self, program: Sequence[str]) -> Sequence[str]:
        """Return the command that runs a program."""
        return program

    def close_inherited(self) -> None:
        """Close, here, what the process has inherited."""
        for file in self.inherited:
            os.close(file)

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """Take over the process that was started. Raises OSError if it could not start the program."""
        self._process = process

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, or the negative number of a signal; None at the time limit."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def kill(self) -> None:
        """Kill the program and its session; on Windows, which has no sessions, only the program."""
        if sys.platform == "win32":
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class _Supervised(_Session):
    """A program under :mod:`.supervisor`."""

    is_supervised: bool = True

    def __init__(self, observe: Callable[[int, float], bool] | None) -> None:
        self._observe = observe
        self._report, report = os.pipe()
        control, self._control = os.pipe()
        self.inherited: tuple[int, ...] = (report, control)
        self._lines = b""

    def command(self, program: Sequence[str]) -> Sequence[str]:
        python = interpreter()
        if not python:
            raise OSError(errno.ENOENT, "there is no Python interpreter to supervise the program")
        text = pkgutil.get_data("cpufeat.support", "supervisor.py")
        if text is None:
            raise OSError(errno.ENOENT, "the supervisor of programs is not installed")
        path = shutil.which(program[0]) or program[0]
        return [python, "-I", "-S", "-c", text.decode(), *map(str, self.inherited), path, *program[1:]]

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        super().begin(process)
        line = self._line(Deadline(_START_SECONDS)) or b"!0"
        if line.startswith(b"!"):
            number = int(line[1:])
            self.kill()
            raise OSError(number, os.strerror(number) if number else "the program could not be supervised")
        self._program = int(line)

    def wait(self, seconds: float) -> int | None:
        deadline = Deadline(seconds)
        if self._observe and not self._observe(self._program, seconds):
            return None
        line = self._line(deadline)
        return os.waitstatus_to_exitcode(int(line)) if line else None

    def _line(self, deadline: Deadline) -> bytes:
        """Return the next line of the report; empty at the deadline and at its end."""
        while b"\n" not in self._lines:
            ready, _, _ = select.select([self._report], [], [], deadline.left())
            chunk = os.read(self._report, _CHUNK) if ready else b""
            if not chunk:
                return b""
            self._lines += chunk
        line, _, self._lines = self._lines.partition(b"\n")
        return line

    def kill(self) -> None:
        """Have the supervisor kill the program and all that it started, and end."""
        if self._control < 0:
            return
        os.close(self._control)
        os.close(self._report)
        self._control = self._report = -1
        try:
            self._process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            super().kill()


def _drain(readers: list[_Reader], seconds: float) -> None:
    """Give the processes that a program left behind some time to write."""
    deadline = Deadline(seconds)
    for reader in readers:
        reader.join(deadline.left())


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


def signal_name(number: int) -> str:
    """Return a signal's name, ``SIGSEGV``; real-time signals have none, and are ``signal 40``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
