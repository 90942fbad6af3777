"""Every verb fits its output to the terminal."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers.command_line import HASWELL, NEHALEM, cpufeat, on_terminal

from cpufeat import aot
from cpufeat.cli.layout import folded, labelled, lay_out, row, section_heading
from cpufeat.cli.parser import VERBS
from cpufeat.running.verify import Run

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.cli.layout import Block

WIDTHS = (40, 60, 80, 120)
SUM = "define <8 x float> @sum(<8 x float> %a) { %b = fadd <8 x float> %a, %a ret <8 x float> %b }"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("width")
    (folder / "sum.ll").write_text(SUM)
    aot.compile(folder / "sum.ll", "x86-64-v3").save(folder / "sum.o")
    return folder / "sum.o"


def too_wide(text: str, width: int) -> list[str]:
    """Return the lines that are wider, but for single words, which are not broken: paths and the like."""
    return [line for line in text.splitlines() if len(line) > width and " " in line.strip()]


def words(text: str) -> list[str]:
    return text.split()


def in_one_line(text: str) -> str:
    """Return the text without spaces, since long words are broken."""
    return "".join(words(text))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("arguments", [["explain", "--machine", HASWELL], ["explain", "zen4", "--machine", NEHALEM]])
def test_explain_fits(arguments: list[str], width: int) -> None:
    shown, wide = cpufeat(*arguments, COLUMNS=str(width)).stdout, cpufeat(*arguments, COLUMNS="100").stdout
    assert too_wide(shown, width) == []
    assert in_one_line(shown) == in_one_line(wide)
    assert on_terminal(*arguments, columns=width, variables={"NO_COLOR": "1"}) == shown


def test_the_width_has_limits_and_is_80_in_a_pipe() -> None:
    pages = {
        width: cpufeat("explain", "--machine", HASWELL, COLUMNS=width).stdout for width in ("1", "40", "100", "999")
    }
    assert pages["1"] == pages["40"]
    assert pages["100"] == pages["999"]
    assert 80 < max(map(len, pages["100"].splitlines())) <= 100
    piped = cpufeat("explain", "--machine", HASWELL).stdout
    assert piped == cpufeat("explain", "--machine", HASWELL, COLUMNS="80").stdout
    assert piped == cpufeat("explain", "--machine", HASWELL, COLUMNS="wide").stdout


@pytest.mark.parametrize("width", WIDTHS)
def test_audit_and_check_fit(built: Path, width: int) -> None:
    for arguments, status in ((["audit", str(built)], 0), (["check", str(built), "--machine", NEHALEM], 1)):
        shown = cpufeat(*arguments, COLUMNS=str(width))
        assert shown.returncode == status
        assert too_wide(shown.stdout, width) == []
        assert in_one_line(shown.stdout) == in_one_line(cpufeat(*arguments, COLUMNS="100").stdout)
        assert on_terminal(*arguments, columns=width, status=status, variables={"NO_COLOR": "1"}) == shown.stdout


@pytest.mark.parametrize("width", WIDTHS)
def test_verify_fits(width: int) -> None:
    from cpufeat.cli.verbs import verify

    runs = [
        Run("Haswell-noTSX", "x86-64-v3", "", "right", status=0, variants=("x86-64-v3",), seconds=0.5),
        Run("Skylake-Client,-avx2,-bmi2,-fma", "x86-64-v2", "", "died", "Illegal instruction " * 9, signal="SIGILL"),
    ]
    blocks = [verify._head, *(block for run in runs for block in verify._page(run))]
    text = "\n".join("".join(piece for piece, _ in line) for line in lay_out(blocks, width))
    assert too_wide(text, width) == []
    assert {"Haswell-noTSX", "SIGILL", "0.50"} <= set(re.split(r"[\s:,]+", text))
    assert ("seconds" in text.splitlines()[0]) is (width >= 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_identify_prints_a_line_for_a_file_and_a_terminal_wraps_it(width: int, tmp_path: Path) -> None:
    name = tmp_path / "a rather long name of a machine that somebody recorded.json"
    shutil.copy(HASWELL, name)
    shown = on_terminal("identify", str(name), HASWELL, columns=width)
    assert too_wide(shown, width) == []
    piped = cpufeat("identify", str(name), HASWELL, COLUMNS=str(width)).stdout
    assert piped.count("\n") == 2
    assert words(piped) == words(shown)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits(verb: str, width: int) -> None:
    shown = cpufeat("help", *([verb] if verb else []), COLUMNS=str(width)).stdout
    assert too_wide(shown, min(width, 100)) == []


@pytest.mark.parametrize(
    "block",
    [
        row("label", "some words " * 20, "", "and evidence"),
        row("a label that is longer than its column", "text", "", "evidence " * 10),
        labelled("a label that is longer than its column", ("words " * 30, ""), ("more", "note"), indent=4),
        section_heading("A title of some length " * 3, "and a note " * 4),
        folded(("file", "name"), (": does this " * 20, "")),
    ],
)
def test_a_block_loses_no_word_and_never_joins_two(block: Block) -> None:
    texts = {
        width: "\n".join("".join(piece for piece, _ in line) for line in lay_out([block], width))
        for width in (40, 60, 99)
    }
    assert all(max(map(len, text.splitlines())) <= width for width, text in texts.items())
    assert len({tuple(words(text)) for text in texts.values()}) == 1
