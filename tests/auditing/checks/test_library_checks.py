"""Uses that a library is known to check for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build

import cpufeat
from cpufeat import tables
from cpufeat.auditing.report import CHECKED

if TYPE_CHECKING:
    from pathlib import Path

XBEGIN = ".globl {0}\n.type {0}, @function\n{0}: xbegin 1f\n1: ret\n.size {0}, .-{0}\n"


def library(folder: Path, name: str, function: str) -> cpufeat.Audit:
    (folder / "text.s").write_text(XBEGIN.format(function))
    return cpufeat.audit(
        build(folder / "library", "-shared", f"-Wl,-soname,{name}", folder / "text.s", triple="x86_64-linux-gnu")
    )


@pytest.mark.parametrize(
    ("name", "function", "is_checked"),
    [
        ("libc.so.6", "lock", True),
        ("libother.so.6", "lock", False),
        ("libother.so.6", "__lll_lock_elision", True),
    ],
)
def test_a_library_or_function_of_the_table_checks_for_itself(
    name: str, function: str, is_checked: bool, tmp_path: Path
) -> None:
    audit = library(tmp_path, name, function)
    assert ("rtm" not in audit.bare) is is_checked
    (needs,) = audit.functions
    assert (needs.reached == CHECKED) is is_checked
    assert ("elision-conf.c" in needs.why) is is_checked


def test_each_row_names_features_and_a_source() -> None:
    rows = list(tables.rows("library_checks.tsv"))
    assert rows
    for _, _, features, why in rows:
        for feature in features.split():
            families = {arch for arch in ("x86_64", "aarch64") if feature in {*_names(arch)}}
            assert families, feature
        assert ": " in why


def _names(arch: str) -> list[str]:
    return [row[0] for row in tables.rows(f"{'x86' if arch == 'x86_64' else arch}/features.tsv")]
