"""Run a program so that nothing that it started outlives it. This module runs in a process of its own.

On Linux this process becomes the parent of every process that the program leaves behind (prctl(2),
PR_SET_CHILD_SUBREAPER), also of daemons in sessions of their own, so all of them can be found and killed. It needs the
standard library alone: the caller passes it to an interpreter as a text.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

if sys.platform == "win32":
    raise ImportError("Windows has neither sessions nor prctl(2)")

_SET_CHILD_SUBREAPER = 36
"""<linux/prctl.h>"""
_INTERVAL = 0.002
"""Seconds between two looks at the processes that are left."""


def main(report: int, control: int, command: list[str]) -> None:
    """Run a program in a session of its own, and write what happens to a file descriptor, a line each.

    The lines: its process ID, or ``!`` and an error number if it cannot be started; then its wait status. When
    ``control`` is closed at its other end, also by the death of the caller, all that is left is killed.
    """
    for file in (report, control):
        os.set_inheritable(file, False)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        program = os.posix_spawn(
            command[0], command, os.environ, setsid=True, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
        )
    except OSError as error:
        os.write(report, f"!{error.errno}\n".encode())
        return
    os.write(report, f"{program}\n".encode())
    for standard in range(3):  # so that the program alone keeps the pipes open
        os.close(standard)
    try:
        has_ended = False
        while not select.select([control], [], [], _INTERVAL)[0] or os.read(control, 1):
            if not has_ended and (status := _reaped(program)) is not None:
                has_ended = True
                os.write(report, f"{status}\n".encode())
    finally:
        _kill_all(program)


def _reaped(program: int) -> int | None:
    """Take note of all children that ended; return the wait status of the program if it is among them."""
    status = None
    while (ended := _next_ended())[0]:
        if ended[0] == program:
            status = ended[1]
    return status


def _next_ended() -> tuple[int, int]:
    """Return the process ID and status of a child that ended, zeros if none did."""
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def _kill_all(program: int) -> None:
    """Kill all descendants of this process, until there is none."""
    while True:
        for process in _descendants():
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                continue
        _reaped(program)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        time.sleep(_INTERVAL)


def _descendants() -> set[int]:
    """Return the children of this process, their children, and so on."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found: set[int] = set()
    new = {os.getpid()}
    while new:
        new = {process for process, parent in parents.items() if parent in new} - found
        found |= new
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
