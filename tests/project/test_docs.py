"""The documents agree with the tables and with the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from helpers.paths import PROJECT
from helpers.requirements import tool

from cpufeat.aot import options
from cpufeat.aot.frontend import clang
from cpufeat.cli.parser import STATUSES, VARIABLES, VERBS, parser_of
from cpufeat.detection.dumps.text import MAX_LINES, MAX_PROCESSORS
from cpufeat.detection.machine import LARGEST_FILE
from cpufeat.support import files

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PACKAGE = PROJECT / "cpufeat"


def test_the_pages_of_features_equal_what_the_tables_generate() -> None:
    command = [sys.executable, str(PROJECT / "tools" / "feature_docs.py"), "--check"]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


def test_the_readme_and_the_help_name_every_environment_variable_that_is_read() -> None:
    variable = re.compile(r"CPUFEAT_[A-Z_]+")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    texts = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    variables = {text for text in texts if isinstance(text, str) and variable.fullmatch(text)}
    help_ = subprocess.check_output([sys.executable, "-m", "cpufeat", "--help"], cwd=PROJECT, text=True)
    rows = re.findall(r"^\| `(CPUFEAT_[A-Z_]+)` \|", README, re.MULTILINE)
    assert "CPUFEAT_TARGET" in variables
    assert set(rows) == variables
    assert set(variable.findall(help_.partition("environment:")[2])) == variables


def test_the_readme_lists_every_package_and_top_level_module() -> None:
    """Its tree indents a package below the one that contains it; modules stand in lines of their own."""
    lines = README.partition("```\ncpufeat/\n")[2].partition("\ndata/")[0].splitlines()
    packages, modules = set(), set()
    parents: list[str] = []
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        if name.endswith("/"):
            parents = [*parents[: depth - 1], name.rstrip("/")]
            packages.add("/".join(parents))
        else:
            modules |= {word for word in line.split() if word.endswith(".py")}
    on_disk = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")} - {"."}
    assert packages == on_disk
    assert modules == {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}


def test_every_file_that_a_document_links_to_exists() -> None:
    documents = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]
    links = [
        (document.name, link)
        for document in documents
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
        if "://" not in link and not (document.parent / link).exists()
    ]
    assert len(documents) > 20
    assert links == []


def test_the_limits_in_the_security_policy_are_those_of_the_code() -> None:
    policy = " ".join((PROJECT / "SECURITY.md").read_text(encoding="utf-8").split())
    assert f"at most {LARGEST_FILE >> 20} MiB, {MAX_LINES:,} lines and {MAX_PROCESSORS:,} processors" in policy
    assert f"at most {files.LARGEST >> 30} GiB" in policy
    assert f"by `time_limit` ({options.TIME_LIMIT:.0f} seconds" in policy
    assert f"which has a time limit of {clang.TIME_LIMIT:.0f} seconds" in policy


def test_every_path_in_the_guide_for_contributors_exists_and_defines_what_is_said_to_be_in_it() -> None:
    """A sentence such as "`VERBS` in `cpufeat/cli/parser.py`" says that the file contains the name."""
    guide = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:cpufeat|data|docs|tests|tools)/[\w/.-]*\w", guide)
    definitions = re.findall(r"`(\w+)`[^`]* in\s+`([\w/]+\.py)`", guide)
    assert [path for path in paths if "NAME" not in path and not (PROJECT / path).exists()] == []
    assert len(definitions) > 5
    assert [
        (name, path) for name, path in definitions if name not in (PROJECT / path).read_text(encoding="utf-8")
    ] == []


def test_the_manual_page_is_up_to_date_and_without_faults() -> None:
    command = [sys.executable, str(PROJECT / "tools" / "manual.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "python tools/manual.py writes it anew"
    page = str(PROJECT / "docs" / "cpufeat.1")
    for name, arguments in (
        ("groff", ["-ww", "-man", "-z", "-Tutf8"]),
        ("mandoc", ["-Tlint", "-Wwarning"]),
    ):
        done = subprocess.run([tool(name), *arguments, page], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_manual_page_explains_every_verb_and_option() -> None:
    page = (PROJECT / "docs" / "cpufeat.1").read_text(encoding="utf-8").replace("\\-", "-")
    for verb in VERBS:
        of_verb = page.partition(f'.SH "CPUFEAT {verb.upper()}"\n')[2].partition("\n.SH ")[0]
        options = [action.option_strings[-1] for action in parser_of(verb)._actions if action.option_strings]
        assert "--help" in options
        missing = [name for name in options if f".B {name}" not in of_verb and f", {name}" not in of_verb]
        assert set(missing) == {"--help", "--color"}
    assert all(f".TP\n.B {term}\n" in page for term in (*STATUSES, *VARIABLES))
