"""Compiling, linking, auditing and checking where Python has nothing of POSIX: what Windows lacks is taken away here.

Not Windows itself: its processes, pipes and files are not imitated.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.paths import PROJECT

from cpufeat import VerifyError
from cpufeat.aot.toolchain import zig
from cpufeat.running.verify import verify
from cpufeat.support import processes

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_POSIX = """
import os, sys
os.supports_dir_fd.clear()  # shutil looks there when it is imported
import ctypes, json, lzma, socket, subprocess, tempfile, threading, uuid
for name in ("fcntl", "grp", "posix", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in '''
    O_CLOEXEC O_NOFOLLOW O_NONBLOCK WUNTRACED chown confstr fork geteuid getpgid getuid killpg mkfifo pread
    register_at_fork sched_getaffinity sched_setaffinity setsid sysconf uname
'''.split():
    delattr(os, name)
del socket.AF_UNIX
sys.platform = "win32"
"""
DOES_ALL = """
import warnings
from cpufeat import aot
from cpufeat.aot.worker import worker_command
from cpufeat.cli import main
worker_command._BOOTSTRAP = PRELUDE + worker_command._BOOTSTRAP
from cpufeat.aot.toolchain import zig
zig.program = lambda: PROGRAM
open("f.ll", "w").write("define <8 x i32> @f(<8 x i32> %a) { %r = add <8 x i32> %a, %a\\n ret <8 x i32> %r }")
open("main.c", "w").write('int main(void) { return 0; }')
artifact = aot.compile("f.ll", "haswell")
assert "avx2" in artifact.variants[0].used, artifact.variants
assert artifact.target.triple == "x86_64-pc-windows-msvc", artifact
assert artifact == aot.compile("f.ll", "haswell")  # from the cache
artifact.save("f.obj")
assert main(["audit", "f.obj"]) == 0
assert main(["check", "f.obj", "--cpu", "haswell"]) == 0
assert main(["check", "f.obj", "--cpu", "nehalem"]) == 1
assert main(["compile", "main.c", "-o", "main.exe", "--triple", "x86_64-windows-gnu", "--linker", "zig"]) == 0
assert main(["check", "main.exe"]) == 0
assert main(["verify", "main.exe"]) == 2
assert main(["check", "-"]) == 2
"""


@pytest.fixture
def recorded_windows(tmp_path: Path) -> Path:
    machine = tmp_path / "machine.json"
    text = (PROJECT / "data" / "machines" / "qemu-haswell.json").read_text()
    machine.write_text(text.replace('"linux"', '"windows"').replace('"gnu"', '"msvc"'))
    return machine


def test_a_python_without_posix_does_it_all(tmp_path: Path, recorded_windows: Path) -> None:
    start = f"import sys; sys.path.insert(0, {str(PROJECT)!r})"
    names = f"PRELUDE, PROGRAM = {WITHOUT_POSIX!r}, {zig.program()!r}"
    process = subprocess.run(
        [sys.executable, "-c", "\n".join((start, names, WITHOUT_POSIX, DOES_ALL))],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "PATH": "",
            "CPUFEAT_MACHINE": str(recorded_windows),
            "CPUFEAT_CACHE": str(tmp_path / "cache"),
        },
    )
    assert process.returncode == 0, process.stderr
    assert "Windows runs no ELF programs: verify it on Linux" in process.stderr
    assert "-: standard input is not supported on Windows" in process.stderr


@pytest.mark.parametrize(("platform", "name"), [("win32", "Windows"), ("darwin", "macOS")])
def test_verify_says_where_it_works(platform: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(VerifyError, match=f"program: {name} runs no ELF programs"):
        verify("program")


def test_a_program_is_ended_without_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr("os.killpg")
    ended = processes.run([sys.executable, "-c", "print(1)"], seconds=60, environment={})
    assert (ended.status, ended.stdout.start) == (0, b"1\n")
    ended = processes.run([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.5, environment={})
    assert ended.expired
    assert ended.seconds < 5
