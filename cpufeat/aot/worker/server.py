"""Serve as the LLVM worker process: read jobs from stdin, one at a time, and write objects or errors to stdout.

An abort in LLVM ends this process only (:mod:`cpufeat.aot.worker.client`).
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

from cpufeat.aot.llvm import job
from cpufeat.aot.llvm.llvmlite_setup import llvm_version
from cpufeat.aot.worker import codegen, protocol
from cpufeat.errors import CpufeatError

_Message = tuple[dict[str, Any], bytes]


def serve() -> None:
    """Answer jobs until the parent closes the pipe or ends, even in the middle of a job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _limit("RLIMIT_CORE", 0)
    jobs: queue.SimpleQueue[_Message] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(os.fdopen(0, "rb", buffering=0), jobs), daemon=True).start()
    protocol.send(replies, {"llvm": llvm_version()})
    while True:
        protocol.send(replies, *_answer(*jobs.get(), replies))


def _read(file: IO[bytes], jobs: queue.SimpleQueue[_Message]) -> None:
    try:
        while True:
            jobs.put(protocol.receive(file))
    except (EOFError, OSError, ValueError):
        os._exit(0)


def _answer(header: dict[str, Any], source: bytes, replies: IO[bytes]) -> _Message:
    if not header:
        return {}, b""
    memory = header.pop("memory")
    _limit("RLIMIT_AS", None if memory is None else _address_space() + memory)
    try:
        emitted = codegen.emit(job.Job(**header), source, lambda: protocol.send(replies, {"accepted": True}))
    except CpufeatError as error:
        return {"error": type(error).__name__, "message": str(error), "function": getattr(error, "function", None)}, b""
    finally:
        _limit("RLIMIT_AS", None)
    requested = [[*target, functions] for target, functions in emitted.requested_targets.items()]
    reply = {"requested_targets": requested, "functions": emitted.functions, "reads_files": emitted.reads_files}
    return reply, emitted.object


def _limit(name: str, soft: int | None) -> None:
    """Set a soft limit, or raise it to the hard limit if None. Windows has no such limits."""
    if sys.platform == "win32":
        return
    import resource

    kind = getattr(resource, name, None)
    if kind is None:
        return
    hard = resource.getrlimit(kind)[1]
    if soft is None or (hard != resource.RLIM_INFINITY and soft > hard):
        soft = hard
    resource.setrlimit(kind, (soft, hard))


def _address_space() -> int:
    """Return the bytes mapped into this process, mostly libLLVM (proc(5), ``statm``); 0 where that cannot be read."""
    if sys.platform == "win32":
        return 0
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
