"""How the modules depend on one another: downwards only, in folders of a size that can be looked through.

What counts is every import, also inside functions and for type checkers alone, and every string that names a module.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import cpufeat

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(cpufeat.__file__).parent
MODULES_IN_A_FOLDER = 12
"""At the most, besides ``__init__`` and ``__main__``."""

# What lies directly in cpufeat, from the ground up: each imports only from the lines above its own. Inside a folder
# any order will do that has no circle. A new module or folder is placed here.
LAYERS = """
errors
support
tables decisions binary_format
features triples
levels llvm_tables
cpus
detection
request
target
resolution
explanation auditing
aot
running
cli __pyinstaller
__init__
__main__
"""
HEIGHT = {unit: height for height, line in enumerate(LAYERS.strip().split("\n")) for unit in line.split()}


def dotted(path: Path) -> str:
    """The name of a module, ``cpufeat.aot.__init__`` for a package's own file, or of a folder."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FOLDERS = sorted({path.parent for path in MODULES.values()})


class Import(NamedTuple):
    """A line of a module that names another."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{MODULES[self.importer].relative_to(PACKAGE.parent)}:{self.line} imports {self.imported}"


# --- reading imports


def imports(module: str) -> Iterator[Import]:
    """Every import of other modules of the package in a module, in the order of its lines."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    lines = sorted(
        (line, name) for line, text in names(tree, dotted(MODULES[module].parent)) if (name := module_of(text))
    )
    return (Import(module, name, line) for line, name in lines if name != module)


def names(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """The line and the dotted name of whatever is imported, or named by a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.JoinedStr):
            pattern = "".join(part if (part := text_of(value, package)) else "*" for value in node.values)
            if re.fullmatch(r"cpufeat(\.[\w*]+)+", pattern):
                yield from ((node.lineno, name) for name in fnmatch.filter(MODULES, pattern))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_module(node.value):
            yield node.lineno, node.value


def text_of(part: ast.expr, package: str) -> str:
    """What is known of a part of an f-string such as ``f"cpufeat.cli.{verb}"`` or ``f"{__name__}.{family}"``."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    return package if isinstance(part, ast.FormattedValue) and ast.unparse(part.value) == "__name__" else ""


def module_of(text: str) -> str:
    """The module that a dotted name is of: itself, its package's ``__init__``, or the one that has the attribute."""
    while text and text not in MODULES:
        if f"{text}.__init__" in MODULES:
            return f"{text}.__init__"
        text = text.rpartition(".")[0]
    return text


def is_module(text: str) -> bool:
    """Whether a string is a module's name; strings say that of the whole package for other reasons too."""
    return text.startswith("cpufeat.") and module_of(text) in (text, f"{text}.__init__")


SEEN = {
    ("cpufeat.resolution", "cpufeat.target"),
    ("cpufeat.__init__", "cpufeat.resolution"),
    ("cpufeat.cli.parser", "cpufeat.cli.verbs.audit"),
    ("cpufeat.detection.detect", "cpufeat.detection.arch.x86"),
}
"""A plain import, and names in a string and in f-strings."""

IMPORTS = [import_ for module in MODULES for import_ in imports(module)]


# --- their direction


def arrows(folder: str) -> dict[tuple[str, str], Import]:
    """The first import from each module or folder that lies directly in a folder to each other one."""
    result: dict[tuple[str, str], Import] = {}
    for import_ in IMPORTS:
        if import_.importer.startswith(f"{folder}.") and import_.imported.startswith(f"{folder}."):
            units = [name.removeprefix(f"{folder}.").partition(".")[0] for name in import_[:2]]
            if units[0] != units[1]:
                result.setdefault((units[0], units[1]), import_)
    return result


def shortest_circle(arrows: dict[tuple[str, str], Import]) -> list[Import]:
    """The imports that lead from a module or folder back to itself; none where all point one way."""
    circles = []
    for start in sorted({importer for importer, _ in arrows}):
        paths, seen = deque([(start, list[Import]())]), set[str]()
        while paths:
            unit, path = paths.popleft()
            for (importer, imported), import_ in arrows.items():
                if importer == unit and imported == start:
                    circles.append([*path, import_])
                if importer == unit and imported not in seen:
                    seen.add(imported)
                    paths.append((imported, [*path, import_]))
    return min(circles, key=len, default=[])


def test_the_imports_that_are_known_to_be_there_are_seen() -> None:
    seen = {import_[:2] for import_ in IMPORTS}
    assert len(seen) > 400
    assert seen >= SEEN


def test_a_circle_is_found_with_its_imports() -> None:
    lines = [Import("a", "b", 1), Import("b", "c", 2), Import("c", "a", 3), Import("c", "d", 4), Import("a", "d", 5)]
    around = {(import_.importer, import_.imported): import_ for import_ in lines}
    assert shortest_circle(around) == lines[:3]
    del around["c", "a"]
    assert shortest_circle(around) == []


def test_every_module_has_a_layer() -> None:
    units = {path.stem for path in PACKAGE.glob("*.py")} | {path.name for path in FOLDERS if path.parent == PACKAGE}
    assert units - HEIGHT.keys() == set(), "new in cpufeat/: place it in LAYERS, below whatever imports it"
    assert HEIGHT.keys() - units == set(), "no longer in cpufeat/: take it out of LAYERS"


def test_imports_point_down() -> None:
    upward = [
        f"{import_}, but {imported} is not below {importer} in LAYERS"
        for (importer, imported), import_ in arrows("cpufeat").items()
        if HEIGHT[imported] >= HEIGHT[importer]
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("folder", FOLDERS, ids=dotted)
def test_no_imports_make_a_circle(folder: Path) -> None:
    circle = shortest_circle(arrows(dotted(folder)))
    assert not circle, "these imports make a circle:\n" + "\n".join(map(str, circle))


@pytest.mark.parametrize("folder", FOLDERS, ids=dotted)
def test_a_folder_holds_at_most_a_dozen_modules_and_says_what_it_is_for(folder: Path) -> None:
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    assert len(modules) <= MODULES_IN_A_FOLDER, f"{dotted(folder)} has {len(modules)} modules: divide it by idea"
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert docstring, f"{dotted(folder)} has no docstring that says what the folder is for"
