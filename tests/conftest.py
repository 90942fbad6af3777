"""What several tests share: tools that pip cannot install, and interpreters that have another LLVM.

``CPUFEAT_LLVM_PYTHONS`` lists interpreters, between ``os.pathsep``, each with an llvmlite of another LLVM and iced-x86;
``.ci/run`` makes them. Where ``CI`` is ``true``, a test that lacks what ``.ci/run`` installs fails, and is not skipped.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("helpers")  # before the first import of one

from helpers.paths import TESTS  # noqa: E402
from helpers.requirements import tool, unavailable  # noqa: E402

from cpufeat import llvm_tables, tables  # noqa: E402
from cpufeat.aot.toolchain.zig import has_global_cache  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["helpers.checks"]
QUICK = (
    "aot/frontend/test_module.py",
    "aot/llvm/",
    "aot/passes/test_clone_plan.py",
    "aot/passes/test_target_attributes.py",
    "aot/test_artifact.py",
    "auditing/dataflow/",
    "auditing/formats/",
    "auditing/test_auditor.py",
    "binary_format/",
    "cli/test_cli.py",
    "cli/test_compile.py",
    "detection/arch/",
    "detection/dumps/",
    "detection/probe/",
    "detection/systems/",
    "detection/test_host.py",
    "detection/test_recording.py",
    "running/test_check.py",
    "selection/test_explain.py",
    "selection/test_requests_and_targets.py",
    "selection/test_triples.py",
    "support/",
    "tables/test_models.py",
)
"""Files whose tests are quick, but for those with the marker "slow" and those that use one of these fixtures."""
SLOW_FIXTURES = {"compiler", "library", "llvm_python", "llvm_version", "qemu"}
os.environ["CPUFEAT_CACHE"] = "0"  # tests compile, and leave this user's cache alone; those of the cache have their own
settings.register_profile("busy machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy machine")  # a slow draw says that other tests run beside this one, nothing about the code
LLVM_VERSIONS = [
    version
    for version in llvm_tables.versions("x86_64")
    if "with llvmlite" in tables.text(f"x86/llvm-{version}.tsv").partition("\n")[0]
]


def _is_quick(path: Path) -> bool:
    return path.relative_to(TESTS).as_posix().startswith(QUICK)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m quick``, leave other files alone: to import one takes time, and may take a newer LLVM or NumPy."""
    wanted = config.option.markexpr != "quick" or collection_path.is_dir() or _is_quick(collection_path)
    return None if wanted else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests."""
    for item in items:
        is_slow = item.get_closest_marker("slow") or not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        if _is_quick(item.path) and not is_slow:
            item.add_marker("quick")


@pytest.fixture(scope="session", autouse=True)
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give Zig a folder for the C libraries that it builds, where this user's cache cannot be written."""
    if not has_global_cache():
        os.environ["ZIG_GLOBAL_CACHE_DIR"] = str(tmp_path_factory.mktemp("zig"))


@pytest.fixture(scope="session")
def qemu() -> str:
    """The path of qemu-user's qemu-x86_64."""
    return tool("qemu-x86_64")


@pytest.fixture(scope="session")
def compiler() -> str:
    """The path of the system's C compiler."""
    return tool("cc")


@functools.cache
def _llvm_pythons() -> dict[int, str]:
    listed = os.environ.get("CPUFEAT_LLVM_PYTHONS", "").split(os.pathsep)
    ask = ["-c", "from llvmlite.binding import llvm_version_info as version; print(version[0])"]
    answers = {
        int(subprocess.run([python, *ask], capture_output=True, text=True, check=True).stdout): python
        for python in listed
        if python
    }
    return {**answers, llvm_tables.installed(): sys.executable}


@pytest.fixture(scope="session", params=LLVM_VERSIONS, ids=lambda version: f"LLVM {version}")
def llvm_version(request: pytest.FixtureRequest) -> int:
    """Each LLVM that an llvmlite has."""
    return int(request.param)


@pytest.fixture(scope="session")
def llvm_python(llvm_version: int) -> str:
    """An interpreter whose llvmlite has that LLVM; only that and iced-x86 are sure to be installed there."""
    how = "list an interpreter with such an llvmlite in CPUFEAT_LLVM_PYTHONS (.ci/run makes one of every version)"
    return _llvm_pythons().get(llvm_version) or unavailable(f"llvmlite with LLVM {llvm_version}", how)


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, which must be empty when the test is over."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert list(folder.iterdir()) == []
