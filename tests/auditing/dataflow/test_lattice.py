"""The labels of values, and how they are joined."""

from __future__ import annotations

from itertools import combinations

import pytest
from iced_x86 import Decoder

from cpufeat.auditing.dataflow.lattice import (
    FACT,
    FACT_POINTER,
    IMPLIED,
    NO_LABELS,
    TOO_MANY,
    Argument,
    CallResult,
    ExternalWord,
    FeatureBits,
    Label,
    StackSlot,
    State,
    add_offset,
    for_flags,
    is_fact,
    join_into,
    mask_feature_bits,
    substitute,
    widen,
)
from cpufeat.auditing.lifting import x86

OF_ONE_NUMBER = [16, StackSlot(16), CallResult(16), ExternalWord(16), FeatureBits(16), Argument(16, False)]


@pytest.mark.parametrize(("label", "other"), list(combinations(OF_ONE_NUMBER, 2)))
def test_labels_of_different_kinds_are_different_whatever_their_number(label: Label, other: Label) -> None:
    assert label != other
    assert len({label, other}) == 2


def test_labels_of_one_kind_and_number_are_equal() -> None:
    assert StackSlot(16) == StackSlot(16)
    assert StackSlot(16) != StackSlot(24)
    assert hash(CallResult(16)) == hash(CallResult(16))


def test_a_stack_slot_has_a_place_of_its_own_in_states() -> None:
    slots = [StackSlot(offset) for offset in (-(1 << 40), -8, 0, 8, 1 << 40)]
    places = {slot.place for slot in slots}
    assert len(places) == len(slots)
    assert places.isdisjoint(range(-1, 1 << 16)), "a register"


def test_the_join_is_the_union_and_says_whether_it_adds_anything() -> None:
    state: State = {1: frozenset([FACT]), 2: frozenset([4096])}
    assert join_into(state, {1: frozenset([IMPLIED]), 3: frozenset([FACT])})
    assert state == {1: frozenset([FACT, IMPLIED]), 2: frozenset([4096]), 3: frozenset([FACT])}
    assert not join_into(state, {1: frozenset([FACT]), 2: frozenset([4096])})


def test_one_of_too_many_addresses_that_a_fact_selected_is_no_fact() -> None:
    assert is_fact(frozenset([IMPLIED, TOO_MANY]) - {TOO_MANY})
    assert not is_fact(widen(frozenset([IMPLIED, *range(20)])))


def test_values_with_too_many_pointers_are_widened_to_their_facts() -> None:
    slots = [StackSlot(8 * number) for number in range(3)]
    assert widen(frozenset(slots[:2])) == frozenset(slots[:2])
    assert widen(frozenset([FACT, *slots])) == frozenset([FACT, TOO_MANY])
    assert widen(frozenset(range(12))) == frozenset(range(12))
    assert widen(frozenset(range(13))) == frozenset([TOO_MANY])


def test_a_widened_value_stays_widened() -> None:
    state: State = {1: frozenset([TOO_MANY])}
    assert not join_into(state, {1: frozenset([4096])})
    assert state == {1: frozenset([TOO_MANY])}


@pytest.mark.parametrize(
    ("dereferenced", "passed", "result"),
    [
        (False, FACT, {FACT}),
        (False, FACT_POINTER, set()),
        (True, FACT_POINTER, {FACT}),
        (True, FACT, set()),
        (False, Argument(3, False), {Argument(3, False)}),
        (False, Argument(3, True), {Argument(3, True)}),
        (True, Argument(3, False), {Argument(3, True)}),
        (False, 4096, set()),
    ],
)
def test_what_is_made_from_an_argument_has_the_labels_of_what_is_passed(
    dereferenced: bool, passed: Label, result: set[Label]
) -> None:
    assert substitute(Argument(5, dereferenced), frozenset([passed])) == result


def test_an_address_that_a_fact_selected_is_no_fact() -> None:
    assert is_fact(frozenset([FACT]))
    assert is_fact(frozenset([IMPLIED]))
    assert not is_fact(frozenset([FACT, 4096]))
    assert not is_fact(NO_LABELS)


def test_an_offset_moves_slots_and_addresses_alone() -> None:
    assert add_offset(StackSlot(8), -16) == StackSlot(-8)
    assert add_offset(4096, 8) == 4104
    assert add_offset(FACT, 8) is FACT


def test_flags_take_over_facts_and_bits_and_no_pointers() -> None:
    labels = frozenset([FACT, 4096, FeatureBits(32)])
    assert for_flags(labels, frozenset([FACT])) == {FACT, FeatureBits(32)}


ANSWER = frozenset([FACT, FeatureBits(0b1100)])
MASKS = {
    "test $4, %ebx": ("f7c304000000", {FACT, FeatureBits(0b100)}),
    "test $16, %ebx: no bit of a feature": ("f7c310000000", set()),
    "and $8, %ebx": ("83e308", {FACT, FeatureBits(0b1000)}),
    "mov %ebx, %eax: a copy keeps the bits": ("89d8", {FACT, FeatureBits(0b1100)}),
    "shl $1, %ebx: the bits are elsewhere": ("d1e3", {FACT}),
    "jne: a branch on what was tested before": ("7502", {FACT, FeatureBits(0b1100)}),
}


@pytest.mark.parametrize("instruction", MASKS)
def test_bits_of_features_are_masked_as_the_instruction_masks_them(instruction: str) -> None:
    code, result = MASKS[instruction]
    assert next(iter(Decoder(64, bytes.fromhex(code)))).code
    (step,) = x86.steps(bytes.fromhex(code), 0, lambda start, end: False)
    assert mask_feature_bits(step, ANSWER) == result
