"""Infer XCR0, where it was not recorded, from the sizes of the XSAVE area that CPUID leaf D tells.

A size proves only what all values of XCR0 have in common that give it. So every value that XSETBV would take is tried.

Source: Intel SDM volume 1 chapter 13 and volume 2A, CPUID leaf D. The components are in ``data/x86/components.tsv``.
"""

from __future__ import annotations

from cpufeat import tables
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cpufeat.detection.instructions import Registers

_X87, _LEGACY = 0b01, 0b11
"""The bit of XCR0 that is always set, and with it that of SSE: their state lies in the first bytes of every area."""
_HEADER_END, _AVX_END = 576, 832
"""Bytes of an area before its components (512 for x87 and SSE, 64 for the header), and before those that follow AVX,
for which every CPU leaves the same place."""
_ALIGNMENT = 64
"""The alignment, in bytes, that components have in an area that is not compacted, and some in one that is."""
_XSAVEC, _XSAVES = 0b0010, 0b1000
"""Bits of D.1:EAX. With either, D.1:EBX is the size of a compacted area, in which XSAVES keeps the supervisor's too."""
_ALIGNED = 0b10
"""The bit of a subleaf's ECX for a component that is aligned."""
_NOTHING = (0, 0, 0, 0)
_MOST_VALUES = 128
"""The most values of XCR0, or ends of an area, that are tried: as many as the components of the table permit."""


class Component(Value):
    """A part of the area, which one bit of XCR0 or of IA32_XSS enables."""

    length: int
    """Bytes; 0 where nothing tells."""
    offset: int
    """Its first byte in an area that is not compacted; 0 where nothing tells."""
    alignments: tuple[int, ...]
    """What its place in a compacted area may be a multiple of, in bytes."""
    needs: frozenset[int]
    """The bits of XCR0 that have to be set with it."""


def enabled(leaf: Callable[[int], Registers | None]) -> int:
    """Return the bits of XCR0 that are proven to be set; ``leaf`` gives the registers of a subleaf of leaf D.

    Dumps lack subleaves, or have numbered them wrongly: if one contradicts the table of components, none counts.
    """
    low, size, _, high = leaf(0) or _NOTHING
    features, compacted, supervisor, _ = leaf(1) or _NOTHING
    components = _components((low | high << 32) & ~_LEGACY, leaf)
    beside = _components(supervisor, leaf)
    is_told = compacted and features & (_XSAVEC | _XSAVES)
    fitting = [
        bits
        for bits in _values(components)
        if _ends_at(size, [components[bit] for bit in bits])
        and (not is_told or _packs_into(compacted, {bit: components[bit] for bit in bits}, beside))
    ]
    proven = frozenset.intersection(*fitting) if fitting else frozenset[int]()
    return _X87 | sum(1 << bit for bit in proven.union(*(components[bit].needs for bit in proven)))


def _components(bits: int, leaf: Callable[[int], Registers | None]) -> dict[int, Component]:
    """Return the component of each bit, by the table and by its subleaf."""
    known = {int(bit): cells for bit, *cells in tables.rows("x86/components.tsv")}
    told = {bit: leaf(bit) or _NOTHING for bit in range(2, 64) if bits >> bit & 1}
    if any(words[0] not in (0, int(known[bit][0])) for bit, words in told.items() if bit in known):
        told = dict.fromkeys(told, _NOTHING)
    components = {}
    for bit, (size, place, flags, _) in told.items():
        length, offset, with_, *_ = known.get(bit, (str(size), "", ""))
        components[bit] = Component(
            length=int(length),
            offset=int(offset or place),
            alignments=(_ALIGNMENT if flags & _ALIGNED else 1,) if size else (1, _ALIGNMENT),
            needs=frozenset(map(int, with_.split())),
        )
    return components


def _values(components: dict[int, Component]) -> set[frozenset[int]]:
    """Return the bits of every value of XCR0 that XSETBV takes, without those of x87 and SSE."""
    values = {frozenset[int]()}
    for bit, component in components.items():
        with_it = component.needs & components.keys() | {bit}
        values |= {bits | with_it for bits in values}
        if len(values) > _MOST_VALUES:
            return set()
    return values


def _ends_at(size: int, chosen: Iterable[Component]) -> bool:
    """Whether an area that is not compacted can have this size: it ends with one of its components, and none is beyond.

    A component in an unknown place is anywhere after that of AVX.
    """
    last = max((component.offset + component.length for component in chosen if component.offset), default=_HEADER_END)
    starts = (size - component.length for component in chosen if not component.offset)
    return last == size or (last < size and any(start >= _AVX_END and not start % _ALIGNMENT for start in starts))


def _packs_into(size: int, chosen: Mapping[int, Component], beside: Mapping[int, Component]) -> bool:
    """Whether a compacted area can have this size: the components chosen and any of those beside, in their order."""
    ends = {_HEADER_END}
    for bit, component in sorted({**beside, **chosen}.items()):
        if not component.length or len(ends) > _MOST_VALUES:
            return True
        placed = {-(-end // to) * to + component.length for end in ends for to in component.alignments}
        ends = placed if bit in chosen else ends | placed
    return size in ends
