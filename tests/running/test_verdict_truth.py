"""A sample of what ``tools/verdict_truth`` tries by hand: verdicts are held against runs on emulated CPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import pytest
from helpers.paths import PROJECT
from helpers.requirements import tool

from cpufeat.detection.systems import ThisMachine
from cpufeat.support.verdict import MAY_NOT_RUN, RUNS

pytestmark = pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the programs are x86-64's")
RAN, DIED = "ran", "died of SIGILL"
ASKS_WRONGLY = "C that asks wrongly"


class Tried(NamedTuple):
    subject: str
    language: str
    cpu: str
    verdict: str
    outcome: str
    features: set[str]
    """The features that the verdict names."""


@pytest.fixture(scope="module")
def trials(qemu: str, tmp_path_factory: pytest.TempPathFactory) -> list[Tried]:
    """The trials of the sample, of programs that ask wrongly apart."""
    tool("gcc")
    work = tmp_path_factory.mktemp("verdicts")
    cpus = ["--cpu", "qemu64", "--cpu", "Haswell-noTSX"]
    command = [sys.executable, "-m", "tools.verdict_truth", "--only", "sample", *cpus, str(work)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = map(json.loads, (work / "trials.jsonl").read_text().splitlines())
    return [
        Tried(subject, language, cpu, verdict, outcome, {use[1] for use in named})
        for subject, language, cpu, verdict, _, outcome, _, named in lines
    ]


def test_of_what_runs_according_to_check_only_programs_died_whose_own_question_is_wrong(trials: list[Tried]) -> None:
    wrong = {trial.language for trial in trials if trial.verdict == RUNS and trial.outcome != RAN}
    assert len(trials) == 24
    assert wrong == {ASKS_WRONGLY}


def test_of_what_died_the_feature_was_named_that_is_used_without_a_check(trials: list[Tried]) -> None:
    died = [trial for trial in trials if trial.outcome == DIED and trial.language != ASKS_WRONGLY]
    assert len(died) == 7
    assert {trial.verdict for trial in died} == {MAY_NOT_RUN}
    assert [trial for trial in died if not any(f", {feature}, " in trial.subject for feature in trial.features)] == []


def test_what_asks_first_or_has_the_feature_runs_and_ran(trials: list[Tried]) -> None:
    asks = [trial for trial in trials if trial.subject.startswith(("by_", "ifunc"))]
    equipped = [trial for trial in trials if trial.cpu.startswith("Haswell")]
    assert len(asks) == 6
    assert [trial for trial in (*asks, *equipped) if (trial.verdict, trial.outcome) != (RUNS, RAN)] == []
