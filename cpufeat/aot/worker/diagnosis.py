"""Turn the end of the worker process into an error, by its exit status and its stderr, which may name the function."""

from __future__ import annotations

import re

from cpufeat.aot.llvm.job import EmitError, LimitError
from cpufeat.errors import CompileError
from cpufeat.support.value import Value

_SIGKILL = -9
"""The status of a process that SIGKILL ended; Windows has no such signal."""
_FATAL = re.compile(r"LLVM ERROR:|\berror:|Assertion |terminate called|what\(\):")
_OUT_OF_MEMORY = re.compile(r"out of memory|bad_alloc|MemoryError|Cannot allocate memory", re.IGNORECASE)
_FUNCTION = re.compile(r"In function:? '?(.+?)'?$", re.MULTILINE)


class Crash(Value):
    """The end of a worker process that did not answer a job."""

    status: int | None
    """The exit status, or the negative number of a signal; None if the process was still running."""
    stderr: str
    exceeded_seconds: float | None
    """The time limit, if it had passed."""
    memory_limit: int | None
    """Bytes."""
    is_accepted: bool
    """Whether LLVM had read and verified the module, so that it was code generation that failed."""

    def error(self) -> CompileError:
        """Return the error to raise: a LimitError or EmitError if code generation failed, else a CompileError."""
        limit_exceeded = self._limit_exceeded()
        if limit_exceeded:
            return (LimitError if self.is_accepted else CompileError)(limit_exceeded)
        failure = EmitError if self.is_accepted else CompileError
        if self.status is None:
            return failure("the worker process for LLVM sent an invalid reply")
        function = _FUNCTION.search(self.stderr)
        return failure(f"LLVM {cause_of_end(self.status, self.stderr)}", function[1] if function else None)

    def _limit_exceeded(self) -> str:
        if self.exceeded_seconds is not None:
            return f"LLVM exceeded the time limit of {round(self.exceeded_seconds, 2):g} s"
        if self.memory_limit is not None and _OUT_OF_MEMORY.search(self.stderr):
            return f"LLVM exceeded the memory limit of {self.memory_limit / 2**20:.0f} MiB"
        if self.status == _SIGKILL:
            return "LLVM was killed by another process, perhaps by the system for lack of memory"
        return ""


def cause_of_end(status: int, stderr: str) -> str:
    """Return the exit status or signal in words, and the line of stderr that reports a fatal error, else the last."""
    from cpufeat.support.processes import signal_name  # loads what only a crash needs

    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    fatal = [line for line in lines if _FATAL.search(line)] or lines[-1:]
    ending = signal_name(-status) if status < 0 else f"status {status}"
    return f"ended with {ending}" + (f": {fatal[0]}" if fatal else "")
