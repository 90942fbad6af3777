"""Records: what they are made of, and that they stay so."""

from __future__ import annotations

from functools import cached_property

import pytest

from cpufeat.support.value import Value


class Point(Value):
    x: int
    y: int = 0

    @cached_property
    def far(self) -> int:
        return abs(self.x) + abs(self.y)


def test_fields_are_positional_and_keyword_arguments() -> None:
    assert Point(1) == Point(1, 0) == Point(y=0, x=1)
    assert hash(Point(1)) == hash(Point(1, 0))
    assert repr(Point(1)) == "Point(x=1, y=0)"


@pytest.mark.parametrize("given", [((), {}), ((1, 2, 3), {}), ((1,), {"x": 2}), ((1,), {"z": 2})])
def test_each_field_is_given_once(given: tuple[tuple[int, ...], dict[str, int]]) -> None:
    arguments, named = given
    with pytest.raises((TypeError, AttributeError)):
        Point(*arguments, **named)


def test_a_dictionary_is_hashed_by_its_items() -> None:
    class Named(Value):
        names: dict[str, int]

    assert hash(Named({"a": 1, "b": 2})) == hash(Named({"b": 2, "a": 1}))
    assert hash(Named({"a": 1})) != hash(Named({"a": 2}))


def test_a_value_does_not_change() -> None:
    point = Point(1, 2)
    for change in (lambda: setattr(point, "x", 3), lambda: delattr(point, "x")):
        with pytest.raises(AttributeError, match="Point is immutable"):
            change()
    assert point.replace(x=3) == Point(3, 2)
    with pytest.raises(TypeError, match="Point takes x, y, each once"):
        point.replace(z=3)


def test_a_cached_property_is_no_part_of_a_value() -> None:
    point = Point(3, -4)
    assert point.far == 7
    assert point == Point(3, -4)
    assert point.replace(x=0).far == 4
