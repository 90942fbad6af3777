"""An instruction of each feature does what cpufeat says: it runs where the feature is usable, and faults elsewhere.

``tools/execute_features`` runs them, in more places than are tried here. Where an emulator or a hypervisor does not
keep to its own CPUID or auxiliary vector, ``explained.tsv`` there has the reason.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from helpers.foreign_python import ARM64, unpacked
from helpers.requirements import tool

from cpufeat.decisions import CLEARED, ERRATUM
from cpufeat.detection.systems import ThisMachine
from cpufeat.features import table
from tools.execute_features.compare import GUARD, TOO_LITTLE, TOO_MUCH, differences, explained
from tools.execute_features.places import compared, emulated, here
from tools.execute_features.program import TRIPLES, Executed, build, executed, probes

if TYPE_CHECKING:
    from pathlib import Path

    from tools.execute_features.compare import Difference, Found

x86_64_linux = pytest.mark.skipif(
    ThisMachine().arch != "x86_64" or sys.platform != "linux", reason="the program is x86-64 Linux's"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("x86_64", tmp_path_factory.mktemp("x86_64"))


@pytest.fixture(scope="module")
def program_for_arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("aarch64", tmp_path_factory.mktemp("aarch64"))


def unexplained(found: list[Difference]) -> list[Difference]:
    return [difference for difference in found if not difference.reason]


@pytest.mark.parametrize("arch", TRIPLES)
def test_each_feature_that_can_be_found_has_an_instruction_or_a_reason(arch: str) -> None:
    rows = {probe.feature: probe for probe in probes(arch)}
    assert [name for name, row in table(arch).items() if row.kind == "isa" and row.bit and name not in rows] == []
    assert [name for name in rows if name not in table(arch)] == []
    assert [name for name, probe in rows.items() if not probe.code and probe.note == "-"] == []


@pytest.mark.parametrize("row", explained(), ids=lambda row: "-".join(row[:2]))
def test_each_explained_difference_is_of_a_feature_that_is_run(row: tuple[str, ...]) -> None:
    arch, feature, where, kind, reason = row
    assert feature in {probe.feature for probe in probes(arch) if probe.code}
    assert where.startswith(("here", "qemu"))
    assert kind in (TOO_MUCH, TOO_LITTLE)
    assert reason


def test_differences_are_found() -> None:
    ran = Executed({"avx": False, "avx2": True, "bmi": True}, {"avx": "signal 4", "avx2": "ran"}, {"bmi": False})
    found: Found = {"usable": ["avx", "bmi"], "missing": {"avx2": "not reported"}}
    differ = differences("x86_64", "here", ran, found)
    assert [(difference.kind, difference.feature) for difference in differ] == [
        (TOO_MUCH, "avx"),
        (TOO_LITTLE, "avx2"),
        (GUARD, "bmi"),
    ]
    assert unexplained(differ) == differ


@pytest.mark.parametrize("reason", [CLEARED, ERRATUM])
def test_what_is_withheld_may_run_but_a_program_may_not_use_what_faults(reason: str) -> None:
    found: Found = {"usable": [], "missing": dict.fromkeys(["avx2", "fsgsbase"], reason)}
    ran = Executed({"avx2": True, "fsgsbase": False}, {"avx2": "ran"}, {"avx2": True, "fsgsbase": True})
    kinds = [(difference.kind, difference.feature) for difference in differences("x86_64", "here", ran, found)]
    assert kinds == [(TOO_LITTLE, "avx2"), (GUARD, "avx2"), (GUARD, "fsgsbase")]
    assert [difference.feature for difference in unexplained(differences("x86_64", "here", ran, found))] == ["fsgsbase"]


def test_what_runs_as_something_else_did_not_run() -> None:
    output = "".join(f"run {probe.feature} 0 0\n" for probe in probes("x86_64") if probe.code)
    ran = executed("x86_64", output).ran
    assert {name for name, did in ran.items() if not did} == {"egpr", "lzcnt", "popcnt", "ppx"}


def test_a_program_that_ended_early_is_no_answer() -> None:
    with pytest.raises(ValueError, match="ended after 1 of"):
        executed("x86_64", "run avx 4 0\n")


@x86_64_linux
@pytest.mark.parametrize("arguments", [(), ("permission",)], ids=["plain", "with permission"])
def test_instructions_run_here_where_usable(program: Path, arguments: tuple[str, ...]) -> None:
    assert unexplained(compared(here("x86_64", *arguments), program)) == []


CPUS = [
    "qemu64",
    "Nehalem,-sse4.2,+aes",
    "Haswell,-avx2,-bmi1,+abm",
    "max,-xsave",
    "EPYC,-rdrand,-movbe,-sse4a,-cx16,-lahf-lm",
]


@x86_64_linux
@pytest.mark.parametrize("cpu", CPUS)
def test_instructions_run_on_emulated_cpus_where_usable(qemu: str, program: Path, cpu: str) -> None:
    assert unexplained(compared(emulated("x86_64", qemu, cpu), program)) == []


ARM_CPUS = ["cortex-a53", "cortex-a76", "a64fx", "max", "max,sve=off,pauth=off"]


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ARM_CPUS)
def test_instructions_run_on_emulated_arm_cpus_where_usable(program_for_arm: Path, cpu: str) -> None:
    place = emulated("aarch64", tool(ARM64.emulator), cpu, unpacked(ARM64))
    assert unexplained(compared(place, program_for_arm)) == []
