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

from helpers.requirements import tool, unavailable  # noqa: E402

from cpufeat import llvm_tables  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["helpers.checks"]
os.environ["CPUFEAT_CACHE"] = "0"  # tests compile, and leave this user's cache alone; those of the cache have their own
settings.register_profile("busy machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy machine")  # a slow draw says that other tests run beside this one, nothing about the code
LLVM_VERSIONS = llvm_tables.versions("x86_64")


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
    """Each LLVM that has a table."""
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
