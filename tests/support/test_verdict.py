"""The four answers to "will it run there?": their order, and their exit statuses."""

from __future__ import annotations

import itertools

import pytest

from cpufeat.support.verdict import CANNOT_TELL, EXIT_STATUS, MAY_NOT_RUN, RUNS, WILL_NOT_RUN, worst

FROM_WORST = ["will not run", "may not run", "cannot tell", "runs"]


def test_the_worst_of_several_answers_counts_in_any_order() -> None:
    for first, second in itertools.combinations(FROM_WORST, 2):
        assert worst([second, first, second]) == worst([first, second]) == first
    assert [worst([verdict]) for verdict in FROM_WORST] == FROM_WORST


def test_no_answer_at_all_is_not_fine() -> None:
    with pytest.raises(ValueError, match="empty"):
        worst([])


def test_each_answer_has_an_exit_status_and_only_one_of_them_is_success() -> None:
    assert set(EXIT_STATUS) == set(FROM_WORST)
    assert [EXIT_STATUS[verdict] for verdict in (RUNS, MAY_NOT_RUN, WILL_NOT_RUN, CANNOT_TELL)] == [0, 1, 1, 3]
