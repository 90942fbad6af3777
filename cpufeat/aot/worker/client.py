"""The caller's side of the worker: start it, ask it, survive its death, and say what it died of.

One worker a process, started by the first job and kept. A forked child starts its own.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import mmap
import os
import re
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, cast

from cpufeat.aot.llvm import llvmlite_setup
from cpufeat.aot.llvm.job import EmitError, Emitted, LimitError
from cpufeat.aot.worker import protocol
from cpufeat.errors import CompileError, CpufeatError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from cpufeat.aot.llvm.job import Job

_BOOTSTRAP = """
import importlib.util, sys
for name, path in zip(sys.argv[1::2], sys.argv[2::2]):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from cpufeat.aot.worker.server import serve
serve()
"""
"""Loads these very copies of llvmlite and cpufeat: neither the current folder nor ``PYTHONPATH`` is searched."""

_START_LIMIT, _GRACE = 60.0, 1.0
_KILLED = -9
"""The status of a process that SIGKILL ended; Windows has no such signal."""
_ERRORS: dict[str, type[CpufeatError]] = {
    "CompileError": CompileError,
    "EmitError": EmitError,
    "TargetError": TargetError,
}
_TELLING = re.compile(r"LLVM ERROR:|\berror:|Assertion |terminate called|what\(\):")
_OUT_OF_MEMORY = re.compile(r"out of memory|bad_alloc|MemoryError|Cannot allocate memory", re.IGNORECASE)
_FUNCTION = re.compile(r"In function:? '?(.+?)'?$", re.MULTILINE)
_MOST_SAID = 1 << 16
_BROKEN = (EOFError, OSError, ValueError, KeyError, TypeError)
"""What a pipe to a dead process, or an answer that makes no sense, raises."""


class Worker:
    """A process with LLVM in it. Not for two threads at once: see :func:`worker`."""

    def __init__(self) -> None:
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
        try:
            with self._conversation(_START_LIMIT):
                self.llvm = tuple(int(part) for part in protocol.receive(self._stdout)[0]["llvm"])
        except _BROKEN:
            raise CompileError(f"the worker process for LLVM did not start: {self._end(self.stop())}") from None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def answers(self) -> bool:
        """Whether the process is alive; it is let go if not."""
        if self._stdin.closed:
            return False
        try:
            with self._conversation(_START_LIMIT):
                protocol.send(self._stdin, {})
                protocol.receive(self._stdout)
        except _BROKEN:
            self.stop()
            return False
        return True

    def emit(self, job: Job, source: bytes, time_limit: float | None, memory_limit: int | None) -> Emitted:
        """Return what LLVM makes of a job.

        ``time_limit`` is in seconds, ``memory_limit`` in bytes beyond what the idle worker has; None is no limit.
        Raises as :func:`cpufeat.aot.worker.codegen.emit` does. If the worker ends, that is a CompileError, and after
        the module was accepted an EmitError or LimitError.
        """
        os.ftruncate(self._stderr.fileno(), 0)
        os.lseek(self._stderr.fileno(), 0, os.SEEK_SET)
        failure, over_limit = CompileError, CompileError
        with self._conversation(time_limit) as expired:
            try:
                protocol.send(self._stdin, {**vars(job), "memory": memory_limit}, source)
                reply, content = protocol.receive(self._stdout)
                if reply.get("accepted"):
                    failure, over_limit = EmitError, LimitError
                    reply, content = protocol.receive(self._stdout)
                return self._emitted(reply, content)
            except CpufeatError:
                raise
            except _BROKEN:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE)
                status = self._process.poll()
                said = self.stop()
        if expired.is_set():
            raise over_limit(f"LLVM took longer than the {time_limit:g} s that it was given")
        if memory_limit is not None and _OUT_OF_MEMORY.search(said):
            raise over_limit(f"LLVM ran out of the {memory_limit / 2**20:.0f} MiB that it was given")
        if status is None:
            raise failure("the worker process for LLVM gave an answer that makes no sense")
        if status == _KILLED:
            raise over_limit("LLVM was killed from outside, perhaps by the system for want of memory")
        named = _FUNCTION.search(said)
        raise failure(self._end(said), named[1] if named else None)

    def _emitted(self, reply: dict[str, Any], content: bytes) -> Emitted:
        """Return what a reply says, or raise its error. The worker read a stranger's module: nothing is trusted."""
        if "error" in reply:
            error = _ERRORS[reply["error"]](str(reply["message"]))
            if isinstance(error, CompileError) and reply["function"] is not None:
                error.function = str(reply["function"])
            raise error
        requested = {
            (str(cpu), str(features)): [str(name) for name in names]
            for cpu, features, names in reply["requested_targets"]
        }
        return Emitted(content, requested, [str(name) for name in reply["functions"]], self.llvm, self._said())

    def stop(self) -> str:
        """End the process, and return what it wrote to stderr."""
        self._process.kill()
        self._process.wait()
        said = self._said()
        self.forget()
        return said

    def finish(self) -> None:
        """Let the process end by itself, which it does when its stdin does."""
        self._stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Let go of the process: it has ended, or is another's."""
        for file in (self._stdin, self._stdout, self._stderr):
            file.close()
        if self._process.returncode is None:
            self._process.returncode = 0

    @contextlib.contextmanager
    def _conversation(self, seconds: float | None) -> Iterator[threading.Event]:
        """Kill the process when the time is over, which sets the event, and on what interrupts a question or answer."""
        expired = threading.Event()

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

    def _said(self) -> str:
        """Return what the worker wrote, by a mapping: reading would move the end at which it writes."""
        try:
            with mmap.mmap(self._stderr.fileno(), 0, access=mmap.ACCESS_READ) as written:
                return written[:_MOST_SAID].decode(errors="replace")
        except ValueError:  # nothing
            return ""

    def _end(self, said: str) -> str:
        """Say what ended the process: its status, and the line that tells, else the last one."""
        from cpufeat.support.processes import signal_name

        lines = [line.strip() for line in said.splitlines() if line.strip()]
        telling = [line for line in lines if _TELLING.search(line)] or lines[-1:]
        status = self._process.returncode
        how = signal_name(-status) if status < 0 else f"status {status}"
        return f"LLVM ended with {how}" + (f": {telling[0]}" if telling else "")


_lock = threading.Lock()
_worker: Worker | None = None


@contextlib.contextmanager
def worker() -> Iterator[Worker]:
    """Hold this process's worker, started if there is none, while others wait for it. Raises CompileError."""
    with _lock:
        yield _alive()


def _alive() -> Worker:
    global _worker  # noqa: PLW0603
    if _worker is None or not _worker.answers():
        _worker = None
        _worker = Worker()
    return _worker


def _spawn(stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    packages = [part for name in ("llvmlite", "cpufeat") for part in (name, llvmlite_setup.origin(name))]
    return subprocess.Popen(  # noqa: S603
        [sys.executable or "", "-I", "-S", "-c", _BOOTSTRAP, *packages],
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
