"""A pytest plugin: a test that passes without having checked anything fails.

Such a test loops over a table that is empty, or compares where nothing is left to compare. What counts is an ``assert``
that was reached, here or in a helper, in any thread, and ``pytest.raises`` or ``pytest.warns``; what fixtures assert
does not. It depends on ``enable_assertion_pass_hook`` in pyproject.toml.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.assertion import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

NOTHING_CHECKED = (
    "passed without checking anything: no assert, pytest.raises or pytest.warns was reached. Is a table empty? "
    "(Byte code of tests from before this check knows nothing of it: delete their __pycache__ folders.)"
)
_checks = 0


def _counting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def counted(*arguments: Any, **options: Any) -> Any:
        _count()
        return function(*arguments, **options)

    return counted


def pytest_configure() -> None:
    """Count assertions, and the contexts that fail by themselves when nothing is raised or warned of.

    pytest asks a function of its own whether somebody wants to be told that an assertion held, and if so, puts into
    words what was compared, which can take longer than the test. To count, the question is enough.
    """
    if hasattr(rewrite, "_check_if_assertion_pass_impl"):
        rewrite._check_if_assertion_pass_impl = _count
    for name in ("raises", "warns", "deprecated_call"):
        setattr(pytest, name, _counting(getattr(pytest, name)))


def _count() -> bool:
    global _checks  # noqa: PLW0603 -- one test runs at a time
    _checks += 1
    return False


def pytest_assertion_pass() -> None:
    """Count an assertion that held, with a pytest that lacks the function above."""
    _count()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Run the test, and fail it where nothing was counted."""
    before = _checks
    result = yield
    if _checks == before:
        pytest.fail(NOTHING_CHECKED, pytrace=False)
    return result
