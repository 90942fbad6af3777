"""Which blocks of small control-flow graphs cannot be avoided, whatever the tests answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import assemble

from cpufeat.auditing.dataflow.unavoidable_blocks import Place, ReachabilityGame
from cpufeat.auditing.formats.loader import images
from cpufeat.auditing.lifting import x86
from cpufeat.auditing.program.cfg import ControlFlowGraph
from cpufeat.auditing.program.functions import Program

if TYPE_CHECKING:
    from pathlib import Path

DIAMOND = "test %edi, %edi\njz 1f\nnop\njmp 2f\n1: nop\n2: ret"
"""Blocks: 0 branches to 1 or 2, which both lead to 3."""


def graph(text: str, folder: Path) -> ControlFlowGraph:
    (image,) = images(assemble(folder, f".globl f\n.type f, @function\nf: {text}\n.size f, .-f\n"))
    (function,) = image.functions
    return ControlFlowGraph(Program(image, x86).steps(function), [function.start], lambda step: ())


@pytest.mark.parametrize(
    ("tests", "targets", "unavoidable"),
    [
        (set(), {1}, True),
        ({0}, {1}, False),
        ({0}, {2}, False),
        ({0}, {1, 2}, True),
        ({0}, {0}, True),
        ({0}, {3}, True),
        ({0}, {(0, 1)}, False),
        (set(), {(0, 1)}, True),
        ({0}, set(), False),
    ],
)
def test_one_side_of_a_test_can_be_avoided_and_no_side_of_a_plain_branch(
    tests: set[int], targets: set[Place], unavoidable: bool, tmp_path: Path
) -> None:
    game = ReachabilityGame(graph(DIAMOND, tmp_path), tests, 0)
    assert game.cannot_avoid(targets) is unavoidable


@pytest.mark.parametrize(("absent", "unavoidable"), [({}, [0, 3]), ({0: 1}, [0, 1, 3]), ({0: 2}, [0, 2, 3])])
def test_the_side_for_cpus_without_the_features_cannot_be_avoided(
    absent: dict[int, int], unavoidable: list[int], tmp_path: Path
) -> None:
    """A test of bits of features: a CPU without any of them takes that side, so what is there needs no feature."""
    game = ReachabilityGame(graph(DIAMOND, tmp_path), {0}, 0, absent)
    assert [index for index in range(4) if game.is_unavoidable(index)] == unavoidable


def test_a_minimal_set_of_places_that_cannot_all_be_avoided_is_exposed(tmp_path: Path) -> None:
    game = ReachabilityGame(graph(DIAMOND, tmp_path), {0}, 0)
    assert game.exposed({1}) == set()
    assert game.exposed({1, 2}) == {1, 2}
    assert game.exposed({1, 3}) == {3}


def test_code_that_nothing_leads_to_counts_as_entered(tmp_path: Path) -> None:
    """A landing pad: only unwind tables lead to it."""
    game = ReachabilityGame(graph("ret\ncall g\nret", tmp_path), set(), 0)
    assert game.is_unavoidable(1)


def test_padding_that_nothing_leads_to_does_not_count_as_entered(tmp_path: Path) -> None:
    game = ReachabilityGame(graph("ret\nnop\nnop", tmp_path), set(), 0)
    assert not game.is_unavoidable(1)


def test_an_endless_game_counts_everything_as_unavoidable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpufeat.auditing.dataflow.unavoidable_blocks._MAX_MOVES", 0)
    assert ReachabilityGame(graph(DIAMOND, tmp_path), {0}, 0).is_unavoidable(1)
