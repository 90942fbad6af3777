"""Conditions on bits, as the column ``bit`` writes them."""

from __future__ import annotations

import pytest

from cpufeat import tables
from cpufeat.detection.probe.bits import evidence
from cpufeat.features import table
from cpufeat.support.conditions import Condition, Term, written

ARCHITECTURES = sorted({arch for arch, *_ in tables.rows("architectures.tsv")})


@pytest.mark.parametrize(
    ("text", "word", "low", "width", "least"),
    [
        ("7.0:EBX[16]", "7.0:EBX", 16, 1, 1),
        ("24.0:EBX[0-7]>=2", "24.0:EBX", 0, 8, 2),
        ("D.0:EAX[0-31]", "D.0:EAX", 0, 32, 1),
        ("hwcap2[31]", "hwcap2", 31, 1, 1),
        ("architecture>=7", "architecture", 0, 1, 7),
        ("zba", "zba", 0, 1, 1),
    ],
)
def test_a_term_is_bits_of_a_word_and_the_least_number_they_hold(
    text: str, word: str, low: int, width: int, least: int
) -> None:
    term = Term(text)
    assert (term.text, term.word, term.low, term.width, term.least) == (text, word, low, width, least)


def test_in_a_condition_and_binds_before_or() -> None:
    assert [written(terms) for terms in Condition("a&b|c").alternatives] == ["a&b", "c"]
    assert [term.text for term in Condition("a&b|c").terms] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("set_bits", "expected"),
    [("", ""), ("a", ""), ("b", ""), ("a b", "A and B"), ("c", "C"), ("a c", "C"), ("a b c", "A and B")],
)
def test_the_evidence_is_that_of_the_first_alternative_that_holds(set_bits: str, expected: str) -> None:
    assert evidence(Condition("a&b|c"), {bit: bit.upper() for bit in set_bits.split()}) == expected


def test_an_empty_condition_never_holds() -> None:
    assert Condition("").alternatives == ()
    assert Condition("").terms == ()
    assert evidence(Condition(""), {"": "empty"}) == ""


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_row_of_a_table_is_parsed_without_loss(arch: str) -> None:
    conditions = {feature.bit: feature.condition for feature in table(arch).values() if feature.bit}
    assert conditions
    for bit, condition in conditions.items():
        assert "|".join(map(written, condition.alternatives)) == bit == condition.text
