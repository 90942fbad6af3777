"""The rows of models.tsv and cpus.tsv against what others say: LLVM, GCC, archspec, Intel's map, recorded machines."""

from __future__ import annotations

import csv
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from archspec.cpu.schema import TARGETS_JSON
from helpers.corpora import corpora
from helpers.requirements import tool

from cpufeat import llvm_tables, tables
from cpufeat.cpus import correction, cpu_features, cpus, find_cpu, stand_in
from cpufeat.detection import dumps
from cpufeat.detection.arch import Reading
from cpufeat.detection.arch.identity import Model
from cpufeat.detection.detect import detect
from cpufeat.features import FeatureSet, table

ARCH = "x86_64"
MODELS = [Model(*row) for row in tables.rows("x86/models.tsv")]
CPUS = cpus(ARCH)
GCC_LEAVES_OUT = {"prfchw": "it is a part of 3DNow! for GCC", "aes": "GCC's knl lacks it"}
GCC_PRIVILEGED = {name for name, feature in table(ARCH).items() if feature.kind == "privileged"}
GCC_ALONE_HAS = {
    "btver1": {"xsave"},  # AMD 43170, BKDG for Family 14h: CPUID Fn1_ECX[26] is reserved
    "tigerlake": {"kl", "widekl"},
    "tremont": {"cldemote", "movdir64b", "movdiri", "waitpkg"},
    "sapphirerapids": {"avx512vp2intersect"},  # GCC 12; later ones took it back
    "alderlake": {"cldemote"},  # likewise
}
"""What nobody but GCC gives a CPU, and no manual decides: it counts as off."""
INTEL_NAMES = {
    "nehalemep": "nehalem",
    "nehalemex": "nehalem",
    "westmereep-sp": "westmere",
    "westmereep-dp": "westmere",
    "westmereex": "westmere",
    "jaketown": "sandybridge",
    "ivytown": "ivybridge",
    "haswellx": "haswell",
    "broadwellx": "broadwell",
    "broadwellde": "broadwell",
    "skylakex": "skylake-avx512",
    "cascadelakex": "cascadelake",
    "icelake": "icelake-client",
    "icelakex": "icelake-server",
    "goldmontplus": "goldmont-plus",
    "snowridgex": "tremont",
    "elkhartlake": "tremont",
    "knightslanding": "knl knm",
    "graniterapids": "graniterapids graniterapids-d",
    "alderlake_goldencove": "alderlake raptorlake",
    "alderlake_gracemont": "gracemont",
    "meteorlake_redwoodcove": "meteorlake arrowlake",
    "meteorlake_crestmont": "gracemont",
    "arrowlake_lioncove": "arrowlake arrowlake-s",
    "arrowlake_crestmont": "gracemont",
    "arrowlake_skymont": "gracemont",  # sierraforest, where it reports AVX-IFMA
    "lunarlake_lioncove": "lunarlake",
    "lunarlake_skymont": "gracemont",
    "pantherlake_cougarcove": "pantherlake wildcatlake",
    "pantherlake_darkmont": "clearwaterforest",
    "novalake_coyotecove": "novalake",
    "novalake_arcticwolf": "clearwaterforest",
}
"""What LLVM calls the cores of Intel's map, where it has another name for them."""


def numbers(ranges: str) -> list[int]:
    """The ends of every range, which is where a mistake would be."""
    return [999] if ranges == "*" else [int(end) for part in ranges.split(",") for end in part.split("-")]


def test_every_row_is_the_first_to_match_its_own_models() -> None:
    for row in (row for row in MODELS if row.cpu):
        for vendor in row.vendor.split(","):
            for family in numbers(row.family):
                for model in numbers(row.model):
                    reading = Reading("", vendor, family, model, numbers(row.stepping)[0], core=row.core.strip("*"))
                    required = FeatureSet(ARCH, row.requires.split()).closed().names
                    first = next(other for other in MODELS if other.cpu and other.fits(reading, required))
                    assert first == row, f"{first} comes before {row} and matches the same model"


def test_the_column_may_lists_isa_features_that_llvm_does_not_give_the_cpu() -> None:
    llvm = llvm_tables.load(ARCH)
    for row in (row for row in MODELS if row.cpu):
        features = llvm.cpu_features(row.cpu) or cpu_features(ARCH, row.cpu)
        assert row.cpu in llvm.cpus or stand_in(ARCH, row.cpu) in llvm.cpus, f"{row}: nothing stands in for {row.cpu}"
        may = FeatureSet(ARCH, row.may.replace("*", "").split())
        assert not may & features, f"{row}: the column may repeats what LLVM says"
        assert may.names == may.isa.names, f"{row}: only the ISA is compared"


def test_intels_map_of_models_names_the_same_cpus() -> None:
    with (corpora("raw/intel-perfmon") / "mapfile.csv").open(newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["EventType"] in ("core", "hybridcore")]
    assert len(listed) > 80
    for row in listed:
        family, model, *steppings = row["Family-model"].removeprefix("GenuineIntel-").split("-")
        stepping = int(steppings[0][1], 16) if steppings else 0
        core = "atom" if row["Core Type"] == "0x20" else ""
        name = Path(row["Filename"]).stem.lower().removesuffix("_core")
        # This map writes families in decimal and models in hexadecimal.
        reading = Reading("", "GenuineIntel", int(family), int(model, 16), stepping, core=core)
        cpu = next(row.cpu for row in MODELS if row.cpu and row.fits(reading, frozenset()))
        expected = "gracemont" if model == "BE" else INTEL_NAMES.get(name, name)
        assert cpu in expected.split(), row


def test_models_agree_with_the_recorded_machines() -> None:
    cases = corpora("cases")
    listed = [line.split("\t") for line in (cases / "truth.tsv").read_text().splitlines()]
    named = [(path, truth) for path, _, arch, truth in listed if arch in (ARCH, "i686") and truth != "-"]
    cpu = {path: detect(dumps.load(str(cases / path))[1]).cpu for path, _ in named}
    wrong = [(path, cpu[path], truth) for path, truth in named if cpu[path] not in truth.replace("/", "|").split("|")]
    assert len(wrong) <= 0.005 * len(named), wrong


# --- cpus.tsv


def test_predecessors_are_older_as_llvm_came_to_know_them() -> None:
    """But for gracemont, which was alderlake's small core first, and got a name after its successor."""
    versions = llvm_tables.versions(ARCH)
    known = {version: llvm_tables.load(ARCH, version).cpus for version in versions}
    first = {cpu: min((v for v in versions if cpu in known[v]), default=versions[-1] + 1) for cpu in CPUS}
    younger = [
        f"{cpu} (LLVM {first[cpu]}) follows {row.predecessor} (LLVM {first[row.predecessor]})"
        for cpu, row in CPUS.items()
        if row.predecessor and first[row.predecessor] > first[cpu] and row.predecessor != "gracemont"
    ]
    assert not younger


def test_every_cpu_spelling_is_unique() -> None:
    spelled = Counter(name.lower().replace("_", "-") for row in CPUS.values() for name in (row.name, *row.spellings))
    assert [spelling for spelling, count in spelled.items() if count > 1] == []


def test_every_archspec_target_is_known() -> None:
    targets = TARGETS_JSON["microarchitectures"]

    def root(name: str) -> str:
        parents = targets[name]["from"]
        return root(parents[0]) if parents else name

    of_x86 = [name for name in targets if root(name) in ("x86", "x86_64")]
    assert len(of_x86) > 30
    assert {name: find_cpu(ARCH, name) for name in of_x86 if find_cpu(ARCH, name) not in CPUS} == {}


@pytest.mark.parametrize("mode", ["-m32", "-m64"])
def test_every_march_of_gcc_has_the_features_that_gcc_gives_it(mode: str) -> None:
    gcc = tool("gcc")

    def run(march: str) -> subprocess.CompletedProcess[str]:
        arguments = [gcc, mode, f"-march={march}", "-dM", "-E", "-x", "c", "/dev/null"]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    listed = re.search(r"valid arguments to .* are: ([^;\n]+)", run("no-such-cpu").stderr)
    assert listed
    names = set(listed[1].split()) - {"native"}
    macros = {
        name: set(re.findall(r"__(\w+)__ 1$", _renamed(run(name).stdout.lower()), re.MULTILINE)) for name in names
    }
    of_gcc = table(ARCH).keys() & set().union(*macros.values())
    assert len(of_gcc) > 60
    for name in names:
        ours = cpu_features(ARCH, find_cpu(ARCH, name)).isa.names & of_gcc
        assert ours - macros[name] <= GCC_LEAVES_OUT.keys(), name
        left = GCC_ALONE_HAS.get(name, set()) | GCC_PRIVILEGED | ({"sahf"} if mode == "-m32" else set())
        left |= set(correction(ARCH, find_cpu(ARCH, name)).lacks.split())
        assert macros[name] & of_gcc - ours <= left, "in 32-bit code every CPU has SAHF"


def _renamed(macros: str) -> str:
    """GCC's macros of features, of which two have names of another kind."""
    return macros.replace("__gcc_have_sync_compare_and_swap_16 ", "__cx16__ ").replace("__lahf_sahf__", "__sahf__")
