"""One deadline for several steps."""

from __future__ import annotations

import pytest

from cpufeat.support.deadline import Deadline


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns on, in seconds."""
    now = [100.0]
    monkeypatch.setattr("cpufeat.support.deadline.time.monotonic", lambda: now[0])
    return now


def test_the_time_that_is_left_runs_out(clock):
    limit = Deadline(10)
    clock[0] += 4
    assert limit.left() == 6
    assert (limit.half().left(), limit.half().seconds) == (3, 3)
    clock[0] += 7
    assert (limit.left(), limit.half().left(), limit.seconds) == (0, 0, 10)


def test_a_shorter_time_ends_first(clock):
    limit = Deadline(10)
    assert limit.within(60) is limit
    assert limit.within(5).left() == 5


def test_without_a_limit_there_is_always_time(clock):
    limit = Deadline(None)
    clock[0] += 1e9
    assert (limit.left(), limit.half().left(), limit.within(60).left()) == (None, None, 60)
    limit.stop(AssertionError)(1, 2)


def test_work_that_reports_its_progress_is_stopped(clock):
    progress = Deadline(10).stop(lambda: TimeoutError("enough"))
    progress(1, 2)
    clock[0] += 11
    with pytest.raises(TimeoutError, match="enough"):
        progress(1, 2)
