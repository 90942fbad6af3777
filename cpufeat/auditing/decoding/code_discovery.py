"""Telling code from data where both stand in one stretch.

What is reached, by branches, calls and jump tables, is code. Of the rest, what decodes without a fault and ends as code
does is taken for code as well, but not for certain; the remainder is not.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from cpufeat.auditing.lifting.semantics import JUMP, STOP
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_WORD = 4
"""Bytes of an entry of the jump tables that compilers put among the code."""
_LONGEST_TABLE = 1 << 12
_ATTEMPTS = 4
_LEAST_TABLE = 2
"""Words that all lead into the stretch: fewer may be chance."""


class Decoded(NamedTuple):
    """One decoded instruction: its opcode, and where control goes from it."""

    address: int
    following: int
    code: int
    """The opcode; 0 for bytes that are no instruction."""
    flow: int
    """``NEXT``, ``JUMP``, ``BRANCH``, ``CALL`` or ``STOP`` of :mod:`cpufeat.auditing.lifting.semantics`."""
    target: int | None
    """Where a direct jump, branch or call leads; None for any other instruction."""
    refers: int | None
    """The address or offset in a memory operand, which may be that of a jump table."""
    padding: bool


class Recovered(NamedTuple):
    """What a stretch holds."""

    certain: list[Decoded]
    likely: list[Decoded]
    """Code by its looks alone."""
    data: list[tuple[int, int]]
    """Not taken for code."""
    unknown: set[int]
    """Reached as code, but no instruction that the decoder knows."""


class Mixed(NamedTuple):
    """A stretch of code and data."""

    start: int
    content: bytes
    bases: Sequence[int]
    """What offsets in jump tables count from, 0 among them, besides the table itself."""
    decode: Callable[[int], Iterator[Decoded]]
    """Gives the steps from an address on."""
    read: Callable[[int, int], bytes]
    """Gives so many bytes, or fewer, at an address anywhere."""


def recovered(mixed: Mixed, entries: Iterable[int]) -> Recovered:
    """Tell code from data in a stretch; ``entries``: where it is reached."""
    start, end = mixed.start, mixed.start + len(mixed.content)
    tables: dict[int, int] = {}
    for _ in range(_ATTEMPTS):  # a table ends where the next begins, which may be known only afterwards
        walk, found = _walked(mixed, entries, sorted(tables))
        same, tables = found.keys() == tables.keys(), found
        if same:
            break
    inside = {first: last for first, last in tables.items() if start <= first < end}
    for first, last in inside.items():  # a call that does not return may stand before a table
        walk.forget(first, last)
    certain = sorted(walk.steps.values())
    likely: list[Decoded] = []
    data: list[tuple[int, int]] = []
    for gap in _gaps(start, end, [*((step.address, step.following) for step in certain), *inside.items()]):
        clean = _clean(gap, mixed.decode)
        if clean is None:
            data.append(gap)
        else:
            likely += clean
    return Recovered(certain, likely, data, walk.unknown)


def _walked(mixed: Mixed, entries: Iterable[int], known: Sequence[int]) -> tuple[_Walk, dict[int, int]]:
    """Return what is reached, and the tables, by where each begins and ends; ``known``: where tables begin."""
    walk = _Walk(mixed.start, mixed.start + len(mixed.content), mixed.decode)
    tables: dict[int, int] = {}
    asked: set[int] = set()
    left = len(mixed.content)  # bytes of tables that there can be
    waiting = {one for one in entries if walk.start <= one < walk.end}
    while waiting:
        reached = walk.reach(waiting)
        referred = {base + one.refers for one in reached if one.refers is not None for base in mixed.bases}
        waiting = set()
        for address in sorted(referred - asked):
            if left < 0:
                break
            after = bisect_right(known, address)
            most = (known[after] - address) // _WORD if after < len(known) else _LONGEST_TABLE
            targets = _targets(mixed, address)[:most]
            if targets:
                tables[address] = address + _WORD * len(targets)
                left -= _WORD * len(targets)
                waiting.update(targets)
        asked |= referred
        waiting -= walk.steps.keys()
    return walk, tables


class _Walk:
    """What is reached from where."""

    def __init__(self, start: int, end: int, decode: Callable[[int], Iterator[Decoded]]) -> None:
        self.start, self.end, self.decode = start, end, decode
        self.steps: dict[int, Decoded] = {}
        self.unknown: set[int] = set()

    def reach(self, addresses: Iterable[int]) -> list[Decoded]:
        """Walk on from those addresses; return the steps that are new."""
        waiting = list(addresses)
        new = []
        while waiting:
            at = waiting.pop()
            if not self.start <= at < self.end or at in self.steps:
                continue
            for step in self.decode(at):
                if step.address in self.steps:
                    break
                if not step.code:
                    self.unknown.add(step.address)
                    break
                self.steps[step.address] = step
                new.append(step)
                if step.target is not None:
                    waiting.append(step.target)
                if step.flow in (JUMP, STOP):
                    break
        return new

    def forget(self, first: int, last: int) -> None:
        """Take back what was reached from one address to before another."""
        for address in range(first, last):
            self.steps.pop(address, None)
            self.unknown.discard(address)


def _targets(mixed: Mixed, table: int) -> list[int]:
    """Return where the 32-bit words from an address on lead, as far as they all lead into the stretch.

    Outside of it only distances from the table itself count: small numbers are no offsets from the image's base.
    """
    inside = mixed.start <= table < mixed.start + len(mixed.content)
    longest = max((_words(mixed, table, base) for base in ((*mixed.bases, table) if inside else (table,))), key=len)
    return longest if len(longest) >= _LEAST_TABLE else []


def _words(mixed: Mixed, table: int, base: int) -> list[int]:
    """Return the words of a table plus its base."""
    start, end = mixed.start, mixed.start + len(mixed.content)
    targets: list[int] = []
    size = _LEAST_TABLE * _WORD
    while len(targets) < _LONGEST_TABLE:
        words = mixed.read(table + _WORD * len(targets), size)
        for at in range(0, len(words), _WORD):
            target = base + int.from_bytes(words[at : at + _WORD], "little", signed=True)
            if not start <= target < end or len(words) < at + _WORD:
                return targets
            targets.append(target)
        if len(words) < size:
            break
        size *= 2
    return targets


def _gaps(start: int, end: int, covered: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what no range covers."""
    gaps = []
    for first, last in sorted(covered):
        if first > start:
            gaps.append((start, first))
        start = max(start, last)
    return [*gaps, (start, end)] if start < end else gaps


def _clean(gap: tuple[int, int], decode: Callable[[int], Iterator[Decoded]]) -> list[Decoded] | None:
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
