"""Find the unavoidable needs that are reachable from the program's entry points without a check: bare uses."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import NamedTuple

from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.auditing.checks.unavoidable_needs import UnavoidableNeeds
    from cpufeat.auditing.formats.image import Symbol
    from cpufeat.auditing.program.functions import Program

_INITIALISERS = (".init_array", ".fini_array", ".preinit_array", ".ctors", ".dtors", "__mod_init_func", ".CRT")
"""Sections of pointers to functions that the loader calls."""
_MODULE = "PyInit_"
"""The entry point of a Python extension module (PEP 489). Nothing links with one: its other exports are not used."""


class Arrival(NamedTuple):
    """The way in which a node is reached from outside."""

    previous: int
    """The node before it; itself for one that is entered from outside."""
    root: str
    """The way in which the first node is entered: ``exported``, ``the entry point`` or ``called by the loader``."""


class Exposure:
    """The nodes that are reached from outside without a check."""

    def __init__(self, program: Program, needs: UnavoidableNeeds) -> None:
        """Look at the nodes of a program that need features whatever the checks say."""
        self._program, self._image, self._needs = program, program.image, needs
        exported = (symbol for symbol in self._image.symbols if symbol.visible)
        self._is_python_module = any(symbol.name.startswith(_MODULE) for symbol in exported)

    @cached_property
    def arrivals(self) -> dict[tuple[int, str], Arrival]:
        """The way in which each node is reached without a check of a feature that it needs, by node and feature."""
        arrivals: dict[tuple[int, str], Arrival] = {}
        for node, features in self._needs.needs.items():
            for feature in features:
                root = self._root(node, feature)
                if root:
                    arrivals[node, feature] = Arrival(node, root)
        waiting = deque(arrivals)
        while waiting:
            node, feature = waiting.popleft()
            for reached in self._needs.exposed(node, feature):
                if feature in self._needs.of(reached) and (reached, feature) not in arrivals:
                    arrivals[reached, feature] = Arrival(node, arrivals[node, feature].root)
                    waiting.append((reached, feature))
        return arrivals

    def _root(self, node: int, feature: str) -> str:
        """Say how a node is entered from outside, empty if it is not.

        An exported function that the file itself reaches only through a check is not: other callers must check too.
        """
        if node == self._image.entry:
            return "the entry point"
        section = self._image.section_at(node)
        if (section and section.name.startswith(_INITIALISERS)) or self._program.is_resolver(node):
            return "called by the loader"
        exported = any(symbol.visible and self._is_callable(symbol) for symbol in self._program.symbols.at(node))
        return "exported" if exported and (node, feature) not in self._behind_checks else ""

    def _is_callable(self, symbol: Symbol) -> bool:
        """Tell whether other files refer to an exported symbol."""
        return not self._is_python_module or symbol.name.startswith(_MODULE)

    @cached_property
    def _behind_checks(self) -> set[tuple[int, str]]:
        """Nodes and features such that the file reaches the node through a check; perhaps in other ways too."""
        waiting = list(self._needs.checked_edges())
        behind = set(waiting)
        while waiting:
            node, feature = waiting.pop()
            new = {(reached, feature) for reached in self._needs.exposed(node, feature)} - behind
            behind |= new
            waiting += new
        return behind
