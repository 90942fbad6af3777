"""``cpufeat cpus`` and ``cpufeat features``: what they list, how filters narrow it, and that a row is a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from helpers.command_line import ESCAPE, HASWELL, NEHALEM, cpufeat, on_terminal

from cpufeat import Target, detect, llvm_tables
from cpufeat.cpus import cpu_features, cpus, find_cpu
from cpufeat.detection.dumps import load
from cpufeat.features import find, implied, table
from cpufeat.levels import level_features
from cpufeat.tables import rows

if TYPE_CHECKING:
    from typing import Any

ARCHITECTURES = [arch for arch, *_ in rows("architectures.tsv")]


def listed(verb: str, *arguments: str, arch: str = "x86_64") -> dict[str, dict[str, Any]]:
    """Return the facts that ``--json`` prints, by name; the text has the same names in the same order."""
    done = cpufeat(verb, "--arch", arch, *arguments, "--json")
    answer = json.loads(done.stdout)
    assert answer["arch"] == arch
    key = verb.removesuffix("s")
    facts = {one[key]: one for one in answer[verb]}
    assert len(facts) == len(answer[verb])
    text = cpufeat(verb, "--arch", arch, *arguments)
    assert [line.split()[0] for line in text.stdout.splitlines()[1:]] == list(facts)
    assert done.returncode == text.returncode == (0 if facts else 1)
    assert done.stderr == text.stderr == ""
    return facts


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_cpu_of_an_architecture_is_listed_with_what_llvm_knows_of_it(arch: str) -> None:
    facts = listed("cpus", arch=arch)
    unfit = {"x86_64": "i386", "ppc64le": "440", "riscv64": "generic-rv32"}.get(arch)
    assert cpus(arch).keys() >= facts.keys()
    assert unfit not in facts
    for name, one in facts.items():
        assert one["features"] == list(cpu_features(arch, name))
        assert one["llvm"] == [v for v in llvm_tables.versions(arch) if name in llvm_tables.load(arch, v).cpus]
        assert all(find_cpu(arch, text) == name for texts in one["spellings"].values() for text in texts)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_feature_of_an_architecture_is_listed_with_its_row(arch: str) -> None:
    facts = listed("features", arch=arch)
    assert list(facts) == list(table(arch))
    for name, one in facts.items():
        row = table(arch)[name]
        assert (one["kind"], one["read_from"], one["state"]) == (row.kind, row.bit, row.state)
        assert one["implies"] == list(row.implies)
        assert all(find(arch, text) for texts in one["spellings"].values() for text in texts)
    if arch == "x86_64":
        assert facts["avx10_2"]["llvm"] == [20, 21, 22]
        assert facts["sse3"]["spellings"]["kernel"] == ["pni"]


def test_a_row_has_the_same_facts_as_the_json() -> None:
    cpu, feature = (cpufeat(*words).stdout.splitlines()[1] for words in (("cpus", "znver4"), ("features", "f16c")))
    assert cpu.split() == ["znver4", "x86-64-v4", "16-22", "zen4"]
    assert feature.split() == ["f16c", "isa", "1.0:ECX[29]", "avx", "avx"]


def test_cpus_that_pass_all_filters_are_listed() -> None:
    every = listed("cpus")
    v3 = level_features("x86_64", "x86-64-v3")
    assert list(listed("cpus", "--level", "x86-64-v3")) == [
        name for name, one in every.items() if v3.names <= set(one["features"])
    ]
    assert list(listed("cpus", "--has", "avx2,FMA", "--has", "sha")) == [
        name for name, one in every.items() if {"avx2", "fma", "sha"} <= set(one["features"])
    ]
    assert list(listed("cpus", "--llvm", "14")) == [name for name, one in every.items() if 14 in one["llvm"]]
    assert list(listed("cpus", "zen6")) == ["znver6"]
    host = detect(load(NEHALEM)[1])
    runs = {name for name in every if Target.parse(name, "x86_64").runs_on(host)}
    assert set(listed("cpus", "--usable", "--machine", NEHALEM)) == runs
    assert {"nehalem", "core2"} <= runs
    assert listed("cpus", "--llvm", "14", "--has", "avx10.2") == {}


def test_features_that_pass_all_filters_are_listed() -> None:
    every = listed("features")
    host = detect(load(HASWELL)[1])
    assert list(listed("features", "--usable", "--machine", HASWELL)) == list(host.features)
    assert list(listed("features", "--level", "x86-64-v2")) == list(level_features("x86_64", "x86-64-v2"))
    assert list(listed("features", "--cpu", "haswell,-avx")) == list(Target.parse("haswell,-avx").features)
    assert list(listed("features", "--implies", "avx512f")) == [
        name for name in every if "avx512f" in implied("x86_64", name) and name != "avx512f"
    ]
    assert list(listed("features", "--kind", "tuning", "--llvm", "15")) == [
        name for name, one in every.items() if one["kind"] == "tuning" and 15 in one["llvm"]
    ]
    assert "sse4_1" in listed("features", "SSE4.1")
    assert list(listed("features", "lahf")) == ["sahf"]


def test_the_architecture_is_that_of_the_machine_unless_another_is_named() -> None:
    here = json.loads(cpufeat("cpus", "--json", "--machine", HASWELL).stdout)
    there = json.loads(cpufeat("cpus", "--json", "--machine", HASWELL, "--arch", "arm64").stdout)
    assert (here["arch"], there["arch"]) == ("x86_64", "aarch64")
    assert "neoverse-n1" in {one["cpu"] for one in there["cpus"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--level", "x86-64-v9"], "unknown x86 level 'x86-64-v9'; did you mean x86-64-v4"),
        (["--level", "v"], "unknown x86 level 'v'; known are x86-64, x86-64-v2"),
        (["--arch", "pdp11"], "unknown architecture 'pdp11'"),
        (["--arch", ""], "unknown architecture ''"),
        (["--arch", "aarch64", "--usable"], "the machine is x86_64, on which no code for aarch64 runs"),
        (["--arch", "loongarch64", "--llvm", "14"], "for loongarch64 the oldest version that is known is 16"),
        (["--machine", "/absent"], "/absent: No such file"),
    ],
)
@pytest.mark.parametrize("verb", ["cpus", "features"])
def test_a_wrong_filter_is_bad_usage(verb: str, arguments: list[str], says: str) -> None:
    done = cpufeat(verb, "--machine", HASWELL, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_wrong_name_in_a_filter_is_bad_usage() -> None:
    for arguments, says in (
        (["cpus", "--has", "avx3"], "unknown x86 feature 'avx3'; did you mean"),
        (["features", "--implies", "avx3"], "unknown x86 feature 'avx3'; did you mean"),
        (["features", "--cpu", "haswel"], "unknown x86 CPU 'haswel'; did you mean haswell"),
        (["features", "--cpu", "native"], "'native' is relative to a host"),
        (["features", "--kind", "fast"], "invalid choice: 'fast'"),
    ):
        done = cpufeat(*arguments, CPUFEAT_MACHINE=HASWELL)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("verb", ["cpus", "features"])
def test_a_terminal_gets_one_line_for_a_row_and_a_pipe_gets_all_of_it(verb: str, width: int) -> None:
    piped = cpufeat(verb, "--machine", HASWELL, COLUMNS=str(width)).stdout.splitlines()
    shown = on_terminal(verb, "--machine", HASWELL, "--color", "never", columns=width).splitlines()
    assert max(map(len, shown)) <= width < max(map(len, piped)) or (verb, width) == ("cpus", 120)
    assert len(shown) == len(piped)
    for short, whole in zip(shown, piped, strict=True):
        assert short == whole or (short.endswith("...") and whole.startswith(short[:-3])), short
        assert short.split()[0].removesuffix("...") == whole.split()[0]


def test_the_heading_is_in_colour_where_that_is_wanted() -> None:
    pytest.importorskip("rich")
    first, second = cpufeat("cpus", "--color", "always").stdout.splitlines()[:2]
    assert ESCAPE in first
    assert ESCAPE not in second
