"""Public names are loaded when they are first used: what type checkers see and what Python loads is one list."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


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
        assert getattr(package, name) is getattr(importlib.import_module(module), name)
    assert package._HOME.keys() <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no_such_name'"):
        _ = package.no_such_name


def test_a_name_is_loaded_on_first_use() -> None:
    code = "import sys, cpufeat; before = len(sys.modules); cpufeat.Target; print(before < len(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
