"""What CI sees: tests that check nothing, were lost, or are skipped for a reason that is none."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.environment import ENVIRONMENT
from helpers.paths import PROJECT, TESTS
from helpers.requirements import DEBIAN

if TYPE_CHECKING:
    from pathlib import Path

EMPTY_AND_OTHERS = """
import pytest

def test_of_an_empty_table():
    for row in ():
        assert row

def test_with_an_assertion():
    assert __name__

def test_of_an_error():
    with pytest.raises(ValueError):
        int("x")
"""


def test_a_test_that_checks_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(EMPTY_AND_OTHERS)
    options = ["-q", "-p", "helpers.checks", "-p", "no:cacheprovider", "-o", "enable_assertion_pass_hook=true"]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(TESTS)}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "test_of_an_empty_table" in process.stdout
    assert "passed without checking anything" in process.stdout
    assert "1 failed, 2 passed" in process.stdout


PASSED, FAILED = "<testcase/>", "<testcase><failure/></testcase>"


def skipped(reason: str) -> str:
    return f'<testcase><skipped message="{reason}"/></testcase>'


NO_SHARED = skipped("needs ../shared/corpora, recorded machines that are not part of the project")


@pytest.mark.parametrize(
    ("cases", "shared", "says"),
    [
        (PASSED + PASSED, True, ""),
        (PASSED + PASSED + skipped("this kernel has no PR_SET_MDWE (Linux 6.3)"), True, ""),
        (PASSED + NO_SHARED, False, ""),
        (PASSED + NO_SHARED, True, "needs ../shared"),
        (PASSED + FAILED, True, "1 tests passed"),
        (PASSED + PASSED + skipped("not asked to run on arm64: ..."), True, "not asked to run on arm64"),
        (PASSED + PASSED + skipped("not asked to run on s390x: ..."), True, ""),
    ],
)
def test_ci_wants_two_tests_and_a_reason_for_each_that_is_skipped(
    cases: str, shared: bool, says: str, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    if shared:
        (tmp_path / "shared").mkdir()
    (tmp_path / "tests.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    command = [sys.executable, str(PROJECT / ".ci" / "outcome.py"), str(tmp_path / "tests.xml"), "2"]
    process = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, check=False)
    assert (process.returncode == 0) == (not says), process.stderr
    assert says in process.stderr


def test_a_reason_that_is_given_is_allowed_too(tmp_path: Path) -> None:
    cases = PASSED + skipped("needs gcc: apt-get install gcc")
    (tmp_path / "tests.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    command = [sys.executable, str(PROJECT / ".ci" / "outcome.py"), str(tmp_path / "tests.xml"), "1"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    assert subprocess.run([*command, "^needs "], capture_output=True, check=False).returncode == 0


def test_ci_installs_the_tools_that_tests_need_and_contributors_are_told_of_them() -> None:
    named = (
        (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("`apt-get install ")[2].partition("`")[0]
    )
    installed = {
        word
        for line in (PROJECT / ".ci" / "run").read_text().splitlines()
        if "apt-get install" in line
        for word in line.split()
    }
    assert set(DEBIAN) - {"bash", "rustc"} < set(named.split()) < installed
    assert "rustc" in installed
