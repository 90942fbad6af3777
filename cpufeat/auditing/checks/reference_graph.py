"""Build the graph of references between the functions and the data of a whole program."""

from __future__ import annotations

from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.auditing.dataflow.cpu_checks import CpuChecks
    from cpufeat.auditing.program.functions import Program
    from cpufeat.auditing.program.references import References


class Edge(NamedTuple):
    """A reference from a function or an object of data."""

    source: int
    """The start of the function or object."""
    site: int
    """The address of the instruction; 0 in data."""
    target: int
    """The address that is referred to."""


class ReferenceGraph:
    """The references from node to node.

    A node is the start of a function or of an object of data; of a function with checks each entry is a node of its
    own, since the checks may let one way in reach what another does not.
    """

    def __init__(self, program: Program, references: References, checks: CpuChecks) -> None:
        """Build the graph of a program node by node, when it is asked for."""
        self._program, self._references, self._checks = program, references, checks
        self._referrers: dict[int, list[Edge]] = {}

    def node(self, address: int) -> int:
        """Return the node of an address in the code."""
        function = self._program.function_at(address)
        return address if function is None or function.start in self._checks.functions else function.start

    def referrers(self, node: int) -> list[Edge]:
        """Return the references to a node, except from functions that only list functions with what these need."""
        if node not in self._referrers:
            section = self._program.image.section_at(node)
            edges = self._to_code(node) if section and section.executable else self._to_data(node)
            lists_functions = self._checks.queries.lists_functions
            self._referrers[node] = [edge for edge in edges if not lists_functions(edge.source)]
        return self._referrers[node]

    def _to_code(self, node: int) -> Iterator[Edge]:
        function = self._program.function_at(node)
        if function is None:
            return
        has_checks = function.start in self._checks.functions
        low, high = (node, node + 1) if has_checks else (function.start, function.end)
        for reference in self._references.xrefs_to(low, high):
            if reference.function != function:
                yield Edge(reference.function.start, reference.site, reference.target)
        for pointer in self._references.pointers_to(node, node + 1):
            yield from self._through_pointer(pointer)

    def _to_data(self, node: int) -> Iterator[Edge]:
        low, high = self._program.symbols.object_at(node) or (node, node + 1)
        for reference in self._references.xrefs_to(low, high):
            yield Edge(reference.function.start, reference.site, reference.target)
        for pointer in self._references.pointers_to(low, high):
            yield from self._through_pointer(pointer)

    def _through_pointer(self, pointer: int) -> Iterator[Edge]:
        """Yield the object of data that a pointer is in, or what loads the pointer if it is a literal in the code."""
        section = self._program.image.section_at(pointer)
        literals = self._references.xrefs_to(pointer, pointer + 1) if section and section.executable else ()
        for reference in literals:
            yield Edge(reference.function.start, reference.site, pointer)
        if literals:
            return
        holder = self._references.object_at(pointer)
        if holder:
            yield Edge(holder[0], 0, pointer)
