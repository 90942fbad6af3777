"""Run the system's linker or Zig's on objects, and refuse to write a file that lost a note or an alignment."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cpufeat.aot.llvm import triples
from cpufeat.aot.objects import note
from cpufeat.aot.toolchain import link_checks, zig
from cpufeat.binary_format.elf import MAGIC as ELF_MAGIC
from cpufeat.errors import ArtifactError, LinkError, TargetError, warn
from cpufeat.support import files, processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    Kind = Literal["executable", "shared", "object"]
    Linker = Literal["cc", "zig"]

_NO_PIE = {"-static", "-static-pie", "-no-pie", "-nopie", "-r"}
"""Arguments that choose the kind of executable themselves."""
_NOT_IN_A_FILE_NAME, _MAX_FILE_NAME = re.compile(r"[^\w.+-]"), 100


class Input(NamedTuple):
    """An object to link."""

    content: bytes
    triple: str
    name: str
    """The module's name, by which messages of the linker know it; empty where it has none."""
    is_dispatched: bool
    """Whether it selects among variants at load time."""


def link(  # noqa: PLR0913
    inputs: Sequence[Input],
    output: str | os.PathLike[str],
    *,
    kind: Kind,
    linker: Linker | None,
    arguments: Sequence[str],
    time_limit: float,
) -> None:
    """Link objects into one file: see :func:`cpufeat.aot.link` for arguments and errors."""
    triple = _common_triple(inputs)
    if kind == "object":
        if len(inputs) > 1 or arguments:
            raise ArtifactError('kind="object" takes one artifact and no arguments, since nothing is linked')
        _write(output, inputs[0].content)
        return
    driver = _driver(linker, triple)
    try:
        with tempfile.TemporaryDirectory(prefix="cpufeat-") as folder:
            result = Path(folder, "out", Path(output).name)
            result.parent.mkdir()
            objects = _write_objects(inputs, Path(folder, "in"))
            command = [*driver, "-o", str(result), *_options(kind, inputs[0], arguments), *objects, *arguments]
            messages = _run(command, Path(folder), os.fspath(output), time_limit)
            linked = _read(result, os.fspath(output), messages)
    except OSError as error:
        failure = ": ".join(filter(None, (error.filename, error.strerror)))
        raise LinkError(f"{os.fspath(output)}: not linked: {failure}") from None
    _check(inputs, linked, os.fspath(output))
    if kind == "executable" and any(object_.is_dispatched for object_ in inputs):
        _check_ifuncs(linked, os.fspath(output))
    _write(output, linked, files.PROGRAM)
    if messages:
        warn(messages)


def _common_triple(inputs: Sequence[Input]) -> str:
    """Return the most specific triple. Raises ArtifactError if two of them conflict."""
    if not inputs:
        raise ArtifactError("no artifact to link")
    distinct = list(dict.fromkeys(object_.triple for object_ in inputs))
    for first, second in combinations(distinct, 2):
        differs = triples.conflict(first, second)
        if differs:
            raise ArtifactError(f"code for {first} and code for {second} cannot be linked together: {differs}")
    return max(distinct, key=lambda triple: sum(part != "unknown" for part in triple.split("-")))


def _driver(linker: Linker | None, triple: str) -> list[str]:
    """Return the command that links for a triple, to which options and files are appended."""
    differs = "" if linker == "zig" else triples.conflict(triple, _host_triple())
    if linker == "cc" and differs:
        raise TargetError(f"cc links for {_host_triple()}, not for {triple}: {differs}; zig links for both")
    system = shutil.which("cc")
    if linker == "cc" and not system:
        raise LinkError("cc was not found: install a C compiler, or link with zig (pip install 'cpufeat[c]')")
    if linker == "zig" or differs or not system or (linker is None and _names_another_version(triple)):
        return [*zig.compiler(triple), "-O2"]
    return [system]


def _names_another_version(triple: str) -> bool:
    environment = triples.parts(triple)[2]
    return not triple.lower().endswith(environment) and triple != _host_triple()


@functools.cache
def _host_triple() -> str:
    from cpufeat.detection.detect import detect
    from cpufeat.detection.systems import ThisMachine

    return detect(ThisMachine()).triple


def _options(kind: Kind, first: Input, arguments: Sequence[str]) -> list[str]:
    options = {"executable": "-pie", "shared": "-shared"}
    if kind == "executable" and (_NO_PIE.intersection(arguments) or not first.content.startswith(ELF_MAGIC)):
        return []
    return [options[kind]]


def _write(output: str | os.PathLike[str], content: bytes, mode: int = files.DATA) -> None:
    try:
        files.write(output, content, mode=mode)
    except (OSError, ValueError) as error:
        raise ArtifactError(files.failure(output, error)) from None


def _write_objects(inputs: Sequence[Input], folder: Path) -> list[str]:
    """Write the objects under their modules' names, which may be anybody's: without what is special in a path."""
    names = [_NOT_IN_A_FILE_NAME.sub("_", object_.name)[:_MAX_FILE_NAME] or "module" for object_ in inputs]
    paths = [folder / str(number) / f"{name}.o" for number, name in enumerate(names)]
    for object_, path in zip(inputs, paths, strict=True):
        path.parent.mkdir(parents=True)
        path.write_bytes(object_.content)
    return [str(path) for path in paths]


def _run(command: Sequence[str], folder: Path, output: str, time_limit: float) -> str:
    """Run the linker, and return its messages."""
    ended = processes.run(command, seconds=time_limit, environment=zig.environment(folder / "cache"))
    written = (part.start.decode(errors="replace").strip() for part in (ended.stderr, ended.stdout))
    messages = "\n".join(filter(None, written)).replace(f"{folder}{os.sep}", "")
    if ended.expired:
        raise LinkError(f"{output}: the linker exceeded the time limit of {time_limit:g} s")
    if ended.status:
        raise LinkError(f"{output}: the linker failed with status {ended.status}\n{messages}".strip())
    return messages


def _read(result: Path, output: str, messages: str) -> bytes:
    try:
        return result.read_bytes()
    except FileNotFoundError:
        raise LinkError(f"{output}: the linker wrote no file\n{messages}".strip()) from None


def _check(inputs: Sequence[Input], linked: bytes, output: str) -> None:
    """Raise ArtifactError for a linked file that lost the note of an object, or the alignment of a section."""
    if not {text for object_ in inputs for text in note.read(object_.content)} <= set(note.read(linked)):
        raise ArtifactError(f"{output}: not written, since the linker dropped cpufeat's note")
    faults = link_checks.faults([object_.content for object_ in inputs], linked)
    if faults:
        raise ArtifactError(f"{output}: not written, since linking lost an alignment: {faults[0]}")


def _check_ifuncs(linked: bytes, output: str) -> None:
    """Raise ArtifactError for a program that exports an ``ifunc``."""
    exported = link_checks.exported_ifuncs(linked)
    if exported:
        why = f"libraries see {exported[0]}, and glibc may not start a program of which they see an ifunc"
        raise ArtifactError(f'{output}: not written, since {why}: compile for dispatch="pointer"')
