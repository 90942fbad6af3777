"""The tables of each family of architectures against those of each LLVM."""

from __future__ import annotations

import pytest

from cpufeat import llvm_tables
from cpufeat.cpus import cpus, find_cpu
from cpufeat.features import HARDWARE, find, implied, table

FAMILIES = ("x86_64", "aarch64", "armv7l", "loongarch64", "ppc64le", "riscv64", "s390x")
IN_EACH_LLVM = [(arch, version) for arch in FAMILIES for version in llvm_tables.versions(arch)]


def hardware_of(arch: str, names: str) -> set[str]:
    """The hardware features among LLVM's names, in cpufeat's words."""
    return {feature.name for feature in (find(arch, name) for name in names.split()) if feature.kind in HARDWARE}


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_feature_implies_at_least_what_the_newest_llvm_that_knows_it_says(arch: str) -> None:
    """Older ones may say more: LLVM 18 and 19 that AVX10.1 has VAES, LLVM 19 that FP8 has LUT. They were corrected."""
    newest = dict[str, set[str]]()
    for version in llvm_tables.versions(arch):
        named = llvm_tables.load(arch, version).implied
        newest.update({find(arch, name).name: set() for name in named})
        for name, others in named.items():
            newest[find(arch, name).name] |= hardware_of(arch, others)
    for name, needed in newest.items():
        assert needed <= implied(arch, name), name


@pytest.mark.parametrize(("arch", "version"), IN_EACH_LLVM)
def test_what_a_feature_implies_is_in_the_same_table(arch: str, version: int) -> None:
    known = llvm_tables.load(arch, version)
    names = known.implied.keys() | known.options
    for name, others in (*known.implied.items(), *known.cpus.items()):
        assert set(others.split()) <= names, name


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_feature_is_known_to_an_llvm_or_only_to_the_kernel(arch: str) -> None:
    known = (llvm_tables.load(arch, version) for version in llvm_tables.versions(arch))
    of_llvm = {find(arch, name).name for llvm in known for name in (*llvm.implied, *llvm.options)}
    assert {name for name, feature in table(arch).items() if feature.kind != "other"} == of_llvm
    assert all(feature.bit for feature in table(arch).values() if feature.kind == "other")


@pytest.mark.parametrize(("arch", "version"), [pair for pair in IN_EACH_LLVM if pair[0] != "riscv64"])
def test_every_name_of_every_llvm_leads_to_a_cpu_with_the_same_features(arch: str, version: int) -> None:
    """On AArch64 that CPU may be newer than the LLVM: an old name of a CPU that was renamed.

    Some names of RISC-V CPUs are for tuning alone, and lead to a CPU of their series, which has features. What
    LLVM 14 to 18 call apple-latest is a newer CPU in the newer ones; for cpufeat it is the one that all of them have.
    """
    known = llvm_tables.load(arch, version)
    for name in known.cpus.keys() - {"apple-latest"}:
        cpu = find_cpu(arch, name)
        is_renamed = arch == "aarch64" and cpu not in known.cpus
        assert is_renamed or known.cpu_features(cpu) == known.cpu_features(name), name


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_chain_of_predecessors_ends_at_one_that_every_llvm_knows(arch: str) -> None:
    known = cpus(arch)
    for cpu in known:
        chain = [cpu]
        while known[chain[-1]].predecessor:
            chain.append(known[chain[-1]].predecessor)
            assert len(chain) <= len(known), f"{cpu} is its own predecessor"
        for version in llvm_tables.versions(arch):
            assert set(chain) & llvm_tables.load(arch, version).cpus.keys(), f"LLVM {version} knows none of {chain}"
