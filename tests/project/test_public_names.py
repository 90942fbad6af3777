"""The public API is one list: what is exported, shown, loaded when first used, and seen by type checkers."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import pydoc
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.environment import ENVIRONMENT
from helpers.paths import PROJECT

import cpufeat
from cpufeat import aot

if TYPE_CHECKING:
    from types import ModuleType

PACKAGES = [cpufeat, aot]


def imported_for_type_checkers(package: ModuleType) -> dict[str, str]:
    """Each name under ``if TYPE_CHECKING``, and the module that it comes from."""
    tree = ast.parse(Path(str(package.__file__)).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    names = {alias.name: str(node.module) for node in imports for alias in node.names}
    return {name: f"{module}.{name}" if module == package.__name__ else module for name, module in names.items()}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_type_checkers_and_python_load_the_same_names_from_the_same_modules(package: ModuleType) -> None:
    loaded, checked = package._HOME, imported_for_type_checkers(package)
    assert loaded == checked, (
        f"{package.__file__} names its public names twice, in _HOME and under TYPE_CHECKING; "
        f"these differ: {sorted(dict(loaded.items() ^ checked.items()))}"
    )
    assert len(loaded) > 5


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_that_of_its_module(package: ModuleType) -> None:
    for name, module in package._HOME.items():
        loaded = importlib.import_module(module)
        assert getattr(package, name) is (loaded if module == f"{package.__name__}.{name}" else getattr(loaded, name))
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no_such_name'"):
        _ = package.no_such_name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_public_api_is_one_list(package: ModuleType) -> None:
    assert sorted(package.__all__) == sorted(package._HOME) == [name for name in dir(package) if name in package._HOME]
    assert [name for name in dir(package) if name not in package.__all__ and not name.startswith("__")] == []
    starred: dict[str, object] = {}
    exec(f"from {package.__name__} import *", starred)  # noqa: S102
    assert starred.keys() - {"__builtins__"} == set(package.__all__)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_help_shows_every_public_name_with_its_docstring(package: ModuleType) -> None:
    shown = pydoc.plain(pydoc.render_doc(package))
    for name in package.__all__:
        value = getattr(package, name)
        assert re.search(rf"\b{name}\b", shown) or str(value) in shown, f"help({package.__name__}) lacks {name}"
        if callable(value):
            assert value.__doc__, name
            assert value.__doc__.strip().split("\n")[0] in shown, f"help({package.__name__}) does not document {name}"


def test_public_functions_and_methods_have_docstrings_and_annotations() -> None:
    for package in PACKAGES:
        for name in package.__all__:
            value = getattr(package, name)
            own = vars(value).items() if isinstance(value, type) else [(name, value)]
            for method, function in own:
                inner = getattr(function, "__func__", getattr(function, "fget", function))
                if inspect.isfunction(inner) and method[0] != "_":
                    assert inner.__doc__, f"{name}.{method} has no docstring"
                    parameters = set(inspect.signature(inner).parameters) - {"self", "cls"}
                    assert {*parameters, "return"} <= inner.__annotations__.keys(), f"{name}.{method} lacks annotations"


def body_of(public: type) -> list[ast.stmt]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(public))).body
    assert isinstance(definition, ast.ClassDef)
    return definition.body


def fields_of(public: type) -> dict[str, tuple[str, str]]:
    """The annotation and the docstring of each public field of a class."""
    body = body_of(public)
    fields: dict[str, tuple[str, str]] = {}
    for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target)[0] != "_":
            text = following.value if isinstance(following, ast.Expr) else None
            documentation = str(text.value) if isinstance(text, ast.Constant) else ""
            fields[ast.unparse(statement.target)] = ast.unparse(statement.annotation), documentation
    return fields


def public_classes() -> tuple[list[type], list[type]]:
    """The classes of the public API, and those that values of them are made of."""
    modules = [importlib.import_module(module) for package in PACKAGES for module in package._HOME.values()]
    modules += [importlib.import_module(f"cpufeat.{name}") for name in ("auditing.report", "support.conditions")]
    members = [member for module in modules for member in vars(module).values() if isinstance(member, type)]
    known = {member.__name__: member for member in members if member.__module__.startswith("cpufeat.")}
    public = [value for package in PACKAGES for value in map(package.__getattribute__, package.__all__)]
    classes = [value for value in public if isinstance(value, type)]
    reached = list(classes)
    for value in reached:
        words = {word for annotation, _ in fields_of(value).values() for word in re.findall(r"\w+", annotation)}
        reached += [known[word] for word in sorted(words & known.keys()) if known[word] not in reached]
    return classes, reached[len(classes) :]


def test_every_field_of_a_public_value_has_a_docstring() -> None:
    """Its own, or that of the same field in a base class."""
    classes, parts = public_classes()
    fields = [(value, name) for value in (*classes, *parts) for name in fields_of(value)]
    assert len(fields) > 100
    for value, name in fields:
        bases = [fields_of(base) for base in value.__mro__ if base.__module__.startswith("cpufeat.")]
        assert any(text for base in bases for field, (_, text) in base.items() if field == name), f"{value}.{name}"


def test_the_reference_lists_the_classes_that_public_values_are_made_of() -> None:
    page = (PROJECT / "docs" / "reference" / "python.md").read_text()
    listed = set(re.findall(r"autoclass:: cpufeat\.(\S+)", page))
    classes = {f"{value.__module__}.{value.__name__}".removeprefix("cpufeat.") for value in public_classes()[1]}
    assert classes == listed


def test_the_names_of_functions_are_not_those_of_modules() -> None:
    """Importing ``cpufeat.explain`` would put the module in the function's place."""
    for package in PACKAGES:
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert modules & set(package.__all__) == ({"aot"} if package is cpufeat else set())


def test_the_program_that_type_checkers_read_uses_every_public_name_and_runs() -> None:
    program = PROJECT / "tests" / "helpers" / "scripts" / "typed_program.py"
    used = set(re.findall(r"\b(?:cpufeat|aot)\.(\w+)", program.read_text()))
    assert {name for package in PACKAGES for name in package.__all__} - used == {"aot"}
    ran = subprocess.run([sys.executable, str(program)], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "module 'cpufeat' has no attribute 'nothing'" in ran.stdout


def test_a_name_is_loaded_on_first_use() -> None:
    code = "import sys, cpufeat; before = len(sys.modules); cpufeat.Target; print(before < len(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
