"""The fuzzer finds no fault in its first files; CI feeds 20,000 to the readers, and ``tools/fuzz.py`` any number."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from helpers.paths import PROJECT

pytest.importorskip("llvmlite")
FUZZ = [sys.executable, str(PROJECT / "tools" / "fuzz.py")]


def test_no_reader_fails_on_the_first_mutated_files() -> None:
    done = subprocess.run([*FUZZ, "--cases", "400"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " refused" in done.stdout
    assert " read" in done.stdout


def test_a_case_can_be_repeated_and_kept(tmp_path) -> None:
    for folder in ("one", "two"):
        arguments = ["--case", "7", "--only", "dump", "--keep", str(tmp_path / folder)]
        subprocess.run([*FUZZ, *arguments], capture_output=True, check=False, timeout=120)
    assert (tmp_path / "one" / "7").read_bytes() == (tmp_path / "two" / "7").read_bytes()


def test_what_takes_too_long_or_raises_anything_is_a_failure(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    fuzz = importlib.import_module("fuzz")

    def raises(content: bytes) -> None:
        raise KeyError(len(content))

    monkeypatch.setitem(fuzz.READERS, "audit", raises)
    result = fuzz.outcome(fuzz.Sample("one.o", b"", "audit"), bytes(9))
    assert fuzz.Result(1, 0.0, "one.o audit", result).failed
    assert result.startswith("KeyError: 9 (test_fuzz.py:")
    monkeypatch.setattr(fuzz.sys, "executable", "/bin/false")
    (died,) = fuzz.run("absent", 1, 1)
    assert died.result == "the process ended with status 1"
