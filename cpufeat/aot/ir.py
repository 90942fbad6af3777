"""Text of LLVM IR. Pointers are written with their types, which every LLVM from 14 on reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Body:
    """Straight-line instructions in SSA form. What was computed once is not computed again."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def let(self, instruction: str) -> str:
        """Return the name of an instruction's value."""
        return self._values.setdefault(instruction, f"%v{len(self._values)}")

    def all(self, values: Iterable[str]) -> str:
        """Return whether all of the i1 values hold."""
        return self._fold("and", values) or "true"

    def any(self, values: Iterable[str]) -> str:
        """Return whether any of the i1 values holds."""
        return self._fold("or", values) or "false"

    def _fold(self, operation: str, values: Iterable[str]) -> str:
        folded = ""
        for value in values:
            folded = self.let(f"{operation} i1 {folded}, {value}") if folded else value
        return folded

    def has_all(self, kind: str, word: str, mask: int) -> str:
        """Return whether all bits of a mask are set in a word of type ``kind``."""
        return self.let(f"icmp eq {kind} {self.let(f'and {kind} {word}, {mask}')}, {mask}")

    def __str__(self) -> str:
        return "".join(f"  {name} = {instruction}\n" for instruction, name in self._values.items())


def constant(content: bytes) -> str:
    r"""Return bytes as a constant with its type, ``[3 x i8] c"ab\00"``."""
    escaped = "".join(f"\\{byte:02X}" for byte in content)
    return f'[{len(content)} x i8] c"{escaped}"'
