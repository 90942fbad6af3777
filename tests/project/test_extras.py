"""Optional packages: each is loaded in one way, belongs to an extra, and what lacks it says what to install."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.paths import PROJECT

import cpufeat
from cpufeat import MissingExtraError, aot
from cpufeat.support.extras import extra, origin

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(cpufeat.__file__).parent
PROVIDERS = packages_distributions()


def extras() -> dict[str, set[str]]:
    """The names of the distributions of each extra that users install, from pyproject.toml."""
    text = (PROJECT / "pyproject.toml").read_text()
    table = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    lines = re.findall(r"^(\w+) = \[(.*?)\]", table, re.MULTILINE)
    return {name: {re.split(r"[>=<]", each)[0] for each in re.findall(r'"(.*?)"', listed)} for name, listed in lines}


def optional_imports(tree: ast.Module) -> Iterator[tuple[str, int, str | None]]:
    """Each package that is neither our own nor Python's, the line, and the extra in whose context it is imported."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            first = node.names[0].name if isinstance(node, ast.Import) else str(node.module)
            package = first.partition(".")[0]
            if package not in {"cpufeat", *sys.stdlib_module_names}:
                yield package, node.lineno, context_of(node)


def context_of(node: ast.AST) -> str | None:
    """The argument of the nearest ``with extra(...)`` around a statement; ``TYPE_CHECKING`` where only that is."""
    while not isinstance(node, ast.Module):
        node = node.parent  # type: ignore[attr-defined]
        if isinstance(node, ast.With) and (match := re.fullmatch(r"extra\('(\w+)'\)", ast.unparse(node.items[0]))):
            return match[1]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return "TYPE_CHECKING"
    return None


def test_every_import_of_an_optional_package_names_an_extra_that_installs_it() -> None:
    packages_of = extras()
    found, wrong = set(), []
    for path in sorted(set(PACKAGE.rglob("*.py")) - {*(PACKAGE / "__pyinstaller").rglob("*.py")}):  # run by PyInstaller
        for package, line, context in optional_imports(ast.parse(path.read_text(encoding="utf-8"))):
            found.add(package)
            if context != "TYPE_CHECKING" and packages_of.get(context or "", set()).isdisjoint(PROVIDERS[package]):
                wrong.append(f"{path.relative_to(PROJECT)}:{line} imports {package} for the extra {context}")
    assert found >= {"capstone", "cpuinfo", "iced_x86", "lief", "llvmlite", "rich"}
    assert wrong == []


def test_every_package_of_an_extra_is_used() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    used = re.findall(r"(?:import|from|origin\(\") ?(\w+)", sources)
    provided = {name for package in set(used) & PROVIDERS.keys() for name in PROVIDERS[package]}
    packages = {name for extra, names in extras().items() if extra not in ("all", "docs", "test") for name in names}
    assert packages - provided == set()
    assert "rich" in packages


def test_what_an_extra_lacks_is_an_import_error_of_cpufeat_that_says_how_to_install_it() -> None:
    message = r"^No module named 'no_such': pip install 'cpufeat\[audit\]'$"
    with pytest.raises(MissingExtraError, match=message) as info, extra("audit"):
        import no_such  # type: ignore[import-not-found]  # noqa: F401
    assert isinstance(info.value, ImportError)
    assert isinstance(info.value, cpufeat.CpufeatError)
    assert info.value.extra == "audit"
    with pytest.raises(MissingExtraError, match=r"^no_such is not installed: pip install 'cpufeat\[c\]'$"):
        origin("no_such", "c")


WITHOUT = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
import cpufeat.cli
sys.exit(cpufeat.cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of IR, a C file, objects of them, and an archive."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "one.ll").write_text("define i32 @one() { ret i32 1 }\n")
    (folder / "one.c").write_text("int one(void) { return 1; }\n")
    for arch, triple in (("x86-64", "x86_64-unknown-linux-gnu"), ("armv8-a", "aarch64-unknown-linux-gnu")):
        aot.compile(str(folder / "one.ll"), cpufeat.Target.parse(arch, triple)).save(folder / f"{triple[:3]}.o")
    content = (folder / "x86.o").read_bytes()
    header = f"{'one.o/':16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n"
    (folder / "one.a").write_bytes(b"!<arch>\n" + header.encode() + content)
    return folder


@pytest.mark.parametrize(
    ("hidden", "arguments", "needed"),
    [
        ({"llvmlite"}, ["compile", "one.ll", "-o", "one.o"], "aot"),
        ({"iced_x86"}, ["audit", "x86.o"], "audit"),
        ({"iced_x86"}, ["check", "x86.o", "--cpu", "haswell"], "audit"),
        ({"ziglang"}, ["compile", "one.c", "-o", "one.o"], "c"),
        ({"ziglang"}, ["compile", "one.ll", "-o", "one.exe", "--triple", "x86_64-windows-gnu"], "c"),
    ],
)
def test_the_command_line_names_the_missing_extra_in_one_line(
    hidden: set[str], arguments: list[str], needed: str, folder: Path
) -> None:
    done = command(hidden, arguments, folder)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(rf"cpufeat: .*: pip install 'cpufeat\[{needed}\]'\n", done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [["explain"], ["target", "x86-64-v3"], ["identify", str(PROJECT / "data/machines/qemu-haswell.json")], ["--help"]],
)
def test_the_core_needs_no_package(arguments: list[str], folder: Path) -> None:
    every = {"capstone", "cpuinfo", "iced_x86", "lief", "llvmlite", "rich", "ziglang"}
    done = command(every, arguments, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def command(hidden: set[str], arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line where some packages cannot be imported."""
    program = f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n{WITHOUT.format(hidden=hidden)}"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_user_of_a_frozen_application_is_not_told_to_use_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    error = MissingExtraError("audit", "lief is not installed")
    assert str(error) == "lief is not installed: this application was built without 'cpufeat[audit]'"
