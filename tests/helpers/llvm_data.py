"""What the tables say that are generated from LLVM."""

from __future__ import annotations

from cpufeat import llvm_tables, tables


def llvm_rows(folder: str, version: int, kind: str) -> list[tuple[str, str, list[str]]]:
    """Return the name, class and features of each ``"feature"`` or ``"cpu"`` in a folder's table of an LLVM version."""
    rows = tables.rows(f"{folder}/llvm-{version}.tsv")
    return [(name, class_, features.split()) for row_kind, name, class_, features in rows if row_kind == kind]


def features_of(cpu: str, arch: str = "x86_64") -> set[str]:
    """Return what a CPU has, in the words of the newest LLVM."""
    features = llvm_tables.cpu_features(arch, cpu)
    assert features is not None
    return set(features)
