"""The interpreter of a script, and the verdict on one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from cpufeat import check
from cpufeat.cli import main
from cpufeat.cli.options import BAD, NO, UNKNOWN
from cpufeat.detection.systems import ThisMachine
from cpufeat.running.dependencies.root import Root
from cpufeat.running.dependencies.script import interpreter_of
from cpufeat.support.verdict import CANNOT_TELL, MAY_NOT_RUN

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with programs that are files of other kinds, and a script that is an interpreter."""
    for name in ("bin/sh", "usr/bin/python3", "usr/bin/env", "opt/tool"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x7fELF")
    (tmp_path / "bin" / "wrapper").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "circle").write_text("#!/bin/circle\n")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("#!/bin/sh", "/bin/sh"),
        ("#! /bin/sh -e\nexit\n", "/bin/sh"),
        ("#!/usr/bin/env python3\n", "/usr/bin/python3"),
        ("#!/usr/bin/env -S VARIABLE=1 python3 -I\n", "/usr/bin/python3"),
        ("#!/usr/bin/env /opt/tool\n", "/opt/tool"),
        ("#!/bin/wrapper -x\n", "/bin/sh"),
    ],
)
def test_the_first_line_names_the_interpreter(root: Path, line: str, path: str) -> None:
    found = interpreter_of(line.encode(), Root(str(root)))
    assert (found.path, found.real) == (path, f"{root}{path}")


@pytest.mark.parametrize(
    ("line", "path"), [("#!/bin/none", "/bin/none"), ("#!/usr/bin/env none", "none"), ("#!/bin/circle", "/bin/circle")]
)
def test_an_interpreter_that_is_not_there_or_never_ends_is_not_found(root: Path, line: str, path: str) -> None:
    found = interpreter_of(line.encode(), Root(str(root)))
    assert (found.path, found.real) == (path, "")


@pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the program is x86-64's")
def test_a_script_is_at_most_as_good_as_its_interpreter_and_never_said_to_run(
    tmp_path: Path, compiler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    script, source = tmp_path / "script", tmp_path / "source.c"
    script.write_text(f"#!{tmp_path / 'interpreter'}\n")
    for instruction, verdict, status in (("nop", CANNOT_TELL, UNKNOWN), ("vpabsb %ymm0, %ymm0", MAY_NOT_RUN, NO)):
        source.write_text(f'void start(void) {{ __asm__ volatile("{instruction}"); for (;;); }}')
        command: list[str | Path] = [
            compiler,
            "-nostdlib",
            "-static",
            "-Wl,-e,start",
            source,
            "-o",
            tmp_path / "interpreter",
        ]
        subprocess.run(command, check=True)
        answer = check(script, "nehalem")
        assert answer.verdict == verdict
        assert "what the script itself loads and starts was not looked at" in answer.reasons
        assert [library.file for library in answer.libraries or ()] == [str(tmp_path / "interpreter")]
        assert main(["check", "--cpu", "nehalem", str(script)]) == status
    assert main(["check", "--cpu", "nehalem", "--no-libraries", str(script)]) == BAD
    assert "a script" in capfd.readouterr().err
    (tmp_path / "interpreter").unlink()
    assert "was not found" in check(script, "nehalem").reasons[0]
