"""Telling code from data where both stand in one stretch.

What is reached from its beginning, by branches and jump tables, is code. Of the rest, what decodes without a fault and
ends as code does is taken for code as well, but not for certain; the remainder is not.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NEXT, BRANCH, JUMP, STOP = range(4)
"""Where control goes on: after the instruction, there or elsewhere, elsewhere, nowhere that is known."""
_LEAST_TABLE = 3
"""Words that all lead into the stretch: fewer may be chance."""
_MOST_TABLES = 64
"""Rounds of finding tables: a stretch has few."""


class Step(NamedTuple):
    """One instruction, as far as control flow goes."""

    address: int
    following: int
    code: int
    """The opcode; 0 for bytes that are no instruction."""
    flow: int
    target: int | None
    padding: bool


class Recovered(NamedTuple):
    """What a stretch holds."""

    certain: list[Step]
    likely: list[Step]
    """Code by its looks alone."""
    data: list[tuple[int, int]]
    """Not taken for code."""
    unknown: list[int]
    """Reached as code, but no instruction that the decoder knows."""


def recovered(
    start: int, end: int, entries: Iterable[int], decode: Callable[[int], Iterator[Step]], content: bytes
) -> Recovered:
    """Tell code from data in a stretch; ``entries``: where others lead into it; ``decode``: the steps from an address on."""
    steps: dict[int, Step] = {}
    unknown: set[int] = set()
    _reach([start, *entries], start, end, decode, steps, unknown)
    for _ in range(_MOST_TABLES):
        gaps = _gaps(start, end, steps.values())
        targets = {target for gap in gaps for target in _table(content, start, end, gap, steps)}
        if not targets - steps.keys():
            break
        _reach(targets, start, end, decode, steps, unknown)
    certain = [steps[address] for address in sorted(steps)]
    likely: list[Step] = []
    data: list[tuple[int, int]] = []
    for gap in _gaps(start, end, certain):
        found = _clean(gap, decode)
        if found is None:
            data.append(gap)
        else:
            likely += found
    return Recovered(certain, likely, data, sorted(unknown))


def _reach(
    waiting: Iterable[int],
    start: int,
    end: int,
    decode: Callable[[int], Iterator[Step]],
    steps: dict[int, Step],
    unknown: set[int],
) -> None:
    """Add the steps that run from those addresses."""
    left = list(waiting)
    while left:
        at = left.pop()
        if not start <= at < end or at in steps:
            continue
        for step in decode(at):
            if step.address in steps:
                break
            if not step.code:
                unknown.add(step.address)
                break
            steps[step.address] = step
            if step.target is not None and step.flow in (BRANCH, JUMP):
                left.append(step.target)
            if step.flow in (JUMP, STOP):
                break


def _gaps(start: int, end: int, steps: Iterable[Step]) -> list[tuple[int, int]]:
    """Return what no step covers."""
    gaps = []
    for step in sorted(steps):
        if step.address > start:
            gaps.append((start, step.address))
        start = max(start, step.following)
    return [*gaps, (start, end)] if start < end else gaps


def _table(content: bytes, start: int, end: int, gap: tuple[int, int], steps: dict[int, Step]) -> set[int]:
    """Return where a gap leads that is a table of 32-bit addresses, or distances from its own beginning."""
    inside = content[gap[0] - start : gap[1] - start]
    words = [int.from_bytes(inside[at : at + 4], "little", signed=True) for at in range(0, len(inside) - 3, 4)]
    for origin in (0, gap[0]):
        targets: list[int] = []
        for word in words:
            if not start <= origin + word < end:
                break
            targets.append(origin + word)
        if len(targets) >= _LEAST_TABLE:
            return set(targets)
    return set()


def _clean(gap: tuple[int, int], decode: Callable[[int], Iterator[Step]]) -> list[Step] | None:
    """Return the steps of a gap that holds nothing but code, by its looks; None for any other."""
    found = []
    ends = True
    for step in decode(gap[0]):
        if not step.code or step.following > gap[1]:
            return None
        if not step.padding:
            found.append(step)
            ends = step.flow in (JUMP, STOP)
        if step.following == gap[1]:
            break
    starts = {step.address for step in found}
    astray = (step.target not in starts for step in found if step.target is not None and gap[0] <= step.target < gap[1])
    return found if (ends or not found) and not any(astray) else None
