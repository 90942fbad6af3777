"""Completion: what the last word can be, and the shells that ask."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from helpers.command_line import ENVIRONMENT, HASWELL, cpufeat
from helpers.requirements import tool

from cpufeat.cli.completion import SCRIPTS
from cpufeat.cli.parser import VERBS
from cpufeat.cpus import cpus
from cpufeat.features import table
from cpufeat.levels import levels

if TYPE_CHECKING:
    from pathlib import Path


def words(*given: str) -> list[str]:
    """Return the candidates for the last of the words."""
    done = cpufeat("completion", "--words", "--", *given, CPUFEAT_MACHINE=HASWELL)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, a file to complete, and a cpufeat that completes, and otherwise says its arguments."""
    made = tmp_path_factory.mktemp("completion")
    for name in SCRIPTS:
        (made / f"completion.{name}").write_text(cpufeat("completion", name).stdout)
    (made / "a-program").touch()
    program = made / "cpufeat"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = completion ]; then "{sys.executable}" -m cpufeat "$@"; touch asked; exit; fi\n'
        f"printf '<'; printf '%s,' cpufeat \"$@\"; echo '>'\n"
    )
    program.chmod(0o755)
    return made


def environment(folder: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "CPUFEAT_MACHINE": HASWELL}


# --- candidates


def test_verbs_options_and_their_values_are_candidates() -> None:
    assert words("") == words("--color", "never", "") == list(VERBS)
    assert words("ver") == words("help", "ver") == ["verify"]
    assert {"--json", "--machine", "--triple", "--color", "--help"} <= set(words("explain", "--"))
    assert words("--ver") == ["--version"]
    assert words("target", "--print", "c") == words("target", "--print", "=", "c") == ["cpu"]
    assert words("target", "--print=c") == ["--print=cpu"]
    assert words("compile", "x.c", "--guard", "a") == ["ask"]
    assert words("completion", "") == list(SCRIPTS)
    assert words("nonsense", "") == words("record", "file", "more") == []


def test_every_level_cpu_and_feature_is_a_candidate() -> None:
    assert set(words("explain", "")) == {"native", *levels("x86_64"), *cpus("x86_64")}
    assert words("explain", "hasw") == words("check", "x", "--cpu", "hasw") == words("audit", "x", "--max", "hasw")
    assert words("verify", "x", "--on", "x86-64-v3") == ["x86-64-v3"]
    assert set(words("explain", "haswell,+")) == {f"haswell,+{name}" for name in table("x86_64")}
    assert words("explain", "haswell,-f1") == ["haswell,-f16c"]
    assert words("explain", "haswell,+fma+f16") == ["haswell,+fma+f16c"]
    assert set(words("cpus", "--has", "avx2,")) == {f"avx2,{name}" for name in table("x86_64")}
    assert words("cpus", "--level", "x86-64-v4") == ["x86-64-v4"]
    assert words("cpus", "--llvm", "2") == ["20", "21", "22"]


def test_the_architecture_of_candidates_is_the_one_that_is_named() -> None:
    assert words("target", "--triple", "aarch64-linux-gnu", "grace") == ["grace"]
    assert words("cpus", "--arch", "arm64", "--level", "armv9-") == ["armv9-a"]
    assert words("cpus", "--arch", "s39") == ["s390x"]
    assert "aarch64-linux-gnu" in words("target", "--triple", "aarch64")
    assert words("cpus", "--arch", "pdp11", "--level", "") == []


def test_names_of_files_are_left_to_the_shell() -> None:
    for given in (("audit", ""), ("explain", "--machine", "x"), ("identify", "a", "b"), ("verify", "x", "--", "y")):
        assert words(*given) == ["*"]


def test_a_candidate_has_its_meaning_behind_a_tab_in_one_line() -> None:
    lines = cpufeat("completion", "--words", "--", "compile", "--").stdout.splitlines()
    assert len(lines) > 10
    assert all(re.fullmatch(r"--[\w-]+\t\S.*", line) for line in lines)


def test_a_missing_or_unknown_shell_is_an_error() -> None:
    for arguments, says in ((["tcsh"], "invalid choice: 'tcsh'"), ([], "name a shell: bash, zsh, fish")):
        done = cpufeat("completion", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr


# --- shells


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("cpufeat expl", ["explain"]),
        ("cpufeat explain haswell,-f1", ["haswell,-f16c"]),
        ("cpufeat target --print=c", ["--print=cpu", "cpu"]),
        ("cpufeat audit a-pro", ["a-program"]),
        ("cpufeat nonsense ", []),
    ],
)
class TestShells:
    def test_bash(self, line: str, completed: list[str], folder: Path) -> None:
        """Readline splits words at the equals sign, and completes names of files if asked to: as it does here."""
        split = [part for word in line.split(" ") for part in re.split("(=)", word)]
        given = " ".join(f"'{word}'" for word in split)
        script = f"""
        source completion.bash
        compopt() {{ COMPREPLY=($(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")); }}
        COMP_WORDS=({given}) COMP_CWORD={len(split) - 1}
        _cpufeat cpufeat
        ((${{#COMPREPLY[@]}})) && printf '%s\\n' "${{COMPREPLY[@]}}"; complete -p cpufeat"""
        done = subprocess.run(
            [tool("bash"), "--norc", "-uc", script],
            cwd=folder, env=environment(folder), capture_output=True, text=True, check=True,
        )  # fmt: skip
        *said, registered = done.stdout.splitlines()
        assert registered == "complete -F _cpufeat cpufeat"
        assert said == completed[-1:]
        assert done.stderr == ""

    def test_fish(self, line: str, completed: list[str], folder: Path) -> None:
        script = f"source completion.fish; complete -C '{line}'"
        done = subprocess.run(
            [tool("fish"), "--no-config", "-c", script],
            cwd=folder, env=environment(folder), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert [text.split("\t")[0] for text in done.stdout.splitlines()] == completed[:1]
        assert done.stderr == ""

    def test_zsh(self, line: str, completed: list[str], folder: Path) -> None:
        """A line is typed, completed with the tabulator and run; the program says which arguments it got."""
        start, asked = [tool("zsh"), "-f", "-i"], folder / "asked"
        prepare = "PS1='READY> '; autoload -Uz compinit; compinit -u -D; source ./completion.zsh; unsetopt beep\n"
        child, terminal = pty.fork()
        if not child:
            os.chdir(folder)
            os.execve(start[0], start, {**environment(folder), "TERM": "dumb"})  # noqa: S606
        try:
            os.write(terminal, prepare.encode())
            _until(terminal, rb"\nREADY> |\rREADY> ")
            asked.unlink(missing_ok=True)
            os.write(terminal, line.encode() + b"\t")
            end = time.monotonic() + 60
            while not asked.exists():
                assert time.monotonic() < end, "zsh did not ask"
                time.sleep(0.1)
            time.sleep(1)  # for zsh to show the word, which nothing tells
            os.write(terminal, b"\n")
            ran = _until(terminal, rb"<cpufeat,.*>")
        finally:
            os.write(terminal, b"exit\n")
            os.close(terminal)
            os.waitpid(child, 0)
        head = line.rpartition(" ")[0].split()
        arguments = re.search(r"<(.*),>", ran)[1].split(",")
        expected = [*head, *(completed[:1] or [""])]
        assert ",".join(arguments).rstrip(",") == ",".join(expected).rstrip(",")


def _until(terminal: int, pattern: bytes) -> str:
    """Read what a terminal shows until it matches a pattern."""
    shown, end = b"", time.monotonic() + 60
    while not re.search(pattern, shown):
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 65536)
    return shown.decode()
