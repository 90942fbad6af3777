"""Define the abstract domain: labels of values, states that give each place its labels, and their join.

A value has a set of labels, which data flow carries from place to place. The join of two paths is the union.
"""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.auditing.lifting.semantics import BRANCH
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.auditing.lifting.semantics import Step

_MAX_LABELS, _MAX_SLOTS = 12, 2
"""The most labels of one value, and the most among them that point to the stack. Beyond, they are widened."""
_STACK = 1 << 59
"""The place of the stack slot at offset 0: no stack is so large that another slot has the number of a register."""


class _Mark:
    """A label without parameters, equal to itself alone."""


# The labels with parameters are tuples, which compare fast; ``kind`` keeps those of different classes unequal.


class CallResult(NamedTuple):
    """The label of a value that a function returned."""

    function: int
    """The address of the function."""
    kind: str = "call result"


class StackSlot(NamedTuple):
    """A place on the stack; as a label, a pointer to it."""

    offset: int
    """The distance in bytes above the stack pointer at the start of the function."""
    kind: str = "stack slot"

    @property
    def place(self) -> int:
        """The number that stands for it in a state: far from the registers, and fast to look up, unlike a tuple."""
        return _STACK + self.offset


class ExternalWord(NamedTuple):
    """The label of what is read from data in another file, which a function that reports on the CPU returns."""

    address: int
    kind: str = "external word"


class FeatureBits(NamedTuple):
    """The label of an answer as the CPU gave it, or of some bits of it: zero means that the CPU lacks the features."""

    mask: int
    """The bits that tell of features."""
    kind: str = "feature bits"


class Argument(NamedTuple):
    """The label of what is made from an argument, where the flow from arguments to results is worked out."""

    register: int
    dereferenced: bool
    """Whether it is made from memory that the argument points to."""
    kind: str = "argument"


FACT = _Mark()
"""The label of a value that is computed from an answer of the CPU."""
IMPLIED = _Mark()
"""The label of what is assigned on one side of a branch on a fact: a variable that gets only such values is a fact."""
ZERO = _Mark()
"""The label of zero, the value of variables until something is known; it does not leave its block."""
SUM = _Mark()
"""The label of a sum: counting up by a fact does not store the fact."""
FACT_POINTER = _Mark()
"""The label of a pointer to facts in memory that is not followed."""
TOO_MANY = _Mark()
"""Stands for the pointers of a value that has too many, such as one that a loop advances."""
Label = object
"""One of these marks or tuples, or the address (an int) that the value is."""
Labels = frozenset[Label]
State = dict[int, Labels]
"""The labels of each register and, by its place, of each :class:`StackSlot`; what is not in it has none."""
NO_LABELS: Labels = frozenset()
ALL_BITS = (1 << 64) - 1
ONLY_FACT: Labels = frozenset([FACT])
FACTS: Labels = frozenset([FACT, IMPLIED])
FACTS_AND_POINTERS: Labels = frozenset([FACT, FACT_POINTER])


def substitute(argument: Argument, labels: Labels) -> Labels:
    """Return the labels of what a function makes from an argument, given those of the value passed."""
    passed = [label for label in labels if isinstance(label, Argument)]
    result: set[Label] = {Argument(label.register, dereferenced=True) for label in passed}
    if not argument.dereferenced:
        result = set(passed)
    if (FACT_POINTER if argument.dereferenced else FACT) in labels:
        result.add(FACT)
    return frozenset(result)


def mask_feature_bits(step: Step, labels: Labels) -> Labels:
    """Return the labels of a step's operands after its mask: a fact whose bits of features are masked off is none."""
    bits = [label for label in labels if isinstance(label, FeatureBits)]
    if not bits or step.copies or (step.flow == BRANCH and not step.mask):
        return labels
    masked = {FeatureBits(label.mask & step.mask) for label in bits} if step.mask else set()
    if step.mask and not any(label.mask for label in masked):
        return labels - FACTS - set(bits)
    return labels - set(bits) | masked


def for_flags(labels: Labels, lasting: Labels) -> Labels:
    """Return the labels of a value that the flags take over from it: those to be kept, and bits of features."""
    return frozenset(label for label in labels if label in lasting or isinstance(label, FeatureBits))


def is_fact(labels: Labels) -> bool:
    """Tell whether a value says something about the CPU; an address that a fact selected does not, nor one of many."""
    if labels.isdisjoint(FACTS) or TOO_MANY in labels:
        return False
    return not any(isinstance(label, int) for label in labels)


def add_offset(label: Label, offset: int) -> Label:
    """Return the label of a pointer that is moved by some bytes."""
    if isinstance(label, StackSlot):
        return StackSlot(label.offset + offset)
    return label + offset if isinstance(label, int) else label


def assign(state: State, place: int, labels: Labels) -> None:
    """Replace the labels of a place; one without labels takes no space."""
    if labels:
        state[place] = labels
    else:
        state.pop(place, None)


def join_into(state: State, incoming: Mapping[int, Labels]) -> bool:
    """Add the labels of a state on another path to the same block; tell whether any were new."""
    if incoming.items() <= state.items():  # most often so, and told without a look at the labels
        return False
    changed = False
    for place, labels in incoming.items():
        old = state.get(place, NO_LABELS)
        if labels is old or labels <= old:
            continue
        joined = widen(old | labels)
        if joined != old:
            state[place] = joined
            changed = True
    return changed


def widen(labels: Labels) -> Labels:
    """Return labels with :data:`TOO_MANY` in place of all but the facts, if there are too many."""
    slots = sum(isinstance(label, StackSlot) for label in labels)
    if TOO_MANY in labels or slots > _MAX_SLOTS or len(labels) > _MAX_LABELS:
        return labels & FACTS | {TOO_MANY}
    return labels
