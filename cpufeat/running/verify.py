"""Running a program on other CPUs: does it do the same on each, or refuse in words, and which code of it ran."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cpufeat.aot.artifact import Artifact
from cpufeat.auditing.formats.elf import elf_image
from cpufeat.errors import ArtifactError, AuditError, VerifyError
from cpufeat.running import qemu
from cpufeat.running.cpus import Processor, processors
from cpufeat.running.qemu import Watch
from cpufeat.support import files, processes
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cpufeat.auditing.formats.image import Image
    from cpufeat.running.ptrace import Trace
    from cpufeat.support.processes import Ended

TIME_LIMIT = 60.0
"""The default ``time_limit`` of each run, in seconds."""
RIGHT, REFUSED, NOT_RUN = "right", "refused", "not run"
DIFFERS, DIED, EXPIRED, FAILED = "differs", "died", "took too long", "did not start"
FINE = (RIGHT, REFUSED, NOT_RUN)
"""The results that are no fault."""
_REFUSALS = {
    126: re.compile(r"^.*: this CPU lacks: .*", re.M),
    127: re.compile(r"^.*CPU ISA level is lower than required.*", re.M),
}
"""What the guard (:mod:`cpufeat.aot.runtime.guard`) says, and glibc's loader, by exit status."""
_NOT_LOADED = {
    127: re.compile(
        r"^.*: (?:error while loading shared libraries|symbol lookup error|relocation error|undefined symbol): .*"
        r"|^.*: IFUNC symbol .* unsatisfiable circular dependency.*"
        r"|^Inconsistency detected by ld\.so: .*"
        r"|^Error (?:loading shared library|relocating) .*",
        re.M,
    ),
    1: re.compile(r"^.*: version .* not found \(required by .*", re.M),
}
"""What the loaders of glibc and musl say where a program lacks a library, or one lacks something, by exit status."""
_NO_ELF = {"win32": "Windows", "darwin": "macOS"}
"""Systems, as Python calls them, that run no ELF programs and for which there is no qemu-user."""
_A = {"object": "an object", "library": "a library", "executable": "has no entry point"}
_LONGEST = 1000
"""Characters of a message."""


class Run(Value):
    """What came of a program on one CPU."""

    cpu: str
    """The emulator's CPU model, or ``native``; empty if there was none of the level."""
    level: str
    """The level that it stands for, empty where that is not known."""
    emulator: str
    """``qemu-x86_64``; empty where the program ran on this machine itself, or not at all."""
    result: str
    """``right``: as on the first CPU where it ran to an end. ``differs``: in what it wrote to stdout, or in its exit
    status. ``refused``: in words. ``died``: of a signal. ``took too long``, ``did not start``, ``not run``."""
    message: str = ""
    """Its words, or what was wrong."""
    status: int | None = None
    """The exit status, None where it has none."""
    signal: str = ""
    """What it died of: ``SIGILL``."""
    variants: tuple[str, ...] | None = None
    """The variants of which code was run, best first (natively: of which code was chosen to be run); None where that
    was not observed, or there are none."""
    seconds: float = 0.0
    stdout: bytes = b""
    """The first :data:`cpufeat.support.processes.KEPT` bytes."""
    size: int = 0
    """Of all that it wrote there."""
    sha256: str = ""
    """Of that."""


def verify(
    file: str | os.PathLike[str],
    cpus: Sequence[str] | None = None,
    arguments: Sequence[str] = (),
    *,
    time_limit: float = TIME_LIMIT,
) -> Iterator[Run]:
    """Run an executable on each of these CPUs in turn, and return what comes of it, run by run.

    ``cpus`` are those of :func:`cpufeat.running.cpus.processors`; ``arguments`` are the program's own. It runs in the
    current folder, with this process's environment, without input, and on each for no longer than ``time_limit``
    seconds. The first that runs to its end is what the others are compared with. Raises VerifyError for what is no ELF
    executable, for a CPU that there is not or a list of none, without an emulator, and on Windows and macOS.
    """
    if sys.platform in _NO_ELF:
        raise VerifyError(f"{os.fspath(file)}: {_NO_ELF[sys.platform]} runs no ELF programs: verify it on Linux")
    program = _read(file)
    return _runs(program, processors(program.arch, cpus), list(arguments), time_limit)


def _runs(program: _Program, chosen: Sequence[Processor], arguments: list[str], time_limit: float) -> Iterator[Run]:
    reference: Run | None = None
    bias = functools.cache(lambda emulator: emulator.bias(program.path) if program.clones else None)
    for processor in chosen:
        emulator = processor.emulator
        run = _run(program, processor, arguments, time_limit, bias(emulator) if emulator else None)
        if run.result == RIGHT:
            reference = reference or run
            run = _compared(run, reference)
        yield run


# --- the program


class _Program(Value):
    """An executable, and what is looked for while it runs."""

    path: str
    arch: str
    bits: int
    """Of a pointer."""
    entry: int
    clones: Mapping[int, str]
    """Where each clone of a function begins, and the variant that it is of."""
    variants: tuple[str, ...]
    """All that the file's notes list, best first."""


def _is_elf(content: bytes) -> bool:
    return content.startswith(b"\x7fELF")


def _read(file: str | os.PathLike[str]) -> _Program:
    path = Path(file).absolute()
    try:
        if path.exists() and not path.is_file():
            raise VerifyError(f"{path}: not a regular file")
        content = files.read(path, wanted=_is_elf)
    except (OSError, ValueError) as error:
        raise VerifyError(files.failure(path, error)) from None
    if not _is_elf(content):
        raise VerifyError(f"{path}: no ELF file: only an ELF executable can be run on other CPUs")
    try:
        image = elf_image(content, str(path))
        variants = tuple(dict.fromkeys(label for artifact in Artifact.all_in(content) for label in _labels(artifact)))
    except (AuditError, ArtifactError) as error:
        raise VerifyError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    if image.kind != "executable" or image.entry is None:
        raise VerifyError(f"{path}: {_A[image.kind]}: only an executable can be run")
    return _Program(str(path), image.arch, image.bits, image.entry, _clones(image, variants), variants)


def _labels(artifact: Artifact) -> tuple[str, ...]:
    """Return what the functions of several variants are called by; those of a single one are called as they are."""
    return artifact.labels if artifact.dispatch else ()


def _clones(image: Image, variants: tuple[str, ...]) -> dict[int, str]:
    ends = {f".{label}": label for label in variants}
    code = (symbol for symbol in image.symbols if symbol.kind == "function")
    return {symbol.address: ends[end] for symbol in code for end in ends if symbol.name.endswith(end)}


# --- a run


def _run(program: _Program, processor: Processor, arguments: list[str], time_limit: float, bias: int | None) -> Run:
    """Run a program on one CPU; ``bias`` is where an emulator loads it, None where nothing is to be watched."""
    from cpufeat.running import ptrace

    emulator = processor.emulator
    run = Run(processor.name, processor.level, emulator.name if emulator else "", NOT_RUN, processor.reason)
    if not processor.name:
        return run
    watch = None if bias is None else Watch(program.entry, program.clones, bias)
    trace = (
        ptrace.Trace(program.path, program.bits, program.entry, program.clones)
        if program.clones and not emulator
        else None
    )
    command = [program.path, *arguments]
    if emulator:
        command = emulator.command(processor.model, watch) + command
    try:
        ended = processes.run(
            trace.command(command) if trace else command,
            seconds=time_limit,
            environment=qemu.environment(),
            log=watch.log if watch else None,
            wait=trace.wait if trace else None,
        )
    except OSError as error:
        return run.replace(result=FAILED, message=error.strerror or str(error))
    result, message = _judged(ended, time_limit, qemu.failure if emulator else ptrace.failure)
    return run.replace(
        result=result,
        message=message[:_LONGEST],
        status=None if ended.expired or ended.status < 0 else ended.status,
        signal=processes.signal_name(-ended.status) if ended.status < 0 and not ended.expired else "",
        variants=_ran(program, watch or trace),
        seconds=ended.seconds,
        stdout=ended.stdout.start,
        size=ended.stdout.size,
        sha256=ended.stdout.sha256,
    )


def _ran(program: _Program, watch: Watch | Trace | None) -> tuple[str, ...] | None:
    seen = watch.seen() if watch else None
    if seen is None:
        return None
    ran = {program.clones[address] for address in seen}
    return tuple(variant for variant in program.variants if variant in ran)


def _judged(ended: Ended, time_limit: float, failure: Callable[[str], str]) -> tuple[str, str]:
    """Return the result of a run by itself, and its message. ``failure`` finds the words of what could not start it."""
    said = qemu.without_warnings(ended.stderr.start.decode(errors="replace"))
    if ended.expired:
        return EXPIRED, f"it ran for longer than {time_limit:g} s"
    if ended.status < 0:
        return DIED, signal.strsignal(-ended.status) or ""
    for result, words in ((REFUSED, _REFUSALS), (FAILED, _NOT_LOADED)):
        found = words[ended.status].search(said) if ended.status in words else None
        if found:
            return result, found[0]
    why = failure(said) if ended.status else ""
    return (FAILED, why) if why else (RIGHT, "")


def _compared(run: Run, reference: Run) -> Run:
    """Return a run that came to an end, as right or different from the first that did."""
    if run.status != reference.status:
        return run.replace(result=DIFFERS, message=f"exit status {run.status}, on {reference.cpu} {reference.status}")
    if (run.size, run.sha256) == (reference.size, reference.sha256):
        return run
    same = len(os.path.commonprefix((run.stdout, reference.stdout)))  # noqa: RUF071 - they are no paths
    return run.replace(result=DIFFERS, message=f"its output is that on {reference.cpu} only up to byte {same}")
