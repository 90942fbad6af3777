"""What other projects expect of the machines that they recorded: Gentoo's cpuid2cpuflags, pytorch/cpuinfo, google's
cpu_features, archspec.

Every feature that they and we name is compared. ``DISAGREEMENTS`` lists where we differ, who is right and why; one that
no longer occurs fails.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest
from helpers.corpora import corpora
from helpers.machines import EVERY_STATE

from cpufeat.detection import dumps
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.errors import UnknownNameError
from cpufeat.features import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from cpufeat.detection.machine import Leaves

Expectation = tuple[str, Recording, dict[str, bool]]
"""The machine's name, the machine, and whether it has each feature (by the project's name for it)."""

# fmt: off
NAMES = {
    "gentoo": {
        "mmxext": "sse", "3dnowext": "3dnowa", "vsx2": "power8_vector", "vsx3": "power9_vector",
        "edsp": "v5te", "thumb": "v4t", "v4": "v4t", "v5": "v5t",
        "vfp": "vfp2", "vfpv3": "vfp3d16", "vfpv4": "vfp4", "vfp-d32": "d32",
        "neon-fp16": "fp16",
    },
    "pytorch": {
        "fp16": "vfp3_fp16", "fp16_arith": "fullfp16", "neon_rdm": "rdm", "neon_dot": "dotprod",
        "atomics": "lse", "fcma": "complxnum", "fpu": "x87", "fxsave": "fxsr",
        "three_d_now": "3dnow", "three_d_now_plus": "3dnowa", "lahf_sahf": "sahf", "cmpxchg8b": "cx8",
        "cmpxchg16b": "cx16", "fma3": "fma", "pclmulqdq": "pclmul",
    },
}
# fmt: on
"""Their names that no table of ours has as a spelling."""

DISAGREEMENTS = {
    "gentoo": {
        ("armv7l-beaglebone", "fp16"): "ours: a Cortex-A8 has no half precision, which they take NEON to imply",
        ("armv7l-compulab-utilite-pro", "fp16"): "theirs by chance: a Cortex-A9 has it, and no word says so",
        ("armv8l-neoverse-n1", "d32"): "ours: Advanced SIMD has 32 registers; 64-bit kernels leave the word out",
        ("xeon-platinum-8480plus", "amx_*"): "both: it is there, and a process has to ask for it first",
    },
    "pytorch": {
        ("*.log.cpu*", "cx16"): "ours: CPUID 1:ECX[13] is set; they want it false of every Atom phone",
        ("galaxy-s9-us.log.cpuinfo", "lse"): "ours: the kernel says atomics; their test leaves it out of its HWCAP",
        ("huawei-mate-20.log.cpuinfo", "lse"): "ours, as of the Galaxy S9",
        ("galaxy-s9-us.log.cpuinfo", "rdm"): "theirs, by the core: the kernel does not report it",
        ("huawei-mate-20.log.cpuinfo", "rdm"): "theirs, by the core",
        ("huawei-mate-20.log.cpuinfo", "dotprod"): "theirs, by the core",
        ("oppo-a37*", "crc"): "ours: the kernel says crc32; their test leaves it out of its HWCAP",
    },
    "google": {},
    "archspec": {
        ("darwin-bigsur-m1", "*"): "theirs, by the name: macOS 11 has no variables for these",
        ("darwin-monterey-m[12]", "dit"): "theirs, by the name: macOS 12 has no variable for it",
        ("darwin-sequoia-m4", "ssbs"): "ours: hw.optional.arm.FEAT_SSBS is 0",
        ("darwin-mojave-skylake", "xsave[co]*"): "theirs, by the name: macOS 10 has no word for them",
        ("linux-rocky9-zen5", "rdseed"): "ours: the RDSEED of its microcode, 0xb40401a, is faulty",
        ("linux-unknown-sapphirerapids", "amx_*"): "both: it is there, and a process has to ask for it first",
    },
}
"""By machine and feature: who is right, and why.

"By the name" or "by the core": they infer it. What is not reported is off here.
"""


def ours(project: str, arch: str, has: Mapping[str, bool]) -> dict[str, bool]:
    """What is expected by our names: a feature that is two of theirs (AES and PMULL) is there where both are."""
    features: dict[str, bool] = {}
    for theirs, expected in has.items():
        try:
            feature = find(arch, NAMES.get(project, {}).get(theirs, theirs))
        except UnknownNameError:
            continue
        if feature.kind == "isa":
            features[feature.name] = features.get(feature.name, True) and expected
    return features


def of_leaves(leaves: Leaves, arch: str = "x86_64") -> Recording:
    """A machine of some leaves; the highest are those that there are."""
    bounds: Leaves = {}
    for first in (0, 0x80000000):
        _, ebx, ecx, edx = leaves.get((first, 0), (0, 0, 0, 0))
        bounds[first, 0] = max(leaf for leaf, _ in [*leaves, (first, 0)] if leaf >> 31 == first >> 31), ebx, ecx, edx
    return Recording(arch=arch, leaves={0: {**leaves, **bounds}}, xcr0=EVERY_STATE)


# --- the collections


def of_gentoo() -> Iterator[Expectation]:
    """Lists of every flag that is there (https://github.com/projg2/cpuid2cpuflags/tree/master/tests)."""
    files = {path: _fields(path) for path in sorted(corpora("raw/cpuid2cpuflags").glob("tests/*/*.txt"))}
    for path, fields in files.items():
        kin = [other for other_path, other in files.items() if other_path.parent == path.parent]
        known = {flag for other in kin for flag in other["expected"][0].split()}
        present = fields["expected"][0].split()
        yield path.stem, _of_gentoo(path.parent.name, fields), {flag: flag in present for flag in known}


def _fields(path: Path) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for key, _, value in (line.partition(":") for line in path.read_text().splitlines()):
        fields.setdefault(key, []).append(value)
    return fields


def _of_gentoo(kind: str, fields: dict[str, list[str]]) -> Recording:
    if kind == "x86":
        rows = [[int(word, 16) for word in row.split(":")] for row in fields.get("sub", [])]
        rows += [[leaf, 0, *words] for leaf, *words in ([int(w, 16) for w in row.split(":")] for row in fields["top"])]
        return of_leaves({(leaf, subleaf): (a, b, c, d) for leaf, subleaf, a, b, c, d in rows})
    arch = fields.get("machine", ["ppc64le"])[0]
    words = {16: int(fields["hwcap"][0], 16), 26: int(fields["hwcap2"][0], 16)}
    return Recording(arch=arch, auxv=words, strings={15: arch.removeprefix("arm")})


def of_pytorch() -> Iterator[Expectation]:
    """``cpuinfo_has_*`` in test/mock/*.cc (https://github.com/pytorch/cpuinfo); 32-bit Arm is in test_arm.py."""
    truths = json.loads((corpora("raw/pytorch-cpuinfo") / "truth.json").read_text())
    for path in sorted(corpora("cases/pytorch-cpuinfo").iterdir()):
        name = path.name.partition(".")[0]
        machine = dumps.load(str(path))[1]
        if machine.arch != "arm" and name in truths:
            yield path.name, machine, truths[name]["isa"]


def of_google() -> Iterator[Expectation]:
    """test/cpuinfo_x86_test.cc (https://github.com/google/cpu_features)."""
    google = corpora("raw/google-cpu_features")
    for test in json.loads((google / "x86_leaves.json").read_text()):
        leaves: Leaves = {}
        for key, words in test["leaves"].items():
            leaf, _, subleaf = key.partition(".")
            a, b, c, d = (int(word, 16) for word in words)
            leaves[int(leaf, 16), int(subleaf)] = (a, b, c, d)
        recorded = google / "x86" / f"{test['test']}.json"
        expected = json.loads(recorded.read_text()) if recorded.exists() else {"present": [], "absent": []}
        has = {**dict.fromkeys(expected["present"], True), **dict.fromkeys(expected["absent"], False)}
        yield test["test"], of_leaves(leaves), has


def of_archspec() -> Iterator[Expectation]:
    """The features that the named microarchitecture has (https://github.com/archspec/archspec-json/tree/master/tests)."""
    archspec = corpora("raw/archspec-json")
    known = json.loads((archspec / "cpu" / "microarchitectures.json").read_text())["microarchitectures"]
    for path in sorted((archspec / "tests" / "targets").iterdir()):
        target = known[path.name.split("-", 2)[2]]
        machine = _of_windows(path) if path.name.startswith("windows") else dumps.load(str(path))[1]
        yield path.name, machine, dict.fromkeys(target["features"], True)


def _of_windows(path: Path) -> Recording:
    rows = [[int(word) for word in line.split(",")] for line in path.read_text().splitlines()]
    return of_leaves({(leaf, subleaf): (a, b, c, d) for leaf, subleaf, a, b, c, d in rows})


COLLECTIONS: dict[str, tuple[Callable[[], Iterable[Expectation]], int]] = {
    "gentoo": (of_gentoo, 600),
    "pytorch": (of_pytorch, 1000),
    "google": (of_google, 15),
    "archspec": (of_archspec, 1000),
}
"""Each with the least number of comparisons that it comes to."""


@pytest.mark.parametrize("project", COLLECTIONS)
def test_features_are_what_the_project_expects_or_the_difference_is_explained(project: str) -> None:
    collection, least = COLLECTIONS[project]
    compared, differ = 0, set()
    for name, machine, has in collection():
        features = detect(machine).features
        expected = ours(project, machine.arch, has)
        compared += len(expected)
        differ |= {(name, feature) for feature, expects in expected.items() if (feature in features) != expects}
    assert compared >= least
    listed = DISAGREEMENTS[project]
    covers = {row: {difference for difference in differ if all(map(fnmatch, difference, row))} for row in listed}
    assert differ - set().union(*covers.values()) == set(), "not explained"
    assert not [row for row, covered in covers.items() if not covered], "no longer so"
