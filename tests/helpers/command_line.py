"""Run the command line as a user does: in a process of its own, through pipes or on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

from helpers.paths import MACHINES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HASWELL, NEHALEM = str(MACHINES / "qemu-haswell.json"), str(MACHINES / "qemu-nehalem.json")
ESCAPE = "\x1b["
INFLUENCES = ("NO_COLOR", "FORCE_COLOR", "CPUFEAT_MACHINE", "CPUFEAT_TARGET", "CPUFEAT_DISABLE", "COLUMNS", "LINES")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in INFLUENCES} | {"TERM": "xterm"}


def cpufeat(
    *arguments: str | bytes, stdin: bytes = b"", code: Sequence[str] = ("-m", "cpufeat"), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m cpufeat``, and check that it prints no traceback."""
    done = subprocess.run(
        [sys.executable, *code, *arguments],
        input=stdin, capture_output=True, check=False, timeout=120, env={**ENVIRONMENT, **variables},
    )  # fmt: skip
    text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in text.stderr, text.stderr
    return text


def on_terminal(*arguments: str, columns: int = 80, status: int = 0, variables: Mapping[str, str] | None = None) -> str:
    """Run ``python -m cpufeat`` on a pseudo-terminal and return its output."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "cpufeat", *arguments], stdout=slave, env={**ENVIRONMENT, **(variables or {})}
    ) as process:
        os.close(slave)
        output = b""
        try:
            while part := os.read(master, 65536):
                output += part
        except OSError:  # EIO, as Linux reports it when the slave is closed
            pass
        os.close(master)
    assert process.returncode == status
    return output.decode().replace("\r\n", "\n")
