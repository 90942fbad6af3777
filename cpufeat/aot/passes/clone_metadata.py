"""Clone the numbered metadata that belongs to one function, such as its debug information."""

from __future__ import annotations

import re

from cpufeat.aot.llvm.module_text import reachable
from cpufeat.aot.llvm.syntax import STRING, renamed

_NODE = re.compile(r"^!(\d+) = (.*)$", re.MULTILINE)
_NODE_USE = re.compile(rf"{STRING}|!(\d+)")
_OF_A_FUNCTION = ("distinct !DISubprogram(", "distinct !DIAssignID(")
_OF_THE_MODULE = "distinct !DICompileUnit("


class FunctionMetadata:
    """The metadata nodes that lead to the description of a function, and so are there once for each clone."""

    def __init__(self, rest: str) -> None:
        """Take the lines of a module that are in no function."""
        self._nodes = {int(match[1]): match[2] for match in _NODE.finditer(rest)}
        self._stride = 1 + max(self._nodes, default=0)
        self._cloned = self._of_functions()

    def _of_functions(self) -> list[int]:
        """Return the nodes that lead to a function's description, other than through that of the module."""
        users: dict[int, list[int]] = {}
        for node, text in self._nodes.items():
            if not text.startswith(_OF_THE_MODULE):
                for used in filter(None, _NODE_USE.findall(text)):
                    users.setdefault(int(used), []).append(node)
        roots = [node for node, text in self._nodes.items() if text.startswith(_OF_A_FUNCTION)]
        return sorted(reachable(roots, lambda node: users.get(node, ())))

    def renamed(self, index: int) -> dict[str, str]:
        """Return the new number of each node for the clones of a variant. The first variant keeps the originals."""
        return {f"!{node}": f"!{node + index * self._stride}" for node in self._cloned} if index else {}

    def definitions(self, index: int) -> str:
        """Return the metadata of a variant's clones, a line each."""
        names = self.renamed(index)
        return "".join(f"{name} = {renamed(self._nodes[int(node[1:])], names)}\n" for node, name in names.items())
