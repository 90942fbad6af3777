"""Find out with ptrace(2) which variants a native process selected.

A dispatcher stores the address of the selected clone in the program's data (:mod:`cpufeat.aot.runtime.dispatcher`), and
nothing else stores the address of a clone there. Linux stops a traced process right before its exit, while its memory
is still mapped (PTRACE_O_TRACEEXIT). Nothing else about the program changes, and only its first thread is traced.
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

from cpufeat.running.process_memory import mappings

if TYPE_CHECKING:
    from collections.abc import Collection

if sys.platform == "win32":
    raise ImportError("Windows has no ptrace(2)")

_CONT, _SEIZE, _LISTEN = 7, 0x4206, 0x4208
_O_TRACEEXIT, _EVENT_EXIT, _EVENT_STOP = 1 << 6, 6, 128
"""<linux/ptrace.h>"""
_STOP_SIGNALS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_AT_ENTRY = 9
"""<linux/auxvec.h>"""
_WORD_FORMATS: dict[int, Literal["I", "Q"]] = {32: "I", 64: "Q"}
_SHELL = "/bin/sh"
_SHELL_ERROR = re.compile(rf"^{_SHELL}: (?:(?:line )?\d+: )?(.*)", re.M)
_POLL_INTERVAL = 0.002
"""Seconds between two checks of a process."""
_KILL_TIMEOUT = 10.0
"""Seconds that a killed process may take to exit."""
_MAX_MAPPING = 64 << 20
"""Bytes of each mapping of a program's data that are searched."""


class Trace:
    """Runs a program, and finds out at its exit which of some functions its data has pointers to."""

    def __init__(self, path: str, bits: int, entry: int, starts: Collection[int]) -> None:
        """Search for pointers of ``bits`` to the functions at ``starts``, in the file's own addresses."""
        self._path, self._bits, self._entry, self._starts = os.path.realpath(path), bits, entry, frozenset(starts)
        self._selected: frozenset[int] | None = None

    def seen(self) -> frozenset[int] | None:
        """Return the functions with a pointer, by start; None if the program could not be traced to its exit."""
        return self._selected

    def command(self, program: list[str]) -> list[str]:
        """Return a command line that stops itself and then becomes the program, for :meth:`observe` to continue it."""
        return [_SHELL, "-c", 'kill -STOP $$; exec "$@"', _SHELL, *program]

    def observe(self, process: int, seconds: float) -> bool:
        """Continue a program that stopped itself, to its end; return False if that takes too long.

        It need not be a child of this process.
        """
        until = time.monotonic() + seconds
        while (state := _state(process)) not in ("T", "t"):
            if state in ("", "Z"):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_INTERVAL)
        is_traced = _ptrace(_SEIZE, process, _O_TRACEEXIT)
        os.kill(process, signal.SIGCONT)
        if not is_traced:
            return True
        has_ended = False
        try:
            has_ended = self._follow(process, until)
        finally:
            if not has_ended:  # it stops once more at its exit, and only its tracer can continue it
                os.kill(process, signal.SIGKILL)
                self._follow(process, time.monotonic() + _KILL_TIMEOUT)
        return has_ended

    def _follow(self, process: int, until: float) -> bool:
        """Continue a traced program at every stop until it ends; return False if that takes too long."""
        while True:
            status = _change(process, until)
            if status is None or not os.WIFSTOPPED(status):
                return status is not None
            event, number = status >> 16, os.WSTOPSIG(status)
            if event == _EVENT_EXIT:
                self._selected = self._pointed_to(process)
            is_stopped_by_signal = event == _EVENT_STOP and number in _STOP_SIGNALS
            _ptrace(_LISTEN if is_stopped_by_signal else _CONT, process, 0 if event else number)

    def _pointed_to(self, process: int) -> frozenset[int] | None:
        word = _WORD_FORMATS[self._bits]
        try:
            auxv = dict(struct.iter_unpack(f"={2 * word}", Path(f"/proc/{process}/auxv").read_bytes()))
            bias = auxv[_AT_ENTRY] - self._entry
            addresses = self._search(process, word, frozenset(start + bias for start in self._starts))
        except (OSError, ValueError, KeyError, struct.error):
            return None
        return frozenset(address - bias for address in addresses)

    def _search(self, process: int, word: Literal["I", "Q"], wanted: frozenset[int]) -> set[int]:
        """Return those of the wanted words that the program's own data has."""
        present: set[int] = set()
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            for part in mappings(process):
                if part.path == self._path and "x" not in part.permissions:
                    content = os.pread(memory.fileno(), min(part.end - part.start, _MAX_MAPPING), part.start)
                    present |= wanted.intersection(memoryview(content).cast(word))
        return present


def failure(stderr: str) -> str:
    """Return the shell's message about why it could not start a program, empty if there is none."""
    error = _SHELL_ERROR.search(stderr)
    return error[1] if error else ""


def _state(process: int) -> str:
    """Return the letter for the state of a process (proc(5)), empty if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _change(process: int, until: float) -> int | None:
    """Wait until a traced process stops or ends, and return its wait status; None if that takes too long."""
    while True:
        changed, status = os.waitpid(process, os.WNOHANG)
        if changed:
            return status
        if time.monotonic() > until:
            return None
        time.sleep(_POLL_INTERVAL)


def _ptrace(request: int, process: int, data: int) -> bool:
    """Call ptrace(2) and return whether the kernel permitted it: in some containers it does not."""
    library = ctypes.CDLL(None)
    library.ptrace.argtypes, library.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
    return bool(library.ptrace(request, process, 0, data) == 0)
