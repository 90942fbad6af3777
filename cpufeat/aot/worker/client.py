"""Start the worker process, send it jobs, and stop it at a time limit; a later job starts a new one.

Each process has one worker, which the first job starts and later jobs use. A forked child starts its own.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, cast

from cpufeat.aot.llvm.job import EmitError, Emitted
from cpufeat.aot.worker import protocol, worker_command
from cpufeat.aot.worker.diagnosis import Crash, cause_of_end
from cpufeat.errors import CompileError, CpufeatError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from cpufeat.aot.llvm.job import Job
    from cpufeat.support.deadline import Deadline

_START_SECONDS, _ANSWER_SECONDS = 60.0, 5.0
"""Time limits for the process to start, and to answer whether it is alive: if it is stopped it does not."""
_EXIT_SECONDS = 1.0
"""Time limit for the process to exit by itself."""
_ERRORS: dict[str, type[CpufeatError]] = {
    "CompileError": CompileError,
    "EmitError": EmitError,
    "TargetError": TargetError,
}
_MAX_STDERR = 1 << 16
"""Bytes of stderr that are read."""
_BROKEN = (EOFError, OSError, ValueError, KeyError, TypeError)
"""The errors that a pipe to a dead process, or an invalid reply, raises."""


class Worker:
    """A process with LLVM in it. Not for two threads at once: see :func:`worker`."""

    def __init__(self, deadline: Deadline) -> None:
        """Start the process and wait until LLVM is loaded. Raises CompileError."""
        with contextlib.ExitStack() as undo:
            try:
                self._stderr = undo.enter_context(tempfile.TemporaryFile())
                self._process = _spawn(self._stderr)
            except OSError as error:
                raise CompileError(f"the worker process for LLVM did not start: {sys.executable}: {error}") from None
            undo.pop_all()
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        limit = deadline.within(_START_SECONDS)
        try:
            with self._conversation(limit) as expired:
                self.llvm: tuple[int, ...] = tuple(map(int, protocol.receive(self._stdout)[0]["llvm"]))
        except _BROKEN:
            cause = self._cause_of_end()
            cause = f"it took longer than {limit.seconds:g} s" if expired.is_set() else cause
            raise CompileError(f"the worker process for LLVM did not start: {cause}") from None

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def answers(self, deadline: Deadline) -> bool:
        """Whether the process is alive and answers soon; if not, it is killed."""
        if self._stdin.closed:
            return False
        try:
            with self._conversation(deadline.within(_ANSWER_SECONDS)):
                protocol.send(self._stdin, {})
                protocol.receive(self._stdout)
        except _BROKEN:
            self.stop()
            return False
        return True

    def emit(self, job: Job, source: bytes, deadline: Deadline, memory_limit: int | None) -> Emitted:
        """Return the result of a job.

        ``memory_limit`` is in bytes beyond what the idle worker has; None is no limit.
        Raises as :func:`cpufeat.aot.worker.codegen.emit` does. If the worker ends, that is a CompileError, and after
        the module was accepted an EmitError or LimitError.
        """
        os.ftruncate(self._stderr.fileno(), 0)
        os.lseek(self._stderr.fileno(), 0, os.SEEK_SET)
        is_accepted = False
        with self._conversation(deadline) as expired:
            try:
                protocol.send(self._stdin, {**vars(job), "memory": memory_limit}, source)
                reply, content = protocol.receive(self._stdout)
                if reply.get("accepted"):
                    is_accepted = True
                    reply, content = protocol.receive(self._stdout)
                return self._emitted(reply, content)
            except CpufeatError:
                raise
            except _BROKEN:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_EXIT_SECONDS)
                status, stderr = self._process.poll(), self.stop()
        exceeded_seconds = deadline.seconds if expired.is_set() else None
        raise Crash(status, stderr, exceeded_seconds, memory_limit, is_accepted).error()

    def _emitted(self, reply: dict[str, Any], content: bytes) -> Emitted:
        """Return the contents of a reply, or raise its error. The worker read an untrusted module: check all types."""
        if "error" in reply:
            error = _ERRORS[reply["error"]](str(reply["message"]))
            if isinstance(error, CompileError) and reply["function"] is not None:
                error.function = str(reply["function"])
            raise error
        requested = {
            (str(cpu), str(features)): [str(name) for name in names]
            for cpu, features, names in reply["requested_targets"]
        }
        functions = [str(name) for name in reply["functions"]]
        return Emitted(content, requested, functions, self.llvm, bool(reply["reads_files"]), self._stderr_text())

    def stop(self) -> str:
        """Kill the process, and return what it wrote to stderr."""
        self._process.kill()
        self._process.wait()
        stderr = self._stderr_text()
        self.forget()
        return stderr

    def finish(self) -> None:
        """Close the process's stdin, upon which it exits."""
        self._stdin.close()
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close the pipes to a process that has ended, or belongs to the parent of this one."""
        for file in (self._stdin, self._stdout, self._stderr):
            file.close()
        if self._process.returncode is None:
            self._process.returncode = 0

    def _cause_of_end(self) -> str:
        stderr = self.stop()
        return f"it {cause_of_end(self._process.returncode, stderr)}"

    @contextlib.contextmanager
    def _conversation(self, deadline: Deadline) -> Iterator[threading.Event]:
        """Kill the process at the deadline, which sets the event, and when an exception interrupts a message."""
        expired, seconds = threading.Event(), deadline.left()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(min(math.inf if seconds is None else seconds, threading.TIMEOUT_MAX), expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        except (CpufeatError, *_BROKEN):
            raise
        except BaseException:
            self.stop()
            raise
        finally:
            timer.cancel()
            timer.join()

    def _stderr_text(self) -> str:
        """Return the worker's output on stderr, by a mapping: reading would move the offset at which it writes."""
        try:
            with mmap.mmap(self._stderr.fileno(), 0, access=mmap.ACCESS_READ) as written:
                return written[:_MAX_STDERR].decode(errors="replace")
        except ValueError:  # nothing
            return ""


_lock = threading.Lock()
_worker: Worker | None = None


@contextlib.contextmanager
def worker(deadline: Deadline) -> Iterator[Worker]:
    """Hold this process's worker, started if there is none, while others wait for it. Raises CompileError."""
    left = deadline.left()
    if not _lock.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX)):
        raise CompileError(f"other threads kept the worker process for LLVM for longer than {deadline.seconds:g} s")
    try:
        yield _alive(deadline)
    finally:
        _lock.release()


def _alive(deadline: Deadline) -> Worker:
    global _worker  # noqa: PLW0603
    if _worker is None or not _worker.answers(deadline):
        _worker = None
        _worker = Worker(deadline)
    return _worker


def _spawn(stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        worker_command.command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        bufsize=0,
        env={**os.environ, "LLVMLITE_ENABLE_OPAQUE_POINTERS": "1"},
    )


def _in_child() -> None:
    global _lock, _worker
    if _worker is not None:
        _worker.forget()
    _lock, _worker = threading.Lock(), None


def _at_exit() -> None:
    if _worker is not None:
        _worker.finish()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
