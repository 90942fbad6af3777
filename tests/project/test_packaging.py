"""The project installs as a wheel, from its sdist, and in place; nothing here needs the network or a dependency."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.paths import PROJECT

import cpufeat
from cpufeat.llvm_tables import newest

if TYPE_CHECKING:
    from email.message import Message

NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "build", "dist", "tmp")
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("CPUFEAT_", "PYTHON", "PIP_")) and name != "VIRTUAL_ENV"
}
SHOW = "import cpufeat, cpufeat.tables as tables; print(tables.DATA); print(cpufeat.target_for_host())"


def run(*command: str | Path, directory: Path) -> str:
    """What a command prints."""
    process = subprocess.run(command, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, to build in."""
    return Path(shutil.copytree(PROJECT, tmp_path_factory.mktemp("tree") / "cpufeat", ignore=NOT_COPIED))


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is made from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, tree, directory=tree)
    return folder


def only(folder: Path, pattern: str) -> Path:
    """The one file of a name like this."""
    (path,) = folder.glob(pattern)
    return path


def install(what: list[str | Path], folder: Path) -> Path:
    """Install into a new environment that holds nothing else, and return its interpreter."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, directory=folder.parent)
    python = folder / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", directory=folder).strip()
    lent = Path(site) / "lent.pth"  # pip and hatchling, while installing
    lent.write_text(sysconfig.get_paths()["purelib"])
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--no-build-isolation", *what, directory=folder)
    lent.unlink()
    return python


def answers(python: Path, elsewhere: Path) -> Path:
    """Check the answers of an installation against those of this process, and return its folder of data."""
    data, target = run(python, "-c", SHOW, directory=elsewhere).splitlines()
    here = cpufeat.target_for_host("native")
    assert target == str(here)
    printed = run(python, "-m", "cpufeat", "target", "--print", "features", directory=elsewhere)
    assert printed == run(python.parent / "cpufeat", "target", "--print", "features", directory=elsewhere)
    assert printed.strip() == here.llvm_features(newest())
    return Path(data)


def test_an_installed_wheel_uses_its_own_tables(built: Path, tmp_path: Path) -> None:
    python = install([only(built, "*.whl")], tmp_path / "venv")
    assert answers(python, tmp_path).is_relative_to(tmp_path / "venv")


def test_an_installed_sdist_uses_its_own_tables(built: Path, tmp_path: Path) -> None:
    python = install([only(built, "*.tar.gz")], tmp_path / "venv")
    assert answers(python, tmp_path).is_relative_to(tmp_path / "venv")


def test_an_editable_installation_uses_the_tables_of_the_tree(tree: Path, tmp_path: Path) -> None:
    """Also: an edited table is seen."""
    project = Path(shutil.copytree(tree, tmp_path / "project"))
    python = install(["--editable", project], tmp_path / "venv")
    assert answers(python, tmp_path) == project / "data"
    with (project / "data" / "x86" / "features.tsv").open("a") as table:
        table.write("quickness\tisa\t-\t-\t-\t-\n")
    find = "from cpufeat.features import find; print(find('x86_64', 'Quickness').kind)"
    assert run(python, "-c", find, directory=tmp_path) == "isa\n"


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_tree_and_the_sdist_make_the_same_wheel(tree: Path, built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, tree, directory=tree)
    assert contents(only(tmp_path, "*.whl")) == contents(only(built, "*.whl"))


def test_the_wheel_holds_the_package_all_data_and_nothing_else(tree: Path, built: Path) -> None:
    files = contents(only(built, "*.whl"))
    package = {str(path.relative_to(tree)) for path in (tree / "cpufeat").rglob("*") if path.is_file()}
    data = {f"cpufeat/{path.relative_to(tree)}" for path in (tree / "data").rglob("*") if path.is_file()}
    manual = {name for name in files if name.endswith(".data/data/share/man/man1/cpufeat.1")}
    assert len(manual) == 1
    assert {name for name in files if ".dist-info/" not in name} == package | data | manual
    assert {"cpufeat/py.typed", "cpufeat/data/x86/features.tsv"} < package | data
    assert {name.partition("/")[0] for name in files} == {
        *("cpufeat", f"cpufeat-{cpufeat.__version__}.data", f"cpufeat-{cpufeat.__version__}.dist-info")
    }


def test_the_wheel_is_light(built: Path) -> None:
    assert only(built, "*.whl").stat().st_size < 1_000_000


def test_the_sdist_holds_what_tests_and_readers_need(tree: Path, built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("benchmarks", "cpufeat", "data", "docs", "examples", "tests", "tools")
    wanted = {path.relative_to(tree) for folder in folders for path in (tree / folder).rglob("*") if path.is_file()}
    assert {"LICENSE", "README.md", "pyproject.toml", ".ci/run", *map(str, wanted)} <= names


def metadata_of(built: Path) -> Message:
    """The metadata of the wheel in a folder."""
    files = contents(only(built, "*.whl"))
    return message_from_bytes(next(content for name, content in files.items() if name.endswith("/METADATA")))


def test_the_metadata_has_version_license_and_requirements(built: Path) -> None:
    metadata = metadata_of(built)
    required = {name for name in metadata.get_all("Requires-Dist", []) if "extra ==" not in name}
    assert metadata["Version"] == cpufeat.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert required == set()
    assert set(metadata.get_all("Provides-Extra", [])) == {"all", "aot", "audit", "c", "cli", "compat", "docs", "test"}
