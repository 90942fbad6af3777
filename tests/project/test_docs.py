"""Documents say what the tables and the code say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from helpers.paths import PROJECT


def test_the_pages_of_features_say_what_the_tables_say() -> None:
    command = [sys.executable, PROJECT / "tools" / "feature_docs.py", "--check"]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


def test_every_environment_variable_that_is_read_is_in_the_readme_and_the_help() -> None:
    variable = re.compile(r"CPUFEAT_[A-Z_]+")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (PROJECT / "cpufeat").rglob("*.py")]
    texts = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    read = {text for text in texts if isinstance(text, str) and variable.fullmatch(text)}
    help_ = subprocess.check_output([sys.executable, "-m", "cpufeat", "--help"], cwd=PROJECT, text=True)
    table = re.findall(r"^\| `(CPUFEAT_[A-Z_]+)` \|", (PROJECT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert "CPUFEAT_TARGET" in read
    assert set(table) == read
    assert set(variable.findall(help_.partition("environment:")[2])) == read
