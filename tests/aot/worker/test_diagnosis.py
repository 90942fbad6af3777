"""The error for each way in which the worker process can end during a job."""

from __future__ import annotations

import pytest

from cpufeat import CompileError
from cpufeat.aot.llvm.job import EmitError, LimitError
from cpufeat.aot.worker.diagnosis import Crash, cause_of_end

MIB = 1 << 20
ABORTED = Crash(status=-6, stderr="", exceeded_seconds=None, memory_limit=None, is_accepted=True)


@pytest.mark.parametrize(
    ("crash", "message"),
    [
        (ABORTED.replace(exceeded_seconds=0.5), "LLVM exceeded the time limit of 0.5 s"),
        (ABORTED.replace(exceeded_seconds=2.0, status=-9), "LLVM exceeded the time limit of 2 s"),
        (
            ABORTED.replace(memory_limit=64 * MIB, stderr="bad_alloc"),
            "LLVM exceeded the memory limit of 64 MiB",
        ),
        (ABORTED.replace(status=-9), "LLVM was killed by another process, perhaps by the system for lack of memory"),
    ],
)
def test_exceeding_a_limit_is_a_limit_error_only_once_the_module_was_accepted(crash: Crash, message: str) -> None:
    for is_accepted, kind in ((True, LimitError), (False, CompileError)):
        error = crash.replace(is_accepted=is_accepted).error()
        assert (type(error), str(error), error.function) == (kind, message, None)


@pytest.mark.parametrize(
    ("crash", "message", "function"),
    [
        (ABORTED, "LLVM ended with SIGABRT", None),
        (ABORTED.replace(status=None), "the worker process for LLVM sent an invalid reply", None),
        (ABORTED.replace(status=1, stderr="out of memory"), "LLVM ended with status 1: out of memory", None),
        (
            ABORTED.replace(stderr="LLVM ERROR: Cannot select: t1\nIn function: f.x86-64-v3\n"),
            "LLVM ended with SIGABRT: LLVM ERROR: Cannot select: t1",
            "f.x86-64-v3",
        ),
    ],
)
def test_another_end_is_an_emit_error_only_once_the_module_was_accepted(
    crash: Crash, message: str, function: str | None
) -> None:
    for is_accepted, kind in ((True, EmitError), (False, CompileError)):
        error = crash.replace(is_accepted=is_accepted).error()
        assert (type(error), str(error), error.function) == (kind, message, function)


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("", ""),
        ("first\n  last  \n\n", ": last"),
        ("note\nx.c:1: error: the first error\nterminate called\nlast", ": x.c:1: error: the first error"),
        ("Assertion `x' failed.\nStack dump:", ": Assertion `x' failed."),
    ],
)
def test_the_cause_is_the_first_fatal_line_of_stderr_else_the_last_line(stderr: str, line: str) -> None:
    assert cause_of_end(3, stderr) == f"ended with status 3{line}"
