"""Which code a program chose that runs on this machine itself: read from its memory when it exits.

A dispatcher leaves the address of what it chose in the program's data (:mod:`cpufeat.aot.runtime.dispatcher`), where
nothing else leaves the address of a clone. Linux stops a traced process at its end, with all its memory (ptrace(2),
PTRACE_O_TRACEEXIT). Nothing else about the program is changed, and only its first thread is traced.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

if sys.platform == "win32":
    raise ImportError("there is no ptrace(2)")

_CONT, _SEIZE, _LISTEN = 7, 0x4206, 0x4208
_TRACE_EXIT, _EVENT_EXIT, _EVENT_STOP = 1 << 6, 6, 128
"""<linux/ptrace.h>"""
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_AT_ENTRY = 9
"""<linux/auxvec.h>"""
_WORDS: dict[int, Literal["I", "Q"]] = {32: "I", 64: "Q"}
_SHELL = "/bin/sh"
_FAILED = re.compile(rf"^{_SHELL}: (?:(?:line )?\d+: )?(.*)", re.M)
_PATIENCE = 0.002
"""Seconds between two looks at a process."""
_END = 10.0
"""Seconds that a killed process may take to be gone."""
_MOST = 64 << 20
"""Bytes of a program's data that are looked through."""


class Trace:
    """Waits for a program, and finds out at its exit which of some addresses its data holds."""

    def __init__(self, path: str, bits: int, entry: int, starts: Collection[int]) -> None:
        """Look for some of the file's own addresses, those where code begins; ``bits`` are those of a pointer."""
        self._path, self._bits, self._entry, self._starts = os.path.realpath(path), bits, entry, frozenset(starts)
        self._seen: frozenset[int] | None = None

    def seen(self) -> frozenset[int] | None:
        """Return what was found, None if the program could not be followed to its exit."""
        return self._seen

    def command(self, program: list[str]) -> list[str]:
        """Return what starts a program that :meth:`wait` is to wait for: it stops before it is one."""
        return [_SHELL, "-c", 'kill -STOP $$; exec "$@"', _SHELL, *program]

    def wait(self, process: int, seconds: float) -> int | None:
        """Let a program run, and return what ``waitpid`` says of its end; None when the time is over."""
        until = time.monotonic() + seconds
        status = _change(process, until, os.WUNTRACED)
        if status is None or not os.WIFSTOPPED(status):
            return status
        is_traced = _ptrace(_SEIZE, process, _TRACE_EXIT)
        os.kill(process, signal.SIGCONT)
        if not is_traced:
            return _change(process, until)
        status = None
        try:
            status = self._follow(process, until)
        finally:
            if status is None:  # once more it may stop, at its exit, where only its tracer can let it go
                os.kill(process, signal.SIGKILL)
                self._follow(process, time.monotonic() + _END)
        return status

    def _follow(self, process: int, until: float) -> int | None:
        """Let a traced program go on, whatever it stops for, until it ends."""
        while True:
            status = _change(process, until)
            if status is None or not os.WIFSTOPPED(status):
                return status
            event, number = status >> 16, os.WSTOPSIG(status)
            if event == _EVENT_EXIT:
                self._seen = self._found(process)
            is_stopped_by_signal = event == _EVENT_STOP and number in _STOPS
            _ptrace(_LISTEN if is_stopped_by_signal else _CONT, process, 0 if event else number)

    def _found(self, process: int) -> frozenset[int] | None:
        word = _WORDS[self._bits]
        try:
            auxv = dict(struct.iter_unpack(f"={2 * word}", Path(f"/proc/{process}/auxv").read_bytes()))
            bias = auxv[_AT_ENTRY] - self._entry
            held = self._held(process, word, frozenset(start + bias for start in self._starts))
        except (OSError, ValueError, KeyError, struct.error):
            return None
        return frozenset(address - bias for address in held)

    def _held(self, process: int, word: Literal["I", "Q"], wanted: frozenset[int]) -> set[int]:
        """Return the words that are wanted of those in the program's own data."""
        held: set[int] = set()
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            for line in Path(f"/proc/{process}/maps").read_text(errors="replace").splitlines():
                place, permissions, _, _, _, *path = line.split(maxsplit=5)
                if path == [self._path] and "x" not in permissions:
                    start, end = (int(address, 16) for address in place.split("-"))
                    content = os.pread(memory.fileno(), min(end - start, _MOST), start)
                    held |= wanted.intersection(memoryview(content).cast(word))
        return held


def failure(said: str) -> str:
    """Return why a program could not be started, by what the shell said; empty if it could."""
    failed = _FAILED.search(said)
    return failed[1] if failed else ""


def _change(process: int, until: float, options: int = 0) -> int | None:
    """Wait until a process stops or ends, and return how; None when the time is over."""
    while True:
        changed, status = os.waitpid(process, options | os.WNOHANG)
        if changed:
            return status
        if time.monotonic() > until:
            return None
        time.sleep(_PATIENCE)


def _ptrace(request: int, process: int, data: int) -> bool:
    """Return whether the kernel did it. It may refuse, in a container for instance."""
    library = ctypes.CDLL(None)
    library.ptrace.argtypes, library.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
    return bool(library.ptrace(request, process, 0, data) == 0)
