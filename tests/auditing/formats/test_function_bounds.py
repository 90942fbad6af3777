"""Bounds of functions: symbols and unwind tables are merged in the order in which they are trusted."""

from __future__ import annotations

from cpufeat.auditing.formats.function_bounds import functions
from cpufeat.auditing.formats.image import Section, Symbol

TEXT = Section(".text", 0x1000, memoryview(bytes(0x40)), 0x40, True, False, 16, 0)
DATA = Section(".data", 0x2000, memoryview(bytes(0x40)), 0x40, False, True, 16, 0)


def symbol(address: int, size: int, name: str, kind: str = "function", *, visible: bool = False) -> Symbol:
    return Symbol(address, size, name, kind, visible)


def bounds(symbols: list[Symbol], unwound: list[tuple[int, int]]) -> list[tuple[int, int, str]]:
    return [(start, end, name) for start, end, name in functions([TEXT, DATA], symbols, unwound)]


def test_a_symbol_with_a_size_is_a_function() -> None:
    assert bounds([symbol(0x1000, 8, "f"), symbol(0x1010, 4, "r", "resolver")], []) == [
        (0x1000, 0x1008, "f"),
        (0x1010, 0x1014, "r"),
    ]


def test_a_symbol_without_a_size_ends_where_the_next_function_or_the_section_does() -> None:
    assert bounds([symbol(0x1000, 0, "f"), symbol(0x1010, 8, "g"), symbol(0x1020, 0, "h")], []) == [
        (0x1000, 0x1010, "f"),
        (0x1010, 0x1018, "g"),
        (0x1020, 0x1040, "h"),
    ]


def test_a_symbol_without_a_size_takes_that_of_the_unwind_table() -> None:
    assert bounds([symbol(0x1000, 0, "f")], [(0x1000, 0x1006)]) == [(0x1000, 0x1006, "f")]


def test_a_size_in_a_symbol_beats_the_unwind_table() -> None:
    assert bounds([symbol(0x1000, 8, "f")], [(0x1000, 0x1020), (0x1004, 0x1010)]) == [(0x1000, 0x1008, "f")]


def test_a_range_of_an_unwind_table_is_a_function_and_a_label_names_it() -> None:
    assert bounds([symbol(0x1010, 0, "named", "label")], [(0x1000, 0x1008), (0x1010, 0x1018)]) == [
        (0x1000, 0x1008, ""),
        (0x1010, 0x1018, "named"),
    ]


def test_a_range_of_an_unwind_table_beats_a_symbol_without_a_size() -> None:
    assert bounds([symbol(0x1004, 0, "inside")], [(0x1000, 0x1008)]) == [(0x1000, 0x1008, "")]


def test_unwind_tables_may_have_starts_alone() -> None:
    assert bounds([], [(0x1000, 0x1000), (0x1010, 0x1010)]) == [(0x1000, 0x1010, ""), (0x1010, 0x1040, "")]


def test_a_label_is_a_function_only_outside_of_others() -> None:
    labels = [symbol(0x1004, 0, "inside", "label"), symbol(0x1008, 0, "outside", "label")]
    assert bounds([symbol(0x1000, 8, "f"), *labels], []) == [(0x1000, 0x1008, "f"), (0x1008, 0x1040, "outside")]


def test_functions_do_not_overlap_or_leave_their_section() -> None:
    assert bounds([symbol(0x1000, 0x20, "f"), symbol(0x1010, 8, "g"), symbol(0x1030, 0x100, "h")], []) == [
        (0x1000, 0x1010, "f"),
        (0x1010, 0x1018, "g"),
        (0x1030, 0x1040, "h"),
    ]


def test_data_and_addresses_outside_of_code_are_no_functions() -> None:
    symbols = [symbol(0x1000, 8, "d", "data"), symbol(0x2000, 8, "f"), symbol(0x1040, 8, "g"), symbol(0xFF0, 8, "h")]
    assert bounds(symbols, [(0x2010, 0x2018)]) == []


def test_the_visible_one_of_two_names_of_a_function_is_taken() -> None:
    names = [symbol(0x1000, 8, "local"), symbol(0x1000, 8, "exported", visible=True), symbol(0x1000, 8, "alias")]
    assert bounds(names, []) == [(0x1000, 0x1008, "exported")]
