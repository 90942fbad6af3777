"""Show that functions are unused: that nothing in the file, and nothing outside of it, can make their addresses.

In an object, relocations tell all references. In code that is linked, an address comes from a relocation (at a fixed
address and in PE files, also from a number in data), from instructions that hold the whole address or distance, or from
a distance in data: that from its own place, or from the start of its table. On 64-bit Arm one instruction may make the
page of an address for another, perhaps in another function: there nothing is shown of a page that is made, nor of code
at a fixed address.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from functools import cached_property

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpufeat.auditing.formats.image import Function
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.references import References

_PLAIN_CODE = (".text", "__text")
"""The start of the names of sections of which linkers and C libraries make nothing else."""
_HANDLERS = ".xdata"
"""Tables of PE files that name functions to call when an exception is thrown."""
_LARGEST_TABLE = 4096
"""Bytes of the largest table of distances of functions that is looked for."""


class UnusedCode:
    """Finds the functions of one program that are shown to be unused."""

    def __init__(self, program: Program, references: References) -> None:
        """Look at a program when there is a function to ask for."""
        self._program, self._image, self._references = program, program.image, references

    def among(self, nodes: Iterable[int]) -> set[int]:
        """Return those addresses that lie in functions which the file shows to be unused."""
        image = self._image
        if not image.tells_references:
            return set()
        functions = {node: function for node in nodes if (function := self._program.function_at(node))}
        candidates = {function for function in functions.values() if self._has_no_reference(function)}
        if candidates and image.kind != "object":
            candidates -= self._in_tables(candidates)
        return {node for node, function in functions.items() if function in candidates}

    def _has_no_reference(self, function: Function) -> bool:
        """Tell whether no instruction, relocation, symbol or way in leads to any byte of a function from outside."""
        section, bounds = self._image.section_at(function.start), (function.start, function.end)
        users = {reference.function for reference in self._references.xrefs_to(*bounds)}
        return (
            section is not None
            and section.name.startswith(_PLAIN_CODE)
            and self._image.function_at(function.start) == function
            and not self._program.entry_points.between(*bounds)
            and not self._references.pointers_to(*bounds)
            and users <= {function}
            and not self._is_stored(function.start)
            and (self._image.kind == "object" or not self._references.makes_parts_of(function.start))
        )

    def _is_stored(self, address: int) -> bool:
        """Tell whether data holds a number that stands for an address, in 32 bits or more and at any place.

        It may be the address in a file at a fixed one, and in PE files the distance from the image's base.
        """
        bases = {base for base in self._image.bases if base or self._image.is_fixed}
        numbers = {(address - base).to_bytes(8, "little")[:4] for base in bases if base <= address}
        data = (section for section in self._image.sections if not section.executable and numbers)
        searched = (
            bytes(section.content)
            for section in data
            if section.name == _HANDLERS or not self._references.is_unwinding(section)
        )
        return any(number in content for content in searched for number in numbers)

    def _in_tables(self, candidates: Iterable[Function]) -> set[Function]:
        """Return the functions to which a distance in data may lead from its place or from the start of a table."""
        ordered = sorted(candidates)
        starts = [function.start for function in ordered]
        found = set()
        for place, distance in self._distances:
            target = place + distance
            first, last = bisect_left(starts, target - _LARGEST_TABLE), bisect_right(starts, target)
            for function in ordered[first:last]:
                table = function.start - distance
                if target == function.start or self._references.xrefs_to(table, table + 1):
                    found.add(function)
        return found

    @cached_property
    def _distances(self) -> list[tuple[int, int]]:
        """The words of data, with their places, that lead to code if they are added to their own place."""
        code = [section for section in self._image.sections if section.executable]
        low, high = min(section.address for section in code), max(section.end for section in code)
        pairs = []
        for section in self._image.sections:
            if not section.executable and not self._references.is_unwinding(section):
                words = struct.iter_unpack("<i", section.content[: len(section.content) & -4])
                places = range(section.address, section.end, 4)
                pairs += [
                    (place, word) for place, (word,) in zip(places, words, strict=False) if low <= place + word < high
                ]
        return pairs
