"""Run a subject on an emulated CPU, ask ``cpufeat.check`` for the same CPU, and compare."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import cpufeat
from cpufeat.auditing.formats.loader import content_of, image_of
from cpufeat.running import qemu
from cpufeat.support.verdict import CANNOT_TELL, RUNS, worst
from tools.verdict_truth.subjects import ASKS_WRONGLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cpufeat.detection.host import Host
    from cpufeat.running.file_check import Check, Lack
    from tools.verdict_truth.subjects import Subject

RAN, DIED, REFUSED, DIFFERS, FAILED = "ran", "died of SIGILL", "refused in words", "printed something else", "failed"
"""Outcomes of a run. ``ran``: it exited with the status and the output that it has on this machine."""
ASKED, NOT_REACHED, NOT_ENFORCED, NOT_KNOWN = (
    "asked first",
    "not reached",
    "not enforced by qemu",
    "not known",
)
"""What became of the instruction that a verdict names, where the program ran all the same.

``asked first``: it runs on the emulator's largest CPU, and not on this one. ``not reached``: on neither. ``not enforced
by qemu``: it ran on this CPU, whose CPUID lacks the feature. ``not known``: the place was not found in the process."""
LARGEST = "max"
"""The emulator's CPU with everything that it emulates."""
_SECONDS = 300
_SIGILL = (-4, 128 + 4)
_REFUSALS = re.compile(r"CPU ISA level is lower than required|this CPU lacks: |This program can only be run on AMD64")
_BASE = re.compile(r"file=(\S+) \[\d+\];  generating link map\n.*base: (0x[0-9a-f]+)", re.M)
_NEEDS = re.compile(r"which needs ([\w, ]+), at 0x")
_BLOCK = 1 << 12
"""Bytes before an instruction in which the block of code begins that contains it."""


class Named(NamedTuple):
    """A use of a missing feature that a verdict names."""

    file: str
    feature: str
    function: str
    reached: str
    address: int
    fate: str


class Trial(NamedTuple):
    """One subject on one CPU."""

    subject: str
    language: str
    cpu: str
    verdict: str
    reasons: tuple[str, ...]
    outcome: str
    detail: str
    """The place where it died, or the end of what it wrote to stderr; empty if it ran."""
    named: tuple[Named, ...]

    def to_json(self) -> str:
        """Return the trial as a line of JSON."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, line: str) -> Trial:
        """Return the trial that a line is of."""
        subject, language, cpu, verdict, reasons, outcome, detail, named = json.loads(line)
        uses = tuple(Named(*use) for use in named)
        return cls(subject, language, cpu, verdict, tuple(reasons), outcome, detail, uses)


class Ended(NamedTuple):
    """The end of a run: the status, negative for a signal, and the output."""

    status: int
    stdout: str
    stderr: str


class Cpu:
    """A CPU model of qemu-user, and what cpufeat detects there, by CPUID."""

    def __init__(self, model: str, folder: Path) -> None:
        self.model = model
        recording = folder / f"{model}.json"
        if not recording.exists():
            recorded = self.run((sys.executable, "-m", "cpufeat", "record", "-"))
            if recorded.status:
                raise SystemExit(f"cpufeat record on {model}: {recorded.stderr}")
            recording.write_text(recorded.stdout)
        self.host: Host = cpufeat.detect(cpufeat.load_machine(recording))

    def run(self, command: tuple[str, ...], options: tuple[str, ...] = (), **variables: str) -> Ended:
        """Run a program on this CPU."""
        emulator = qemu.emulator("x86_64")
        return _run([*emulator.command(self.model), *options, *command], {**qemu.environment(), **variables})


def here(command: tuple[str, ...]) -> Ended:
    """Run a program on this machine."""
    return _run([*command], dict(os.environ))


def _run(command: list[str], environment: dict[str, str]) -> Ended:
    with tempfile.TemporaryDirectory() as folder:  # for what a program leaves behind when it dies
        try:
            process = subprocess.run(
                command, capture_output=True, env=environment, cwd=folder, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Ended(1, "", f"it took longer than {_SECONDS} s")
    stdout, stderr = (text.decode(errors="replace") for text in (process.stdout, process.stderr))
    return Ended(process.returncode, stdout, qemu.without_warnings(stderr))


def trials(subject: Subject, cpus: list[Cpu], largest: Cpu) -> Iterator[Trial]:
    """Yield a trial of a subject on each CPU."""
    reference = here(subject.command)
    if reference.status not in (0, *_SIGILL):
        print(f"{subject.name}: left out, because here it ends with {_last_line(reference)}")
        return
    check_module = importlib.import_module("cpufeat.running.check")
    audits = functools.lru_cache(len(subject.files))(check_module.audit_content)
    reached_on_largest = functools.cache(lambda places: _executed(subject, largest, places))
    with mock.patch.object(check_module, "audit_content", audits):  # one audit serves all CPUs
        for cpu in cpus:
            ended = cpu.run(subject.command)
            checks = [_check(file, cpu.host) for file in subject.files]
            result = outcome(ended, reference)
            lacks = [(check.file, lack) for whole in checks for check in _all(whole) for lack in check.lacks]
            places = tuple((file, lack.address) for file, lack in lacks)
            fates = ["" for _ in places]
            if result == RAN and places:
                fates = _fates(places, _executed(subject, cpu, places), reached_on_largest(places))
            yield Trial(
                subject.name,
                subject.language,
                cpu.model,
                worst([check.verdict for check in checks]),
                tuple(reason for check in checks for reason in check.reasons),
                result,
                _detail(subject, cpu, result, ended),
                tuple(_named(file, lack, fate) for (file, lack), fate in zip(lacks, fates, strict=True)),
            )


def outcome(ended: Ended, reference: Ended) -> str:
    """Return how a run ended, given the end of a run on this machine."""
    if ended.status in _SIGILL:
        return DIED
    if ended.status and _REFUSALS.search(ended.stderr):
        return REFUSED
    if reference.status in _SIGILL:  # this machine lacks the feature, too: there is no output to compare with
        return FAILED if ended.status else RAN
    if ended.status != reference.status:
        return FAILED
    return RAN if ended.stdout == reference.stdout else DIFFERS


def _check(file: Path, host: Host) -> Check:
    try:
        return cpufeat.check(file, host)
    except cpufeat.CpufeatError as error:
        return cpufeat.Check(str(file), host.name, CANNOT_TELL, (str(error),))


def _all(check: Check) -> Iterator[Check]:
    yield check
    yield from check.libraries or ()


def _named(file: str, lack: Lack, fate: str) -> Named:
    return Named(Path(file).name, lack.feature, lack.function, lack.reached, lack.address, fate)


def _detail(subject: Subject, cpu: Cpu, result: str, ended: Ended) -> str:
    if result != DIED:
        return "" if result == RAN else _last_line(ended)
    program, *arguments = subject.command
    (run,) = cpufeat.verify(program, [cpu.model], arguments, time_limit=_SECONDS)
    return str(run.death or run.message)


def needs_of_death(trial: Trial) -> set[str]:
    """Return the features that the instruction needs at which it died; none if that is not known."""
    needs = _NEEDS.search(trial.detail) if trial.outcome == DIED else None
    return set(needs[1].split(", ")) if needs else set()


def _last_line(ended: Ended) -> str:
    lines = ended.stderr.strip().splitlines()
    return f"status {ended.status}" + (f": {lines[-1][:200]}" if lines else "")


# --- whether an instruction ran

Places = tuple[tuple[str, int], ...]
"""Files, and addresses in them."""


def _fates(places: Places, here: frozenset[int] | None, largest: frozenset[int] | None) -> list[str]:
    if here is None or largest is None:
        return [NOT_KNOWN for _ in places]
    return [
        NOT_ENFORCED if index in here else ASKED if index in largest else NOT_REACHED for index in range(len(places))
    ]


def _executed(subject: Subject, cpu: Cpu, places: Places) -> frozenset[int] | None:
    """Return the indices of the places that run on a CPU; None if it is not known where a file is loaded.

    The emulator maps the same files at the same addresses in each run.
    """
    bases = _bases(subject, cpu)
    loaded = [(bases(file), address) for file, address in places]
    if any(base is None for base, _ in loaded):
        return None
    addresses = [(base or 0) + address for base, address in loaded]
    ranges = ",".join(f"{max(address - _BLOCK, 0):#x}..{address:#x}" for address in addresses)
    with tempfile.NamedTemporaryFile() as log:
        cpu.run(subject.command, ("-d", "in_asm", "-D", log.name, "-dfilter", ranges))
        lines = Path(log.name).read_text(errors="replace").splitlines()
    seen = {int(line.partition(":")[0], 16) for line in lines if line.startswith("0x")}
    return frozenset(index for index, address in enumerate(addresses) if address in seen)


def _bases(subject: Subject, cpu: Cpu) -> Callable[[str], int | None]:
    """Return a function that returns where a file is loaded; of libraries the loader of GNU libc tells that."""
    with tempfile.TemporaryDirectory() as folder:
        cpu.run(subject.command, LD_DEBUG="files", LD_DEBUG_OUTPUT=f"{folder}/loader")
        logs = "".join(path.read_text(errors="replace") for path in Path(folder).iterdir())
    libraries = {Path(name).name: int(base, 16) for name, base in _BASE.findall(logs)}

    def base(file: str) -> int | None:
        if file == subject.command[0]:
            return _program_base(file)
        return libraries.get(Path(file).name)

    return base


@functools.cache
def _program_base(program: str) -> int | None:
    content, name = content_of(program)
    if content[16] == 2:  # ET_EXEC is loaded at its own addresses
        return 0
    return qemu.emulator(image_of(content, name).arch).load_bias(program)


def is_wrong_yes(trial: Trial) -> bool:
    """Return whether a verdict says that it runs of what did not run."""
    return trial.verdict == RUNS and trial.outcome != RAN


def is_expected(trial: Trial) -> bool:
    """Return whether a wrong yes is of a case that asks wrongly: audit.md says that an audit does not find that."""
    return trial.language == ASKS_WRONGLY
