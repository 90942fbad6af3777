"""Hold the verdicts of ``cpufeat check`` against what happens: ``python -m tools.verdict_truth [--only own] WORK``.

Subjects (own cases, programs of other languages, wheels of PyPI) are made or downloaded into the folder WORK, and each
runs on CPU models of qemu-user. Results are kept in WORK/trials.jsonl, so that a run that was stopped goes on where it
was; ``--page`` writes docs/explanation/verdict-truth.md of all results that are there. Needs GCC, qemu-user and GNU
libc. Exit status 1 if anything that "runs" did not run, except for programs that ask the CPU a wrong question.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.verdict_truth import foreign, page, subjects
from tools.verdict_truth.trials import LARGEST, Cpu, Trial, is_expected, is_wrong_yes, trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tools.verdict_truth.subjects import Subject

MODELS = ("qemu64", "Nehalem", "SandyBridge", "Haswell-noTSX", "EPYC")
"""Of each level up to x86-64-v3, and two between them: the emulator has no AVX-512."""
SOURCES: Mapping[str, Callable[[Path], Iterator[Subject]]] = {
    "sample": subjects.sample,
    "own": subjects.own_cases,
    "go": foreign.go_programs,
    "rust": foreign.rust_programs,
    "wheels": functools.partial(foreign.wheels, "wheels.tsv"),
    "crashes": functools.partial(foreign.wheels, "crashes.tsv"),
}


def main() -> int:
    """Try the subjects; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--only", choices=SOURCES, action="append", default=[], help="the source of subjects")
    parser.add_argument("--name", default="", help="try only subjects whose name contains this")
    parser.add_argument("--cpu", action="append", default=[], help="a model of qemu-x86_64")
    parser.add_argument("--page", action="store_true", help="try nothing, write the page")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = options.work / "trials.jsonl"
    if not options.page:
        _try(options, results)
    known = [Trial.from_json(line) for line in results.read_text().splitlines()]
    if options.page:
        page.write(known)
    wrong = [trial for trial in known if is_wrong_yes(trial)]
    for trial in wrong:
        note = ", which is documented" if is_expected(trial) else ""
        print(f"{trial.subject} on {trial.cpu}: {trial.verdict}, but {trial.outcome}{note} ({trial.detail})")
    print(f"{len(known)} trials, {len(wrong)} wrong yes")
    return 0 if all(map(is_expected, wrong)) else 1


def _try(options: argparse.Namespace, results: Path) -> None:
    lines = results.read_text().splitlines() if results.exists() else []
    done = {(trial.subject, trial.cpu) for trial in map(Trial.from_json, lines)}
    largest = Cpu(LARGEST, options.work)
    cpus = [Cpu(model, options.work) for model in options.cpu or MODELS]
    for source in options.only or [name for name in SOURCES if name != "sample"]:
        for subject in SOURCES[source](options.work / source):
            left = [cpu for cpu in cpus if (subject.name, cpu.model) not in done]
            if options.name not in subject.name or not left:
                continue
            with results.open("a") as file:
                for trial in trials(subject, left, largest):
                    file.write(trial.to_json() + "\n")
                    print(f"{trial.subject} on {trial.cpu}: {trial.verdict}, {trial.outcome}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
