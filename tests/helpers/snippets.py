"""The fenced blocks of a document, and how a test runs them, in order, in one folder and one Python namespace.

``sh``: each command exits with 0. ``console``: so does each after ``$``, and it prints what follows; ``...`` stands for
any text. ``python``: runs. ``pycon``: a doctest. A comment above a block says otherwise:

``<!-- file: NAME -->``: the block is the content of a file, which the blocks after it use.
``<!-- exits with 1: cpufeat check -->``: commands that begin so exit with that status.
``<!-- not run: REASON -->``: one of :data:`REASONS`.
"""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers.environment import ENVIRONMENT
from helpers.paths import MACHINES, PROGRAMS, PROJECT

if TYPE_CHECKING:
    from pathlib import Path

RUNNABLE = ("console", "pycon", "python", "sh")
SHOWN = ("", "text")
"""Languages of blocks that contain neither code nor commands."""
REASONS = (
    ".ci/run does this",
    "belongs to another build system",
    "needs another machine",
)
_BLOCK = re.compile(r"(?:^<!-- (.*) -->\n+)?^(`{3,})(.*)\n((?:.*\n)*?)^\2$", re.MULTILINE)
_DOWNLOAD = re.compile(r"\{download\}`[^`<]*<([^`>]+)>`")
_SECONDS = 300
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class SnippetError(Exception):
    """A block does not do what its document says."""


class Block(NamedTuple):
    """A fenced block."""

    line: int
    """The line of its fence."""
    language: str
    text: str
    marker: str
    """What the comment above says, ``file`` or ``not run``, empty without one."""
    argument: str
    """What stands after the marker's colon."""


def blocks(content: str) -> list[Block]:
    """Return the blocks of a text, except for directives of MyST."""
    found = []
    for match in _BLOCK.finditer(content):
        comment, _, language, text = match.groups()
        if not language.startswith("{"):
            marker, _, argument = (comment or "").partition(": ")
            line = content.count("\n", 0, match.start(2)) + 1
            found.append(Block(line, language, text, marker, argument))
    return found


def prepare(document: Path, folder: Path) -> None:
    """Put into the folder what readers have: the project's sources, recordings, and what the document links to."""
    for example in (PROJECT / "examples").glob("*.py"):
        shutil.copy(example, folder)
    shutil.copytree(PROGRAMS / "documents", folder, dirs_exist_ok=True)
    shutil.copytree(MACHINES, folder / "dumps")
    for link in _DOWNLOAD.findall(document.read_text(encoding="utf-8")):
        shutil.copy(document.parent / link, folder)


def run(found: list[Block], folder: Path, name: str) -> int:
    """Run the blocks of a document of that name; return how many. The folder must be the current one.

    Raises SnippetError, and what Python code raises.
    """
    ran = 0
    namespace: dict[str, Any] = {"__name__": "__main__"}
    environment = _environment(folder)
    for block in found:
        where = f"{name}:{block.line}"
        if block.marker == "file":
            (folder / block.argument).write_text(block.text, encoding="utf-8")
            continue
        if block.marker == "not run" or block.language in SHOWN:
            continue
        ran += 1
        if block.language in ("sh", "console"):
            _run_commands(block, environment, where)
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, where, "exec"), namespace)  # noqa: S102 - the project's own
        else:
            _run_session(block, namespace, where)
    return ran


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment in which ``python`` and ``cpufeat`` are those of the tests."""
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in {"python": [], "cpufeat": ["-m", "cpufeat"]}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n')
        (programs / name).chmod(0o755)
    return {**ENVIRONMENT, "COLUMNS": "80", "PATH": f"{programs}:{ENVIRONMENT['PATH']}"}


def _run_commands(block: Block, environment: dict[str, str], where: str) -> None:
    for command, expected in _commands(block):
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            text=True,
            check=False,
        )
        if ended.returncode != _status(block, command):
            raise SnippetError(f"{where}: {command} exits with {ended.returncode}\n{ended.stdout}")
        checker = doctest.OutputChecker()
        if expected is not None and not checker.check_output(expected, ended.stdout, _FLAGS):
            raise SnippetError(f"{where}: {command} prints\n{ended.stdout}")


def _commands(block: Block) -> list[tuple[str, str | None]]:
    """Return each command, with the expected output in a ``console`` block."""
    text = block.text.replace("\\\n", " ")
    if block.language == "sh":
        return [(line, None) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    if parts[0].strip():
        raise SnippetError(f"line {block.line}: output before the first command")
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _status(block: Block, command: str) -> int:
    """Return the exit status that a command has, which the comment above its block may say."""
    says = re.fullmatch(r"exits with (\d+)", block.marker)
    return int(says[1]) if says and command.startswith(tuple(block.argument.split(", "))) else 0


def _run_session(block: Block, namespace: dict[str, Any], where: str) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, namespace, where, where, block.line)
    if not test.examples:
        raise SnippetError(f"{where}: no >>> in it")
    said: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=_FLAGS).run(test, out=said.append, clear_globs=False)
    if said:
        raise SnippetError("".join(said))
    namespace.update(test.globs)
