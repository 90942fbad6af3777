"""Regions: code sections are split into functions and gaps, without what the file calls data."""

from __future__ import annotations

from cpufeat.auditing.decoding.regions import LARGEST, Region, between_functions, in_functions, limited
from cpufeat.auditing.formats.image import Function, Image, Section


def image(size: int, functions: list[tuple[int, int]], data: list[tuple[int, int]] = []) -> Image:  # noqa: B006
    """An image with code from 0x1000 on, and a section of data before it."""
    return Image(
        name="f.o",
        format="ELF",
        arch="x86_64",
        bits=64,
        kind="object",
        sections=(section(".data", 0x800, 16, executable=False), section(".text", 0x1000, size, executable=True)),
        symbols=(),
        functions=tuple(Function(start, end, f"f{start:x}") for start, end in functions),
        data=tuple(data),
        pointers={},
        externals={},
        entry=None,
    )


def section(name: str, address: int, size: int, *, executable: bool) -> Section:
    return Section(name, address, memoryview(bytes(size)), size, executable, False, 16, 0)


def test_a_function_is_a_region_without_the_data_in_it() -> None:
    regions = list(
        in_functions(image(0x40, [(0x1000, 0x1010), (0x1010, 0x1030)], [(0x1014, 0x1018), (0x1020, 0x1030)]))
    )
    assert [region.function.name for region in regions] == ["f1000", "f1010"]
    assert [region.ranges for region in regions] == [[(0x1000, 0x1010)], [(0x1010, 0x1014), (0x1018, 0x1020)]]


def test_data_at_the_start_of_a_function_is_left_out() -> None:
    (region,) = in_functions(image(0x40, [(0x1000, 0x1010)], [(0x1000, 0x1004)]))
    assert region.ranges == [(0x1004, 0x1010)]


def test_gaps_are_the_code_that_is_in_no_function_and_no_data() -> None:
    gaps = between_functions(image(0x40, [(0x1008, 0x1010), (0x1010, 0x1020)], [(0x1022, 0x1030)]))
    assert gaps == [(0x1000, 0x1008), (0x1020, 0x1022), (0x1030, 0x1040)]


def test_code_without_functions_is_one_gap() -> None:
    assert between_functions(image(0x40, [])) == [(0x1000, 0x1040)]
    assert list(in_functions(image(0x40, []))) == []


def test_code_that_functions_cover_has_no_gap() -> None:
    assert between_functions(image(0x40, [(0x1000, 0x1020), (0x1020, 0x1040)])) == []


def test_large_functions_and_ranges_are_cut_into_pieces() -> None:
    end = 0x1000 + 2 * LARGEST + 1
    pieces = [(0x1000, 0x1000 + LARGEST), (0x1000 + LARGEST, end - 1), (end - 1, end)]
    assert list(limited([(0x1000, end), (end, end + 2)])) == [*pieces, (end, end + 2)]
    (region,) = in_functions(image(end - 0x1000, [(0x1000, end)]))
    assert region.ranges == pieces
    (region,) = in_functions(image(LARGEST, [(0x1000, 0x1000 + LARGEST)]))
    assert region.ranges == [(0x1000, 0x1000 + LARGEST)]


def test_a_gap_is_a_region_without_a_name() -> None:
    assert Region.unnamed((0x1000, 0x1008)) == (Function(0x1000, 0x1008, ""), [(0x1000, 0x1008)])


def test_an_address_in_an_object_is_shown_as_section_and_offset() -> None:
    whole = image(0x40, [])
    assert [whole.place_of(address) for address in (0x1000, 0x103F, 0x1040)] == [".text+0x0", ".text+0x3f", "0x1040"]
    assert whole.replace(kind="library").place_of(0x1004) == "0x1004"


def test_bytes_end_where_their_section_ends() -> None:
    whole = image(0x40, [])
    assert [len(whole.bytes_at(address, 8)) for address in (0x1000, 0x103E, 0x1040, 0xFFF)] == [8, 2, 0, 0]
