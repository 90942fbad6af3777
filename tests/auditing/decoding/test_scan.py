"""The part of a scan that all architectures share: which opcodes are relevant, and the uses in each function."""

from __future__ import annotations

import pytest

from cpufeat.auditing.decoding.requirements import NO_INSTRUCTION, Requirement, Uses
from cpufeat.auditing.decoding.scan import Meter, Scanner
from cpufeat.auditing.formats.image import Function, Image, Section

AVX, ENDBR, RDTSCP, BAD, PLAIN = range(5)
REQUIREMENTS = {
    AVX: Requirement(frozenset({"avx"})),
    ENDBR: Requirement(harmless="endbr64"),
    RDTSCP: Requirement(other="rdtscp"),
    BAD: NO_INSTRUCTION,
}
MEGABYTE = 1 << 20


class _Scanner(Scanner):
    """Counts how often each opcode is looked up."""

    def look_up(self, opcode: int) -> Requirement | None:
        self.lookups[opcode] = self.lookups.get(opcode, 0) + 1
        return REQUIREMENTS.get(opcode)

    lookups: dict[int, int]


@pytest.fixture
def image() -> Image:
    text = Section(".text", 0x1000, memoryview(bytes(4 * MEGABYTE)), 4 * MEGABYTE, True, False, 16, 0)
    data = Section(".data", 0, memoryview(bytes(16)), 16, False, True, 16, 0)
    return Image(
        name="f.o",
        format="ELF",
        arch="x86_64",
        bits=64,
        kind="object",
        sections=(data, text),
        symbols=(),
        functions=(),
        data=(),
        pointers={},
        externals={},
        entry=None,
    )


@pytest.fixture
def scanner(image: Image) -> _Scanner:
    made = _Scanner(image, None)
    made.lookups = {}
    return made


def uses_of(*instructions: tuple[int, int]) -> Uses:
    uses = Uses()
    for opcode, address in instructions:
        uses.add(REQUIREMENTS[opcode], address)
    return uses


# --- relevant opcodes


@pytest.mark.parametrize("opcode", REQUIREMENTS)
def test_an_opcode_with_a_requirement_or_of_no_instruction_is_relevant(scanner: _Scanner, opcode: int) -> None:
    assert scanner.any_relevant({opcode})
    assert scanner.any_relevant({PLAIN, opcode})


def test_an_opcode_that_any_cpu_runs_is_not_relevant(scanner: _Scanner) -> None:
    assert not scanner.any_relevant({PLAIN})
    assert not scanner.any_relevant(set())
    assert scanner.requirement(PLAIN) is None


def test_an_opcode_is_looked_up_once(scanner: _Scanner) -> None:
    for _ in range(2):
        scanner.any_relevant({AVX, PLAIN})
        scanner.requirement(AVX)
        scanner.requirement(PLAIN)
    assert scanner.lookups == {AVX: 1, PLAIN: 1}


def test_a_harmless_mnemonic_is_located_in_three_functions_and_a_feature_in_all(scanner: _Scanner) -> None:
    for index in range(3):
        assert scanner.any_relevant({ENDBR})
        start = 0x1000 + 16 * index
        scanner.any_relevant({ENDBR, AVX})
        scanner.add_uses(Function(start, start + 16, "f"), uses_of((ENDBR, start), (AVX, start + 4)), (), certain=True)
    assert not scanner.any_relevant({ENDBR})
    assert scanner.any_relevant({AVX})


# --- functions


def test_the_result_has_functions_and_undecoded_parts_by_address(scanner: _Scanner) -> None:
    scanner.add_uses(Function(0x1100, 0x1110, "g"), uses_of((RDTSCP, 0x1104)), (), certain=False)
    scanner.add_uses(Function(0x1000, 0x1010, "f"), uses_of((AVX, 0x1000), (AVX, 0x1008)), (), certain=True)
    scanner.add_undecoded(0x1200, 0x1208, "data")
    scanner.add_undecoded(0x1010, 0x1014, "data")
    scan = scanner.result()
    assert [(entry.function.name, entry.certain) for entry in scan.functions] == [("f", True), ("g", False)]
    assert {name: [*addresses] for name, addresses in scan.functions[0].uses.items()} == {"avx": [0x1000, 0x1008]}
    assert {name: [*addresses] for name, addresses in scan.functions[1].others.items()} == {"rdtscp": [0x1104]}
    assert [(part.address, part.size, part.place) for part in scan.undecoded] == [
        (0x1010, 4, ".text+0x10"),
        (0x1200, 8, ".text+0x200"),
    ]


def test_code_without_a_name_is_divided_where_functions_start() -> None:
    uses = uses_of((AVX, 0x1000), (AVX, 0x1010), (ENDBR, 0x1014), (AVX, 0x1028))
    parts = list(uses.by_function(Function(0x1000, 0x1030, ""), [0x1010, 0x1020]))
    assert [function for function, _ in parts] == [
        Function(0x1000, 0x1010, ""),
        Function(0x1010, 0x1020, ""),
        Function(0x1020, 0x1030, ""),
    ]
    assert [[*part.features["avx"]] for _, part in parts] == [[0x1000], [0x1010], [0x1028]]
    assert [[*part.harmless] for _, part in parts] == [[], ["endbr64"], []]
    assert len(uses) == 4


def test_a_function_with_a_name_is_not_divided() -> None:
    uses = uses_of((AVX, 0x1000), (AVX, 0x1018))
    ((function, part),) = uses.by_function(Function(0x1000, 0x1020, "f"), [0x1010])
    assert (function.name, [*part.features["avx"]]) == ("f", [0x1000, 0x1018])


# --- progress


def test_progress_is_reported_once_a_megabyte_of_code_and_at_the_end(image: Image) -> None:
    reports: list[tuple[int, int]] = []
    meter = Meter(image, lambda scanned, total: reports.append((scanned, total)))
    for _ in range(5):
        meter.add(MEGABYTE // 2)
    meter.add(3 * MEGABYTE)
    meter.finish()
    total = 4 * MEGABYTE
    assert reports == [(MEGABYTE, total), (2 * MEGABYTE, total), (total, total), (total, total)]
