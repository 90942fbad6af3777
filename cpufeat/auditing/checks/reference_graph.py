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
        self.nameless: set[int] = set()
        """The nodes found so far that are pointers in data to which no symbol and no reference leads."""
        self.listed: dict[int, int] = {}
        """The nodes found so far that a function only lists, together with what they need, and that function."""

    def node(self, address: int) -> int:
        """Return the node of an address."""
        return self.extent(address)[0]

    def extent(self, node: int) -> tuple[int, int]:
        """Return the addresses, from the first to before the second, that belong to a node."""
        function = self._program.function_at(node)
        if function is not None:
            has_checks = function.start in self._checks.functions
            return (node, node + 1) if has_checks else (function.start, function.end)
        return self._program.symbols.object_at(node) or (node, node + 1)

    def referrers(self, node: int) -> list[Edge]:
        """Return the references to a node, except from functions that only list functions with what these need."""
        if node not in self._referrers:
            section = self._program.image.section_at(node)
            edges = self._to_code(node) if section and section.executable else self._to_data(node)
            lists_functions = self._checks.queries.lists_functions
            self._referrers[node] = []
            for edge in edges:
                if lists_functions(edge.source):
                    self.listed[node] = edge.source
                else:
                    self._referrers[node].append(edge)
        return self._referrers[node]

    def _to_code(self, node: int) -> Iterator[Edge]:
        function = self._program.function_at(node)
        if function is None:
            return
        low, high = self.extent(node)
        for reference in self._references.xrefs_to(low, high, but=function):
            yield Edge(reference.function.start, reference.site, reference.target)
        known = self._program.image.function_at(node)  # pointers into one belong to its jump tables
        for pointer in self._references.pointers_to(low, low + 1 if known else high):
            yield from self._through_pointer(pointer)

    def _to_data(self, node: int) -> Iterator[Edge]:
        low, high = self.extent(node)
        for reference in self._references.xrefs_to(low, high):
            yield Edge(reference.function.start, reference.site, reference.target)
        for pointer in self._references.pointers_to(low, high):
            yield from self._through_pointer(pointer)

    def _through_pointer(self, pointer: int) -> Iterator[Edge]:
        """Yield the object of data that a pointer is in, or what loads the pointer if it is a literal in the code.

        A pointer of which nothing tells the object is a node of its own.
        """
        section = self._program.image.section_at(pointer)
        literals = self._references.xrefs_to(pointer, pointer + 1) if section and section.executable else ()
        for reference in literals:
            yield Edge(reference.function.start, reference.site, pointer)
        if literals or self._references.is_unused_slot(pointer):
            return
        holder = self._references.object_at(pointer)
        if holder is None:
            self.nameless.add(pointer)
        yield Edge(holder[0] if holder else pointer, 0, pointer)
