"""Tell code from data in a range that holds both, by recursive traversal.

What branches, calls and jump tables reach is code. A gap that decodes without a fault and ends like code is likely to
be code too. The remaining gaps are data.
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
_MAX_TABLE, _MIN_TABLE = 1 << 12, 2
"""Entries of a table. A single word that leads into the range may be chance."""
_MAX_ATTEMPTS = 4


class Decoded(NamedTuple):
    """One decoded instruction: its opcode, and where control goes from it."""

    address: int
    following: int
    code: int
    """The opcode; 0 for bytes that are no instruction."""
    flow: int
    """``NEXT``, ``JUMP``, ``BRANCH``, ``CALL`` or ``STOP`` of :mod:`cpufeat.auditing.lifting.semantics`."""
    target: int | None
    """The target of a direct jump, branch or call; None for any other instruction."""
    refers: int | None
    """The address or offset in a memory operand, which may be that of a jump table."""
    padding: bool
    known: bool = True
    """False for bytes that the decoder does not know; they have an opcode if their length is known all the same."""


class Discovery(NamedTuple):
    """The contents of a range."""

    certain: list[Decoded]
    """The code that is reached."""
    likely: list[Decoded]
    """The instructions of stretches that only look like code."""
    data: list[tuple[int, int]]
    """The remaining parts of the range, from the first address to before the second."""
    unknown: set[int]
    """The addresses that are reached, but hold no instruction that the decoder knows."""


class MixedRange(NamedTuple):
    """A range of code and data."""

    start: int
    content: bytes
    bases: Sequence[int]
    """The bases of entries of jump tables, besides the table itself: 0 for addresses, the image base of PE."""
    decode: Callable[[int], Iterator[Decoded]]
    """Yields the instructions from an address to the end of the range."""
    read: Callable[[int, int], bytes]
    """Returns up to that many bytes at any address of the image."""
    has_tables: bool = True
    """Whether jump tables are looked for. Other data may look like one, if the range is large."""


def discover(mixed: MixedRange, entries: Iterable[int]) -> Discovery:
    """Tell code from data in a range; ``entries``: the addresses that are known to be reached."""
    start, end = mixed.start, mixed.start + len(mixed.content)
    tables: dict[int, int] = {}
    for _ in range(_MAX_ATTEMPTS):  # a table ends where the next one begins, which may be known only afterwards
        traversal, new_tables = _traverse(mixed, entries, sorted(tables))
        is_final, tables = new_tables.keys() == tables.keys(), new_tables
        if is_final:
            break
    inside = {first: last for first, last in tables.items() if start <= first < end}
    for first, last in inside.items():  # a call that does not return may stand before a table
        traversal.forget(first, last)
    certain = sorted(traversal.code.values())
    likely: list[Decoded] = []
    data: list[tuple[int, int]] = []
    for gap in _gaps(start, end, [*((function.address, function.following) for function in certain), *inside.items()]):
        code = _decode_gap(gap, mixed.decode)
        if code is None:
            data.append(gap)
        else:
            likely += code
    return Discovery(certain, likely, data, traversal.unknown)


def _traverse(
    mixed: MixedRange, entries: Iterable[int], table_starts: Sequence[int]
) -> tuple[_Traversal, dict[int, int]]:
    """Return the reached instructions, and the start and end of each jump table; ``table_starts`` are known already."""
    traversal = _Traversal(mixed.start, mixed.start + len(mixed.content), mixed.decode)
    tables: dict[int, int] = {}
    examined: set[int] = set()
    bytes_left = len(mixed.content)  # all tables together are no larger than this
    waiting = {address for address in entries if traversal.start <= address < traversal.end}
    while waiting:
        reached = traversal.reach(waiting)
        operands = [decoded.refers for decoded in reached if decoded.refers is not None and mixed.has_tables]
        candidates = {base + operand for operand in operands for base in mixed.bases}
        waiting = set()
        for address in sorted(candidates - examined):
            if bytes_left < 0:
                break
            after = bisect_right(table_starts, address)
            limit = (table_starts[after] - address) // _WORD if after < len(table_starts) else _MAX_TABLE
            targets = _targets(mixed, address)[:limit]
            if targets:
                tables[address] = address + _WORD * len(targets)
                bytes_left -= _WORD * len(targets)
                waiting.update(targets)
        examined |= candidates
        waiting -= traversal.code.keys()
    return traversal, tables


class _Traversal:
    """The code of a range that is reached so far."""

    def __init__(self, start: int, end: int, decode: Callable[[int], Iterator[Decoded]]) -> None:
        self.start, self.end, self.decode = start, end, decode
        self.code: dict[int, Decoded] = {}
        self.unknown: set[int] = set()

    def reach(self, addresses: Iterable[int]) -> list[Decoded]:
        """Follow control flow from those addresses; return the instructions that are new."""
        waiting = list(addresses)
        new = []
        while waiting:
            address = waiting.pop()
            if not self.start <= address < self.end or address in self.code:
                continue
            for decoded in self.decode(address):
                if decoded.address in self.code:
                    break
                if not (decoded.known and decoded.code):
                    self.unknown.add(decoded.address)
                if not decoded.code:
                    break
                self.code[decoded.address] = decoded
                new.append(decoded)
                if decoded.target is not None:
                    waiting.append(decoded.target)
                if decoded.flow in (JUMP, STOP):
                    break
        return new

    def forget(self, first: int, last: int) -> None:
        """Drop what was reached from one address to before another."""
        for address in range(first, last):
            self.code.pop(address, None)
            self.unknown.discard(address)


def _targets(mixed: MixedRange, table: int) -> list[int]:
    """Return the targets of the 32-bit words from an address on, up to the first that leads out of the range.

    The words of a table outside of the range must be relative to the table: small numbers there are no offsets from the
    image base.
    """
    inside = mixed.start <= table < mixed.start + len(mixed.content)
    longest = max((_words(mixed, table, base) for base in ((*mixed.bases, table) if inside else (table,))), key=len)
    return longest if len(longest) >= _MIN_TABLE else []


def _words(mixed: MixedRange, table: int, base: int) -> list[int]:
    """Return the words of a table plus their base, up to the first that leads out of the range."""
    start, end = mixed.start, mixed.start + len(mixed.content)
    targets: list[int] = []
    size = _MIN_TABLE * _WORD
    while len(targets) < _MAX_TABLE:
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
    """Return the parts of a range that no other range covers."""
    gaps = []
    for first, last in sorted(covered):
        if first > start:
            gaps.append((start, first))
        start = max(start, last)
    return [*gaps, (start, end)] if start < end else gaps


def _decode_gap(gap: tuple[int, int], decode: Callable[[int], Iterator[Decoded]]) -> list[Decoded] | None:
    """Return the instructions of a gap that looks like code from its beginning to its end, None for any other."""
    code = []
    ends = True
    for decoded in decode(gap[0]):
        if not (decoded.known and decoded.code) or decoded.following > gap[1]:
            return None
        if not decoded.padding:
            code.append(decoded)
            ends = decoded.flow in (JUMP, STOP)
        if decoded.following == gap[1]:
            break
    starts = {decoded.address for decoded in code}
    targets = [decoded.target for decoded in code if decoded.target is not None]
    is_astray = any(gap[0] <= target < gap[1] and target not in starts for target in targets)
    return code if (ends or not code) and not is_astray else None
