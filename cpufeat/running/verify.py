"""Run a program on other CPUs, and compare: the results, refusals to run, and which variants ran."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cpufeat.aot.artifact import Artifact
from cpufeat.auditing.formats.loader import format_of, image_of
from cpufeat.errors import ArtifactError, AuditError, VerifyError, expect, expect_strings, one_of, positive
from cpufeat.running import qemu
from cpufeat.running.cpus import select_cpus
from cpufeat.running.death import Death, death_at
from cpufeat.running.qemu import Watch
from cpufeat.support import files, processes
from cpufeat.support.value import Value
from cpufeat.support.verdict import CANNOT_TELL, RUNS, WILL_NOT_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cpufeat.auditing.formats.image import Image
    from cpufeat.running.cpus import Cpu
    from cpufeat.running.gdb_remote import Stub
    from cpufeat.running.ptrace import Trace
    from cpufeat.support.processes import Ended

TIME_LIMIT = 60.0
"""The default ``time_limit`` of each run, in seconds."""
RIGHT, REFUSED, NOT_RUN = "right", "refused", "not run"
DIFFERS, DIED, EXPIRED, FAILED = "differs", "died", "took too long", "did not start"
_REFUSALS = {
    126: re.compile(r"^.*: this CPU lacks: .*", re.M),
    127: re.compile(r"^.*CPU ISA level is lower than required.*", re.M),
}
"""Exit status -> the message of the guard (:mod:`cpufeat.aot.runtime.guard`), and of glibc's loader."""
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
"""Exit status -> the messages of glibc's and musl's loaders about a missing library, symbol or version."""
_NO_ELF = {"win32": "Windows", "darwin": "macOS"}
"""``sys.platform`` of systems that run no ELF programs and that qemu-user does not support, and their names."""
_NOT_EXECUTABLE = {"object": "an object", "library": "a library", "executable": "has no entry point"}
_MAX_MESSAGE = 1000
"""Characters."""


class Run(Value):
    """The result of a program on one CPU."""

    cpu: str
    """The emulator's CPU model, ``native`` or ``default``; empty if there is no CPU of the level."""
    level: str
    """The level of the CPU, empty if unknown."""
    emulator: str
    """``qemu-x86_64``; empty if the program ran on this machine itself, or not at all."""
    result: str
    """``right``: it exited, with the same stdout and status as on the first CPU. ``differs``: with another stdout or
    status. ``refused``: its guard or loader said that the CPU lacks something. ``died``: by a signal. Or ``took too
    long``, ``did not start``, ``not run``."""
    message: str = ""
    """The message of the refusal, or of what went wrong."""
    status: int | None = None
    """The exit status, None if it did not exit by itself."""
    signal: str = ""
    """The name of the signal that ended it: ``SIGILL``."""
    death: Death | None = None
    """The instruction at which it received that signal; None if it did not die, or if that was not observed."""
    variants: tuple[str, ...] | None = None
    """The variants that ran (natively: that were selected), best first; None if there are none, or if that was not
    observed."""
    seconds: float = 0.0
    """The time that it ran, in seconds."""
    stdout: bytes = b""
    """The beginning of what it wrote to stdout, at most 1 MiB (:data:`cpufeat.support.processes.KEPT_BYTES`)."""
    stdout_size: int = 0
    """The number of bytes that it wrote to stdout in all."""
    sha256: str = ""
    """SHA-256 of all that it wrote to stdout, in hexadecimal."""


def verify(
    file: str | os.PathLike[str],
    cpus: Sequence[str] | None = None,
    arguments: Sequence[str] = (),
    *,
    time_limit: float = TIME_LIMIT,
    emulated_only: bool = False,
) -> Iterator[Run]:
    """Run an executable on each CPU in turn, and yield the result of each run as it ends.

    This runs the program with your rights: emulated, and natively where ``cpus`` has ``native`` or where no emulated
    CPU has a level that this machine has, unless ``emulated_only``. All processes that it leaves behind are killed.
    ``cpus``: models of qemu-user with changes (``Haswell,-avx2``), levels, and ``native``, by default one CPU for each
    level. ``arguments``: the program's own. The program runs in the current folder with this process's environment and
    empty stdin, for at most ``time_limit`` seconds on each CPU. The first run that exits is the reference for the
    others. Raises OSError, such as FileNotFoundError, for a file that cannot be read; VerifyError for a file that is no
    ELF executable, for an unknown CPU or an empty list, without an emulator, and on Windows and macOS; OptionError for
    a ``time_limit`` that is not positive.
    """
    expect("file", file, (str, os.PathLike), "a path")
    if cpus is not None:
        expect_strings("cpus", cpus)
    expect_strings("arguments", arguments)
    positive("time_limit", time_limit)
    one_of("emulated_only", emulated_only, (True, False))
    if sys.platform in _NO_ELF:
        raise VerifyError(f"{os.fspath(file)}: {_NO_ELF[sys.platform]} runs no ELF programs: verify it on Linux")
    program = _read(file)
    return _runs(program, select_cpus(program.arch, cpus, emulated_only=emulated_only), list(arguments), time_limit)


def _runs(program: _Program, cpus: Sequence[Cpu], arguments: list[str], time_limit: float) -> Iterator[Run]:
    reference: Run | None = None
    bias = functools.cache(lambda emulator: emulator.load_bias(program.path) if program.clones else None)
    for cpu in cpus:
        run = _run(program, cpu, arguments, time_limit, bias(cpu.emulator) if cpu.emulator else None)
        if run.result == RIGHT:
            reference = reference or run
            run = _compared(run, reference)
        yield run


def verdict_of(runs: Iterable[Run], *, are_named: bool) -> str:
    """Return the verdict on all runs together.

    If the CPUs are named, the program ``runs`` only if it ran right on each of them. Else a refusal in words is right,
    too, and a level without a CPU is left out, but it must have run right somewhere.
    """
    results = {run.result for run in runs}
    if results - {RIGHT, REFUSED, NOT_RUN} or (are_named and REFUSED in results):
        return WILL_NOT_RUN
    if RIGHT not in results or (are_named and NOT_RUN in results):
        return CANNOT_TELL
    return RUNS


# --- the program


class _Program(Value):
    """An executable, and the functions to observe while it runs."""

    path: str
    arch: str
    bits: int
    """The size of a pointer: 32 or 64."""
    entry: int
    clones: Mapping[int, str]
    """Start of each clone of a function -> its variant."""
    variants: tuple[str, ...]
    """All variants in the file's notes, best first."""


def _is_elf(content: bytes) -> bool:
    known = format_of(content)
    return known is not None and known.name == "ELF"


def _read(file: str | os.PathLike[str]) -> _Program:
    path = Path(file).absolute()
    try:
        if path.exists() and not path.is_file():
            raise VerifyError(f"{path}: not a regular file")
        content = files.read(path, wanted=_is_elf)
    except ValueError as error:
        raise VerifyError(files.failure(path, error)) from None
    if not _is_elf(content):
        raise VerifyError(f"{path}: not an ELF file: only an ELF executable can be run on other CPUs")
    try:
        image = image_of(content, str(path))
        variants = tuple(dict.fromkeys(label for artifact in Artifact.all_in(content) for label in _labels(artifact)))
    except (AuditError, ArtifactError) as error:
        raise VerifyError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    if image.kind != "executable" or image.entry is None:
        raise VerifyError(f"{path}: {_NOT_EXECUTABLE[image.kind]}: only an executable can be run")
    return _Program(str(path), image.arch, image.bits, image.entry, _clones(image, variants), variants)


def _labels(artifact: Artifact) -> tuple[str, ...]:
    """Return the suffixes of the clones in an artifact; functions that are not multiversioned have none."""
    return artifact.labels if artifact.dispatch else ()


def _clones(image: Image, variants: tuple[str, ...]) -> dict[int, str]:
    suffixes = {f".{label}": label for label in variants}
    code = (symbol for symbol in image.symbols if symbol.kind == "function")
    return {
        symbol.address: label for symbol in code for suffix, label in suffixes.items() if symbol.name.endswith(suffix)
    }


# --- one run


def _run(program: _Program, cpu: Cpu, arguments: list[str], time_limit: float, bias: int | None) -> Run:
    """Run a program on one CPU; ``bias``: the emulator's load bias, None if it is unknown or there are no clones."""
    from cpufeat.running import ptrace

    run = Run(cpu.name, cpu.level, cpu.emulator.name if cpu.emulator else "", NOT_RUN, cpu.reason)
    if not cpu.name:
        return run
    with tempfile.TemporaryDirectory() as private:
        observers = _observers(program, cpu, bias, private)
        try:
            ended = processes.run_supervised(
                observers.command(program, cpu, arguments),
                seconds=time_limit,
                environment=qemu.environment(),
                log=observers.watch.log if observers.watch else None,
                observe=observers.observe,
            )
        except OSError as error:
            return run.replace(result=FAILED, message=error.strerror or str(error))
    result, message = _judged(ended, time_limit, qemu.failure if cpu.emulator else ptrace.failure)
    code = observers.stub.code if observers.stub and result == DIED else None
    death = death_at(code, program.arch) if code else None
    return run.replace(
        result=result,
        message=(f"{message}: {death}" if death else message)[:_MAX_MESSAGE],
        status=None if ended.expired or ended.status < 0 else ended.status,
        signal=processes.signal_name(-ended.status) if ended.status < 0 and not ended.expired else "",
        death=death,
        variants=_variants_that_ran(program, observers.watch or observers.trace),
        seconds=ended.seconds,
        stdout=ended.stdout.start,
        stdout_size=ended.stdout.size,
        sha256=ended.stdout.sha256,
    )


class _Observers(NamedTuple):
    """What observes a run: emulated, the stub, and the watch if there are clones; natively, the trace if there are."""

    stub: Stub | None
    watch: Watch | None
    trace: Trace | None

    @property
    def observe(self) -> Callable[[int, float], bool] | None:
        """The function that follows the process until it ends."""
        follower = self.stub or self.trace
        return follower.observe if follower else None

    def command(self, program: _Program, cpu: Cpu, arguments: list[str]) -> list[str]:
        """Return the command that runs the program under observation."""
        command = [program.path, *arguments]
        if cpu.emulator:
            options = self.stub.options() if self.stub else []
            return [*cpu.emulator.command(cpu.model, self.watch), *options, *command]
        return self.trace.command(command) if self.trace else command


def _observers(program: _Program, cpu: Cpu, bias: int | None, folder: str) -> _Observers:
    from cpufeat.running.gdb_remote import Stub
    from cpufeat.running.ptrace import Trace

    watch = None if bias is None else Watch(program.entry, program.clones, bias)
    if cpu.emulator:
        return _Observers(Stub(folder, program.arch), watch, None)
    traced = Trace(program.path, program.bits, program.entry, program.clones) if program.clones else None
    return _Observers(None, watch, traced)


def _variants_that_ran(program: _Program, observer: Watch | Trace | None) -> tuple[str, ...] | None:
    executed = observer.seen() if observer else None
    if executed is None:
        return None
    ran = {program.clones[address] for address in executed}
    return tuple(variant for variant in program.variants if variant in ran)


def _judged(ended: Ended, time_limit: float, failure: Callable[[str], str]) -> tuple[str, str]:
    """Return the result of a run by itself, and its message.

    ``failure`` finds in stderr the message of an emulator or shell that could not start the program.
    """
    stderr = qemu.without_warnings(ended.stderr.start.decode(errors="replace"))
    if ended.expired:
        return EXPIRED, f"it ran for longer than {time_limit:g} s"
    if ended.status < 0:
        return DIED, signal.strsignal(-ended.status) or ""
    for result, patterns in ((REFUSED, _REFUSALS), (FAILED, _NOT_LOADED)):
        message = patterns[ended.status].search(stderr) if ended.status in patterns else None
        if message:
            return result, message[0]
    why = failure(stderr) if ended.status else ""
    return (FAILED, why) if why else (RIGHT, "")


def _compared(run: Run, reference: Run) -> Run:
    """Return a run that exited, with its result as compared with the first run that did."""
    if run.status != reference.status:
        return run.replace(result=DIFFERS, message=f"exit status {run.status}, on {reference.cpu} {reference.status}")
    if (run.stdout_size, run.sha256) == (reference.stdout_size, reference.sha256):
        return run
    common = len(os.path.commonprefix((run.stdout, reference.stdout)))  # noqa: RUF071 - not paths
    return run.replace(result=DIFFERS, message=f"its output differs from that on {reference.cpu} after byte {common}")
