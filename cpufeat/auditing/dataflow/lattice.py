"""What is known of a value: *labels*, which data flow carries from place to place, and how they go together."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.auditing.lifting.semantics import BRANCH
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.auditing.lifting.semantics import Step

_MANY, _MANY_SLOTS = 12, 2
"""Labels, and those among them that point to the stack."""


class _Mark:
    """A label without anything more to say."""


class Result(NamedTuple):
    """The label of a value that a function gave."""

    function: int


class Slot(NamedTuple):
    """A place on the stack; as a label, a pointer to it."""

    depth: int
    """In bytes above the stack pointer at the start of the function."""


class Word(NamedTuple):
    """The label of what is read at an address in another file, which a function that tells of the CPU hands on."""

    address: int


class Bits(Value):
    """The label of an answer as it was given, or of some bits of it: zero says that the CPU lacks them."""

    told: int
    """Those that tell of features."""


class Passed(NamedTuple):
    """The label of what is made of an argument, where what a function makes of its arguments is worked out."""

    register: int
    behind: bool
    """Whether it is made of what the argument points to."""


FACT = _Mark()
"""The label of a value that is made of what the CPU answered."""
IMPLIED = _Mark()
"""The label of what is made where a branch on a fact led: a fact once it is in a variable that only such values get."""
ZERO = _Mark()
"""The label of zero, which variables have until something is known; it is not followed from block to block."""
COUNT = _Mark()
"""The label of a sum: who counts a fact up does not keep it."""
POINTS = _Mark()
"""The label of a pointer to facts outside of what is followed."""
MANY = _Mark()
"""In place of the other labels of a value that has too many, as a pointer that a loop moves along."""
Label = object
"""What is known of a value: one of these, a :class:`Slot`, a :class:`Result`, or the address (an int) that it is."""
State = dict[object, frozenset[Label]]
NOTHING: frozenset[Label] = frozenset()
EVERY_BIT = (1 << 64) - 1
ONLY_FACT: frozenset[Label] = frozenset([FACT])
FACTS: frozenset[Label] = frozenset([FACT, IMPLIED])
POINTERS: frozenset[Label] = frozenset([FACT, POINTS])


def through(source: Passed, labels: frozenset[Label]) -> frozenset[Label]:
    """Return the labels of what is made of an argument with those labels."""
    found: set[Label] = {label for label in labels if isinstance(label, Passed) and not source.behind}
    found.update(Passed(label.register, behind=True) for label in labels if isinstance(label, Passed) and source.behind)
    if (POINTS if source.behind else FACT) in labels:
        found.add(FACT)
    return frozenset(found)


def sifted(step: Step, labels: frozenset[Label]) -> frozenset[Label]:
    """Return the labels of a step's operands less what it takes no account of: bits that tell of no feature."""
    bits = [label for label in labels if isinstance(label, Bits)]
    if not bits or step.copies or (step.flow == BRANCH and not step.mask):
        return labels
    left = {Bits(label.told & step.mask) for label in bits} if step.mask else set()
    if step.mask and not any(label.told for label in left):
        return labels - FACTS - set(bits)
    return labels - set(bits) | left


def flagged(labels: frozenset[Label], telling: frozenset[Label]) -> frozenset[Label]:
    """Return what of the labels of a value the flags hand on."""
    return frozenset(label for label in labels if label in telling or isinstance(label, Bits))


def tells(labels: frozenset[Label]) -> bool:
    """Tell whether a value says something of the CPU: not an address that a fact chose."""
    return not labels.isdisjoint(FACTS) and not any(isinstance(label, int) for label in labels)


def moved(label: Label, offset: int) -> Label:
    """Return the label of a pointer that is moved by some bytes."""
    if isinstance(label, Slot):
        return Slot(label.depth + offset)
    return label + offset if isinstance(label, int) else label


def put(state: State, place: object, labels: frozenset[Label]) -> None:
    """Note what is known of a place; nothing takes no space."""
    if labels:
        state[place] = labels
    else:
        state.pop(place, None)


def merge(known: State, more: Mapping[object, frozenset[Label]]) -> bool:
    """Add what is known on another path that leads to the same place; tell whether that is anything new."""
    changed = False
    for key, labels in more.items():
        old = known.get(key, NOTHING)
        if labels is old or labels <= old:
            continue
        both = limited(old | labels)
        if both != old:
            known[key] = both
            changed = True
    return changed


def limited(labels: frozenset[Label]) -> frozenset[Label]:
    """Return labels with :data:`MANY` in place of too many pointers."""
    slots = sum(isinstance(label, Slot) for label in labels)
    if MANY in labels or slots > _MANY_SLOTS or len(labels) > _MANY:
        return labels & FACTS | {MANY}
    return labels
