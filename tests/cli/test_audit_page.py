"""What ``cpufeat audit`` prints about an audit."""

from __future__ import annotations

import pytest

from cpufeat.auditing.report import (
    AT_LOAD,
    CHECKED,
    UNCHECKED,
    UNREFERRED,
    UNUSED,
    Audit,
    FunctionNeeds,
    Misaligned,
    Use,
)
from cpufeat.cli.audit_page import page
from cpufeat.cli.layout import lay_out
from cpufeat.features import FeatureSet

AVX2 = FeatureSet("x86_64", ["avx2"])
NOTHING = FeatureSet("x86_64")


def function(number: int, *, reached: str = UNCHECKED, why: str = "exported") -> FunctionNeeds:
    use = Use(number, f".text+{number:#x}", "vpaddd ymm0, ymm0, ymm0")
    bare = NOTHING if reached in (CHECKED, UNUSED) else AVX2
    return FunctionNeeds(f"function{number}", number, {"avx2": (use,)}, bare, reached, why, certain=True)


def audit(*functions: FunctionNeeds, bare: FeatureSet = AVX2, misaligned: tuple[Misaligned, ...] = ()) -> Audit:
    needs = AVX2 if functions else NOTHING
    return Audit(
        name="library.so",
        format="ELF",
        arch="x86_64",
        kind="library",
        members=(),
        skipped=(),
        needs=needs,
        bare=bare if functions else NOTHING,
        functions=functions,
        harmless={},
        others={},
        misaligned=misaligned,
        note=None,
        undecoded=(),
        instructions=1234,
    )


def text_of(audit: Audit) -> list[str]:
    return ["".join(text for text, _ in line) for line in lay_out(page(audit, None, ()), 80)]


def test_a_binary_that_needs_nothing_runs_on_the_baseline() -> None:
    assert text_of(audit())[:2] == ["library.so", "Needs nothing above the baseline (x86-64)."]


def test_the_verdict_names_the_level_that_is_needed_without_a_check() -> None:
    assert text_of(audit(function(1)))[1] == "Needs x86-64-v3."


def test_a_binary_that_checks_every_use_runs_on_the_baseline() -> None:
    text = " ".join(text_of(audit(function(1, reached=CHECKED), bare=NOTHING)))
    assert "Runs on the baseline (x86-64): everything that needs more is behind" in text
    assert "checked: exported" in text


@pytest.mark.parametrize(("count", "more"), [(8, ""), (9, "and 1 more"), (30, "and 22 more")])
def test_at_most_eight_functions_are_shown_and_the_others_counted(count: int, more: str) -> None:
    text = text_of(audit(*map(function, range(count))))
    assert [line for line in text if line.startswith("  function")] == [f"  function{number}" for number in range(8)]
    assert [line for line in text if "more: see" in line] == ([f"  {more}: see --json"] if more else [])


def test_a_reason_that_all_functions_share_is_said_once() -> None:
    text = text_of(audit(function(1), function(2), function(3, reached=CHECKED, why="behind a test of CPUID")))
    assert [line.strip() for line in text if "exported" in line] == ["Without a run-time check: exported."]
    assert [line.strip() for line in text if "behind a test" in line] == ["checked: behind a test of CPUID"]


def test_different_reasons_stand_below_their_functions() -> None:
    text = text_of(audit(function(1, why="exported"), function(2, why="the entry point")))
    assert [line.strip() for line in text if "exported" in line] == ["exported"]
    assert [line.strip() for line in text if "entry point" in line] == ["the entry point"]


def test_what_runs_at_load_comes_first_and_what_nothing_refers_to_last() -> None:
    functions = (
        function(1, reached=UNREFERRED, why="nothing is seen to refer to it"),
        function(2),
        function(3, reached=AT_LOAD, why="called by the loader"),
    )
    text = [line.strip() for line in text_of(audit(*functions))]
    shown = [line for line in text if line.startswith(("function", "Run when", "Functions above", "Neither used"))]
    assert [line.split("  ")[0] for line in shown] == [
        "Run when the file is loaded",
        "function3",
        "Functions above the baseline",
        "function2",
        "Neither used nor checked, as far as is seen",
        "function1",
    ]


def test_a_function_to_which_nothing_is_seen_to_refer_is_a_condition_of_the_verdict() -> None:
    text = " ".join(text_of(audit(function(1, reached=UNREFERRED))))
    assert "Runs on the baseline (x86-64), but x86-64-v3 if a function runs to which nothing is seen to refer." in text


def test_an_unused_function_needs_nothing() -> None:
    text = " ".join(text_of(audit(function(1, reached=UNUSED), bare=NOTHING)))
    assert "everything that needs more is unused." in text


def test_a_misaligned_operand_is_shown_with_both_alignments() -> None:
    fault = Misaligned(0x40, "sum", "paddd xmm0, [rip + 8]", 0x2008, "table", 16, 8)
    text = text_of(audit(misaligned=(fault,)))
    assert "    needs an alignment of 16 bytes; table has 8" in text
    assert not any("more: see" in line for line in text)
