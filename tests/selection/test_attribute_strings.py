"""Attribute strings mean in LLVM what they say, for each LLVM, and LLVM takes them without a word.

Which features a subtarget has is told by LLVM's inliner: see llvm_subtarget.py.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.paths import PROJECT, SCRIPTS
from helpers.requirements import tool

import cpufeat
from cpufeat import Target, TargetError, llvm_tables
from cpufeat.cpus import can_run, cpu_features, cpus
from cpufeat.features import FeatureSet, find, table
from cpufeat.levels import levels
from cpufeat.tables import rows
from cpufeat.triples import complete

if TYPE_CHECKING:
    from collections.abc import Sequence

ARCH = "x86_64"
TRIPLE = "x86_64-unknown-linux-gnu"
BASELINE = cpu_features(ARCH, "x86-64")
OF_LLVM = {cpu for version in llvm_tables.versions(ARCH) for cpu in llvm_tables.load(ARCH, version).cpus}
CPUS = [cpu for cpu in cpus(ARCH) if cpu in OF_LLVM and cpu_features(ARCH, cpu) >= BASELINE]
REQUESTS = [
    "haswell,+avx512f,-fma",
    "haswell-avx",
    "skylake-avx512,-avx512f",
    "sapphirerapids-avx",
    "x86-64-v4,+prefer-256-bit,-fast-gather",
    "x86-64-v2+retpoline",
    "diamondrapids,-evex512",
]
UNSAID = {"CONTEXTIDREL2"}
"""Features that llc cannot be given: it puts names into lower case."""
UNSEEN = {"64bit", "cx16", "nopl", "sahf"}
"""Features that LLVM's inliner does not compare."""
GENERATOR = str(PROJECT / "tools" / "llvm_tables.py")
ASK = str(SCRIPTS / "llvm_subtarget.py")


def targets() -> list[Target]:
    """Levels, CPUs, requests, this machine, and sets at random, each for a CPU at random that implies other ones."""
    generator = random.Random(1)
    names = list(FeatureSet(ARCH, table(ARCH)).of_kind("isa", "privileged"))
    named = [Target.parse(request) for request in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", *CPUS, *REQUESTS)]
    sets = [BASELINE | FeatureSet(ARCH, generator.sample(names, size)) for size in (1, 5, 20, 60) for _ in range(8)]
    mixed = [Target(TRIPLE, generator.choice(CPUS), features.closed()) for features in sets]
    return [*named, cpufeat.target_for_host("native"), *mixed]


def ask(python: str, questions: Sequence[Sequence[object]]) -> subprocess.CompletedProcess[str]:
    lines = "\n".join(map(json.dumps, questions))
    return subprocess.run([python, ASK], input=lines, capture_output=True, text=True, check=False)


VERSIONS = llvm_tables.versions(ARCH)
ARCHITECTURES = [arch for arch, *_ in rows("architectures.tsv")]


@pytest.mark.parametrize("version", range(VERSIONS[0], VERSIONS[-1] + 1))
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_level_and_cpu_has_a_string_and_a_cpu_for_every_llvm(arch: str, version: int) -> None:
    """In that LLVM's own names, and closed under what it takes to be implied: nothing is on that was not asked for."""
    known = llvm_tables.load(arch, version)
    turned_on = {name: {name, *implied.split()} for name, implied in known.implied.items()}
    turned_off = {name: {other for other, names in turned_on.items() if name in names} for name in turned_on}
    named = dict.fromkeys([*levels(arch), *cpus(arch)])
    for name in named:
        try:
            target = Target.parse(name, complete(arch))
        except TargetError as error:
            assert "-bit CPU" in str(error)
            continue
        signed = target.llvm_features(version).split(",")
        assert [feature[1:] for feature in signed] == [feature for feature in known.implied if feature not in UNSAID]
        on = {feature[1:] for feature in signed if feature[0] == "+"}
        implied = set().union(*(known.implied[feature].split() for feature in on))
        assert implied - on <= known.options | UNSAID, name
        assert FeatureSet(arch, on).names <= target.features.names, name
        assert target.llvm_cpu(version) in known.cpus, name
        subtarget = set(known.cpus[target.llvm_cpu(version)].split())  # MCSubtargetInfo.cpp: ApplyFeatureFlag, in order
        for feature in signed:
            subtarget = subtarget | turned_on[feature[1:]] if feature[0] == "+" else subtarget - turned_off[feature[1:]]
        assert subtarget & turned_on.keys() - UNSAID == on, name


def test_the_llcs_that_are_here_compile_without_a_word() -> None:
    """A sample: ``tools/llvm_strings.py`` hands every string to an llc, a Zig or an llvmlite of its version."""
    others = (shutil.which(f"llc-{version}") for version in VERSIONS)
    llcs = {str(Path(path).resolve()) for path in (tool("llc"), *others) if path}
    for llc, arch in itertools.product(sorted(llcs), ARCHITECTURES):
        printed = subprocess.run([llc, "--version"], capture_output=True, text=True, check=True).stdout
        version = int(re.search(r"LLVM version (\d+)", printed)[1])
        if version < llvm_tables.versions(arch)[0]:
            continue
        named = [*levels(arch), *(name for name in cpus(arch) if can_run(arch, name))]
        for name in {*levels(arch), random.Random(arch).choice(named)}:
            if not can_run(arch, name):
                continue
            target = Target.parse(name, complete(arch))
            given = [f"-mcpu={target.llvm_cpu(version)}", f"-mattr={target.llvm_features(version)}"]
            process = subprocess.run(
                [llc, f"-mtriple={target.triple}", *given, "-o", "-", "-"],
                input="define void @f() { ret void }", capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert (process.returncode, process.stderr) == (0, ""), (llc, name)


def test_llvm_reads_an_attribute_string_as_the_target_means_it(llvm_python: str, llvm_version: int) -> None:
    known = {name: find(ARCH, name).name for name in llvm_tables.load(ARCH, llvm_version).implied}
    asked = targets()
    questions = [
        [TRIPLE, target.llvm_cpu(llvm_version), target.llvm_features(llvm_version), list(known)] for target in asked
    ]
    process = ask(llvm_python, questions)
    assert (process.returncode, process.stderr) == (0, "")
    answers = [json.loads(line) for line in process.stdout.splitlines()]
    wrong = {}
    for target, answer in zip(asked, answers, strict=True):
        expected = {name for name, ours in known.items() if ours in target.features} - UNSEEN
        for features in answer:
            if set(features) - UNSEEN != expected:
                wrong[target.cpu, target.features] = set(features) - UNSEEN ^ expected
    assert wrong == {}


def test_a_wrong_attribute_string_is_noticed(llvm_python: str, llvm_version: int) -> None:
    """What the test above would see of an unknown name, an unclosed string, and a CPU's name alone."""
    names = ["avx", "avx2", "fma"]
    questions = [
        [TRIPLE, "haswell", "+no-such-feature", names],
        [TRIPLE, "haswell", "-avx2,+fma,-avx", names],
        [TRIPLE, "haswell", "", names],
    ]
    process = ask(llvm_python, questions)
    assert process.stderr.count("'+no-such-feature' is not a recognized feature") >= 1
    assert [json.loads(line)[0] for line in process.stdout.splitlines()] == [names, [], names]


def test_each_llvm_has_the_table_that_its_llvmlite_generates(llvm_python: str) -> None:
    command = [llvm_python, GENERATOR, "--check"]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_creating_a_target_machine_prints_nothing() -> None:
    code = "import cpufeat; print(cpufeat.target_for_host('native').create_target_machine(opt=3).triple)"
    environment = {"PYTHONPATH": str(Path(cpufeat.__file__).parent.parent)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr, process.stdout) == (0, "", f"{TRIPLE}\n")
