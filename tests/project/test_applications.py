"""cpufeat inside of applications: from a zip archive, frozen, embedded, and by a Python with little around it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers.paths import PROJECT
from helpers.requirements import tool, unavailable

import cpufeat

ANSWERS = """
import sys
print("the application runs")
import cpufeat
print(cpufeat.target_for_host().cpu)
"""
COMPILES = """
from cpufeat import aot
for isolation in ("process", "none"):
    print(isolation, aot.compile("define i32 @f() { ret i32 7 }", "x86-64-v3", isolation=isolation).variants[0].used)
"""
HEAD = f"the application runs\n{cpufeat.target_for_host().cpu}\n"
COMPILED = "process FeatureSet('x86_64', [])\nnone FeatureSet('x86_64', [])\n"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CPUFEAT", "PYTHON"))}
ENVIRONMENT["CPUFEAT_CACHE"] = "0"


def output(*command: str | Path, **variables: str) -> str:
    """What an application prints, which must end with 0 and write no error."""
    done = subprocess.run(
        command, env={**ENVIRONMENT, **variables}, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip archive made by zipapp, laid out as pip installs the wheel, that runs what it is given."""
    folder = tmp_path_factory.mktemp("zip")
    content = folder / "content"
    shutil.copytree(PROJECT / "cpufeat", content / "cpufeat", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "data", content / "cpufeat" / "data")
    (content / "__main__.py").write_text("import sys\nexec(sys.argv.pop(1))\n")
    output(sys.executable, "-m", "zipapp", content, "-o", folder / "application.pyz")
    shutil.rmtree(content)
    return folder / "application.pyz"


@pytest.mark.parametrize("options", [["-I", "-S"], ["-O"], ["-OO", "-I"]], ids=" ".join)
def test_from_a_zip_archive_the_core_answers(options: list[str], archive: Path) -> None:
    assert output(sys.executable, *options, archive, ANSWERS) == HEAD
    explained = output(sys.executable, *options, archive, "from cpufeat.cli import main; main()", "explain")
    assert explained.startswith(output(sys.executable, "-m", "cpufeat", "explain", PYTHONPATH=str(PROJECT)))
    every_llvm = "from cpufeat import llvm_tables; print(llvm_tables.versions('aarch64'))"
    assert output(sys.executable, *options, archive, every_llvm) == f"{cpufeat.llvm_tables.versions('aarch64')}\n"


def test_from_a_zip_archive_code_is_compiled(archive: Path) -> None:
    assert output(sys.executable, archive, ANSWERS + COMPILES) == HEAD + COMPILED


@pytest.mark.parametrize("options", [["-I"], ["-S"], ["-O"], ["-I", "-S", "-OO"]], ids=" ".join)
def test_a_python_with_little_around_it_answers_and_compiles(options: list[str]) -> None:
    """``-S`` and ``-I`` leave out the folder of packages, which the program adds itself."""
    paths = [str(PROJECT), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    code = f"import sys; sys.path += {paths!r}\n{ANSWERS}{COMPILES}"
    assert output(sys.executable, *options, "-c", code) == HEAD + COMPILED


def test_a_frozen_application_answers_and_compiles_in_a_worker(tmp_path: Path) -> None:
    """The worker is the application, started so that it does not run: the first line is printed once."""
    if not importlib.util.find_spec("PyInstaller"):
        unavailable("PyInstaller", "pip install pyinstaller")
    tool("objdump")  # PyInstaller reads libraries with it
    (tmp_path / "application.py").write_text(ANSWERS + COMPILES)
    options = ["--log-level", "ERROR", "--additional-hooks-dir", str(PROJECT / "cpufeat" / "__pyinstaller")]
    for name in ("archspec", "hypothesis", "numpy", "pytest", "rich", "ziglang"):
        options += ["--exclude-module", name]
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", *options, "application.py"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": str(PROJECT), "PYINSTALLER_CONFIG_DIR": str(tmp_path / "config")},
        check=True,
        timeout=600,
    )
    assert output(tmp_path / "dist" / "application" / "application") == HEAD + COMPILED


EMBEDDING = r"""
#include <Python.h>
int main(int argc, char **argv) {
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    if (PyStatus_Exception(PyConfig_SetBytesString(&config, &config.executable, argv[0]))) return 3;
    if (PyStatus_Exception(Py_InitializeFromConfig(&config))) return 4;
    PyConfig_Clear(&config);
    if (PyRun_SimpleString(argv[1])) return 5;
    return Py_FinalizeEx() ? 6 : 0;
}
"""


def test_a_c_program_with_python_in_it_answers_and_compiles(compiler: str, tmp_path: Path) -> None:
    """``sys.executable`` is that program: the worker is the interpreter of the same installation."""
    config = Path(sys.base_exec_prefix, "bin", f"python{sysconfig.get_python_version()}-config")
    if not config.exists():
        unavailable(str(config), "apt-get install python3-dev")
    flags = output(config, "--includes", "--ldflags", "--embed").split()
    (tmp_path / "application.c").write_text(EMBEDDING)
    application = tmp_path / "application"
    library = f"-Wl,-rpath,{sysconfig.get_config_var('LIBDIR')}"
    subprocess.run([compiler, tmp_path / "application.c", "-o", application, *flags, library], check=True)
    paths = [str(PROJECT), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    code = f"import sys; sys.path += {paths!r}\nassert sys.executable == {str(application)!r}\n{ANSWERS}{COMPILES}"
    assert output(application, code) == HEAD + COMPILED
