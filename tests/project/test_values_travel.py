"""Values and errors are copied, pickled and sent between processes, and arrive as they were."""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import multiprocessing
import pickle
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from helpers import travellers
from helpers.travellers import ERRORS

import cpufeat
from cpufeat import aot
from cpufeat.features import FeatureSet
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 60
"""To wait for a worker process at the most: what cannot be unpickled hangs a pool for ever."""
STARTED_BY = ("spawn", "fork")


def pickled(value: Any, version: int = pickle.DEFAULT_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, version))  # noqa: S301 - our own


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {version}": functools.partial(pickled, version=version)
        for version in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def contents(value: object) -> Iterator[object]:
    """A value, and all values in it."""
    yield value
    if isinstance(value, Value):
        yield from (each for field in value._values().values() for each in contents(field))
    elif isinstance(value, dict):
        yield from (each for content in value.values() for each in contents(content))
    elif isinstance(value, (list, tuple)):
        yield from (each for content in value for each in contents(content))


class Known(NamedTuple):
    """The classes of values that cpufeat defines, and the public functions and classes."""

    values: dict[str, type]
    public: list[object]


@pytest.fixture(scope="module")
def known() -> Known:
    classes: dict[str, type] = {"FeatureSet": FeatureSet}
    for name in travellers.modules():
        for each in vars(sys.modules[name]).values():
            if isinstance(each, type) and issubclass(each, (Value, tuple)) and each.__module__.startswith("cpufeat."):
                classes[each.__name__] = each
    public = [getattr(package, name) for package in (cpufeat, aot) for name in package._HOME]
    return Known(classes, [each for each in public if callable(each)])


@pytest.fixture(scope="module")
def values() -> list[object]:
    return travellers.values()


def named(annotations: dict[str, Any], classes: dict[str, type]) -> set[type]:
    words = {word for text in annotations.values() for word in re.findall(r"\w+", str(text))}
    return {each for name, each in classes.items() if name in words}


def returned(function: object, classes: dict[str, type]) -> set[type]:
    annotations = getattr(function, "__annotations__", {})
    return named({"return": annotations.get("return", "")}, classes)


def public_values(known: Known) -> set[type]:
    """The classes of values that a user gets: what public functions return, and what that contains."""
    values: set[type] = set()
    waiting = {each for each in known.public if isinstance(each, type) and each in known.values.values()}
    waiting |= {each for function in known.public for each in returned(function, known.values)}
    while waiting:
        each = waiting.pop()
        values.add(each)
        properties = [member.fget for member in vars(each).values() if isinstance(member, property)]
        methods = [member for name, member in vars(each).items() if name[0] != "_" and callable(member)]
        inside = named(getattr(each, "__annotations__", {}), known.values)
        inside |= {result for member in (*properties, *methods) for result in returned(member, known.values)}
        waiting |= inside - values
    return values


def test_there_is_an_example_of_every_public_value(known: Known, values: list[object]) -> None:
    shown = {type(each) for each in contents(values)}
    missing = {each.__name__ for each in public_values(known) - shown}
    assert missing == set(), f"helpers/travellers.py has no example of {missing}"
    assert len(shown & public_values(known)) > 15


def test_there_is_an_example_of_every_error() -> None:
    defined = {
        each
        for name in travellers.modules()
        for each in vars(sys.modules[name]).values()
        if isinstance(each, type) and issubclass(each, BaseException) and each.__module__.startswith("cpufeat.")
    }
    assert {type(error) for error in ERRORS} == defined, "helpers/travellers.py has one of each"


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_value_is_equal_and_has_the_same_hash(copied: Callable[[Any], Any], values: list[object]) -> None:
    for value in values:
        other = copied(value)
        assert other == value
        assert (type(other), repr(other)) == (type(value), repr(value))
        for field, copy_of_it in zip(contents(value), contents(other), strict=True):
            assert field == copy_of_it
            if isinstance(field, (Value, FeatureSet)):
                assert hash(field) == hash(copy_of_it)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_copy_of_an_error_says_the_same_and_has_the_same_attributes(
    error: Exception, copied: Callable[[Any], Any]
) -> None:
    other = copied(error)
    assert type(other) is type(error)
    assert (str(other), repr(other), other.args) == (str(error), repr(error), error.args)
    assert vars(other) == vars(error)


def test_a_value_does_not_carry_what_was_computed_from_it() -> None:
    target = cpufeat.Target.parse("haswell")
    vars(target)["cached"] = object()
    assert vars(pickled(target)).keys() == {"triple", "cpu", "features", "options"}


def test_this_machine_is_the_one_that_a_process_runs_on() -> None:
    machine = cpufeat.ThisMachine()
    host = cpufeat.detect(machine)
    for copied in COPIES.values():
        assert cpufeat.detect(copied(machine)) == host


def test_a_library_says_why_it_stays_in_its_process() -> None:
    library = aot.compile("define void @f() {\n ret void\n}\n").load()
    for copied in COPIES.values():
        with pytest.raises(TypeError, match="addresses of this process: copy or pickle its Artifact"):
            copied(library)


@pytest.mark.parametrize("method", STARTED_BY)
def test_a_pool_of_processes_gets_and_returns_values(method: str, values: list[object]) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        returned_values = pool.map_async(travellers.unchanged, values).get(SECONDS)
    assert returned_values == values


@pytest.mark.parametrize("method", STARTED_BY)
def test_an_executor_gets_and_returns_values(method: str, values: list[object]) -> None:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        assert list(executor.map(travellers.unchanged, values, timeout=SECONDS)) == values


@pytest.mark.parametrize("method", STARTED_BY)
def test_an_error_of_a_worker_process_is_raised_here(method: str) -> None:
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool, concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        for index, error in enumerate(ERRORS):
            waiting = [
                pool.apply_async(travellers.failing, (index,)).get,
                executor.submit(travellers.failing, index).result,
            ]
            for result in waiting:
                with pytest.raises(type(error)) as raised:
                    result(timeout=SECONDS)
                assert str(raised.value) == str(error)
                assert vars(error).items() <= vars(raised.value).items()
