"""Help, and what is said to somebody who mistyped."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.command_line import ENVIRONMENT, ESCAPE, cpufeat
from helpers.paths import PROJECT
from helpers.requirements import tool

from cpufeat import __version__
from cpufeat.cli import options, verbs
from cpufeat.cli.parser import EXAMPLES, STATUSES, VERBS, parser_for
from cpufeat.support.verdict import EXIT_STATUS

if TYPE_CHECKING:
    from collections.abc import Callable

SWEEP = (
    "--nonsense",
    "-",
    "--",
    "",
    "\udcff",
    "nonsense",
    "--machine",
    "--json=3",
    "--llvm=x",
    "+",
    "-h=1",
    "--color=no",
)


def test_without_a_verb_the_help_is_printed_with_every_verb() -> None:
    pages = [cpufeat(*arguments) for arguments in ((), ("--help",), ("help",))]
    assert [page.returncode for page in pages] == [0, 0, 0]
    assert len({page.stdout for page in pages}) == 1
    assert all(re.search(rf"^    {verb} ", pages[0].stdout, re.M) for verb in VERBS)


def test_the_table_of_verbs_has_every_module_in_the_folder_of_verbs() -> None:
    assert VERBS.keys() == {path.stem for path in Path(verbs.__path__[0]).glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_page_that_begins_with_a_short_line(verb: str) -> None:
    asked, helped = cpufeat(verb, "--help", COLUMNS="200"), cpufeat("help", verb, COLUMNS="200")
    assert (asked.returncode, helped.returncode) == (0, 0)
    assert asked.stdout == helped.stdout
    first, empty, summary = asked.stdout.splitlines()[:3]
    assert first.startswith(f"usage: cpufeat {verb} ")
    assert len(first) <= 70
    assert empty == ""
    assert summary.lower() == f"{VERBS[verb]}.".lower()


def test_the_usage_names_the_arguments_that_are_required() -> None:
    usage = cpufeat("help", "compile").stdout.splitlines()[0]
    assert usage == "usage: cpufeat compile [OPTION ...] FILE -o OUT [-- ARGUMENT ...]"


def test_the_version_is_printed() -> None:
    assert cpufeat("--version").stdout == f"cpufeat {__version__}\n"


def test_the_help_explains_every_exit_status() -> None:
    told = cpufeat("help").stdout.partition("exit status:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\d)  ", told, re.M) == list(STATUSES) == ["0", "1", "2", "3"]
    assert [str(status) for status in (options.OK, options.NO, options.BAD, options.UNKNOWN)] == list(STATUSES)
    assert set(EXIT_STATUS.values()) == {options.OK, options.NO, options.UNKNOWN}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explian"], "unknown verb 'explian'; did you mean explain? (see cpufeat help)"),
        (["--color", "never", "verfiy", "x"], "unknown verb 'verfiy'; did you mean verify? (see cpufeat help)"),
        (["help", "tagret"], "unknown verb 'tagret'; did you mean target? (see cpufeat help)"),
        (["xyzzy"], "unknown verb 'xyzzy' (see cpufeat help)"),
        ([""], "unknown verb '' (see cpufeat help)"),
        (["target", "--jsn"], "unknown option '--jsn'; did you mean --json? (see cpufeat help target)"),
        (["--vrsion"], "unknown option '--vrsion'; did you mean --version? (see cpufeat help)"),
        (["target", "native", "zen"], "unexpected argument 'zen' (see cpufeat help target)"),
    ],
)
def test_a_mistyped_word_gets_one_line_with_a_tip(arguments: list[str], says: str) -> None:
    done = cpufeat(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cpufeat: {says}\n")


@pytest.mark.parametrize("verb", VERBS)
def test_nonsense_never_ends_in_a_traceback(verb: str, tmp_path: Path) -> None:
    """In one process for each verb; the statuses 0 and 1 are for verbs that take a word such as "nonsense"."""
    code = f"""
import contextlib, io, os, sys
from cpufeat.cli import main
os.chdir({str(tmp_path)!r})
for words in ([], *([word] for word in {SWEEP!r}), *([one, two] for one in {SWEEP!r} for two in {SWEEP!r})):
    error, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(output):
        try:
            status = main([{verb!r}, *words])
        except SystemExit as stopped:
            status = stopped.code
    assert status in (0, 1, 2), (words, status)
    said = error.getvalue() + output.getvalue()
    assert status != 2 or "cpufeat: " in said or ": error: " in said, (words, said)
"""
    done = cpufeat(code=("-c", code))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_option_color_rules_over_the_environment() -> None:
    pytest.importorskip("rich")
    for before_verb in (True, False):
        for colour, variables, expected in (
            ("always", {}, True), ("always", {"NO_COLOR": "1"}, True), ("never", {"FORCE_COLOR": "1"}, False),
            ("auto", {}, False), ("auto", {"FORCE_COLOR": "1"}, True),
        ):  # fmt: skip
            words = ["explain", "--color", colour]
            done = cpufeat(*(words[1:] + words[:1] if before_verb else words), **variables)  # type: ignore[arg-type]
            assert done.returncode == 0
            assert (ESCAPE in done.stdout) is expected, (words, variables)


@pytest.mark.parametrize(("colour", "is_wanted"), [("always", True), ("never", False), ("auto", False)])
def test_the_help_is_in_colour_from_python_3_14_on_where_that_is_wanted(
    colour: str, is_wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """argparse of Python 3.14 reads the attribute ``color``; older ones have no colour."""
    pytest.importorskip("rich")
    monkeypatch.setattr("cpufeat.cli.terminal._colour", colour)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    parser = parser_for("explain")
    text = parser.format_help()
    assert parser.color is is_wanted
    printed = cpufeat("--color", colour, "help", "explain")
    assert (printed.returncode, printed.stderr) == (0, "")
    for shown in (text, printed.stdout):
        assert (ESCAPE in shown) is (is_wanted and sys.version_info >= (3, 14))


def test_colour_without_rich_is_refused_where_it_was_asked_for() -> None:
    without = "import sys; sys.modules['rich'] = None; from cpufeat.cli import main; sys.exit(main())"
    done = cpufeat("explain", "--color", "always", code=("-c", without))
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'cpufeat[cli]'" in done.stderr


def llc_of_the_help() -> str:
    """The version in the example is that of Debian 12's llc; another llc is asked for its own."""
    version = re.search(r"LLVM version (\d+)", subprocess.check_output([tool("llc"), "--version"], text=True))[1]
    example = next(example for example in EXAMPLES if example.startswith("llc ")).replace("\n", "")
    return example.replace("--llvm 14", f"--llvm {version}")


def llc_of_the_how_to() -> str:
    tool("llc")
    page = (PROJECT / "docs" / "how-to" / "build-systems.md").read_text(encoding="utf-8")
    return re.search(r"```sh\n(version=.*?)```", page, re.DOTALL)[1].replace("kernel.ll", "x.bc")


@pytest.mark.parametrize("example", [llc_of_the_help, llc_of_the_how_to])
def test_the_example_for_llc_draws_no_warning_from_it(example: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "x.bc").write_text("define i32 @f(i32 %a) { ret i32 %a }")
    command = example().replace("cpufeat ", "python -m cpufeat ")
    script = f'python() {{ "$PYTHON" "$@"; }}; {command}'
    done = subprocess.run(
        ["bash", "-euc", script],  # noqa: S607
        cwd=tmp_path, env={**ENVIRONMENT, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "f:" in (tmp_path / "x.s").read_text()
