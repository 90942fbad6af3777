"""What an addition may leave out: each of these fails with a sentence that names the file and the row to add."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpufeat import llvm_tables, tables
from cpufeat.cpus import cpus, lookup
from cpufeat.detection.arch.identity import Model
from cpufeat.errors import UnknownNameError
from cpufeat.features import find
from cpufeat.levels import levels

ARCHITECTURES: dict[str, list[str]] = {}
for arch, family, *_ in tables.rows("architectures.tsv"):
    ARCHITECTURES.setdefault(family, []).append(arch)
TABLES = [(family, version) for family, (arch, *_) in ARCHITECTURES.items() for version in llvm_tables.versions(arch)]
FILES = sorted(path.relative_to(tables.DATA).as_posix() for path in Path(tables.DATA).rglob("*.tsv"))


def versions(family: str) -> tuple[int, ...]:
    return llvm_tables.versions(ARCHITECTURES[family][0])


def names(family: str, version: int, kind: str) -> list[str]:
    """The names of LLVM's features or CPUs, in its table."""
    return [name for of_kind, name, *_ in tables.rows(f"{family}/llvm-{version}.tsv") if of_kind == kind]


def is_feature(family: str, name: str) -> bool:
    try:
        find(ARCHITECTURES[family][0], name)
    except UnknownNameError:
        return False
    return True


def test_there_are_tables() -> None:
    assert len(TABLES) > 20
    assert len(FILES) > 60


def test_an_llvm_has_a_table_of_every_family() -> None:
    """LLVM 15 has no LoongArch yet: a family may begin late, and then has every version."""
    every = sorted({version for _, version in TABLES})
    missing = [
        f"data/{family}/llvm-{version}.tsv"
        for family in ARCHITECTURES
        for version in every
        if version > versions(family)[0] and version not in versions(family)
    ]
    assert not missing, (
        f"half an LLVM was added: there is no {', '.join(missing)}. "
        "Run tools/llvm_tables.py with an llvmlite that has this LLVM: it writes all of them"
    )


@pytest.mark.parametrize(("family", "version"), TABLES)
def test_every_feature_of_an_llvm_has_a_row(family: str, version: int) -> None:
    missing = [name for name in names(family, version, "feature") if not is_feature(family, name)]
    assert not missing, (
        f"LLVM {version} has features that data/{family}/features.tsv has not: {', '.join(missing)}. "
        "Add a row for each, or a spelling llvm=NAME to the row of the feature that it is"
    )


@pytest.mark.parametrize(("family", "version"), TABLES)
def test_every_cpu_of_an_llvm_has_a_row(family: str, version: int) -> None:
    archs = ARCHITECTURES[family]
    missing = [name for name in names(family, version, "cpu") if all(lookup(arch, name) is None for arch in archs)]
    assert not missing, (
        f"LLVM {version} has CPUs that data/{family}/cpus.tsv has not: {', '.join(missing)}. "
        "Add a row for each, with its predecessor, or a spelling llvm=NAME to the row of the CPU that it is"
    )


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_cpu_with_a_row_is_known_to_an_llvm_or_has_a_correction(family: str) -> None:
    archs = ARCHITECTURES[family]
    known = {name for version in versions(family) for name in names(family, version, "cpu")}
    known |= {level for arch in archs for level in levels(arch)}
    corrected = {cpu for of_family, cpu, *_ in tables.rows("corrections.tsv") if of_family == family}
    unknown = [name for name in cpus(archs[0]) if name not in known | corrected]
    assert not unknown, (
        f"data/{family}/cpus.tsv has CPUs that no LLVM knows: {', '.join(unknown)}. "
        "A row has LLVM's name; a name that only other systems use is a spelling of the nearest row, or has a row in "
        "data/corrections.tsv, which says what it has beyond its predecessor"
    )


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_level_that_is_a_cpu_of_an_llvm_has_a_row(family: str) -> None:
    known = {name for version in versions(family) for name in names(family, version, "cpu")}
    missing = [
        level for arch in ARCHITECTURES[family] for level in levels(arch) if level in known and level not in cpus(arch)
    ]
    assert not missing, (
        f"data/{family}/cpus.tsv has no row for {', '.join(missing)}: add one, with the level below as its "
        "predecessor, for an LLVM that does not know the level"
    )


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_predecessor_has_a_row(family: str) -> None:
    known = cpus(ARCHITECTURES[family][0])
    dangling = [f"{cpu.name} ({cpu.predecessor})" for cpu in known.values() if cpu.predecessor not in ("", *known)]
    assert not dangling, f"data/{family}/cpus.tsv names predecessors that have no row: {', '.join(dangling)}"


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_model_names_a_cpu_and_features_that_have_rows(family: str) -> None:
    archs = ARCHITECTURES[family]
    for row in (Model(*row) for row in tables.rows(f"{family}/models.tsv")):
        model = f"data/{family}/models.tsv: the row of {row.name!r} ({row.vendor} {row.family} {row.model})"
        assert not row.cpu or any(lookup(arch, row.cpu) for arch in archs), (
            f"{model} names a CPU that data/{family}/cpus.tsv has not: {row.cpu}. "
            "Correct the name, or add the CPU there, and to LLVM's tables with tools/llvm_tables.py"
        )
        features = {name.rstrip("*") for name in (*row.requires.split(), *row.may.split())} - {""}
        unknown = [name for name in features if not is_feature(family, name)]
        assert not unknown, f"{model} names features that data/{family}/features.tsv has not: {', '.join(unknown)}"


@pytest.mark.parametrize("name", FILES)
def test_every_table_has_rows_as_long_as_its_header(name: str) -> None:
    """Tests that loop over a table rely on this: they would hold for an empty one."""
    header, *rows = [line.split("\t") for line in tables.text(name).splitlines() if line and line[0] != "#"]
    assert rows, f"data/{name} has no rows"
    assert rows[0] != header, f"data/{name} has its header twice"
    assert {len(row) for row in rows} == {len(header)}, f"data/{name} has rows of another length than its header"
    assert not [row for row in rows if "" in row], f"data/{name} has empty cells: an empty cell is written -"
