"""Build functions in textual LLVM IR. Pointers are typed, which every LLVM from 14 on reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Body:
    """Straight-line instructions of a function in SSA form, each distinct instruction once."""

    def __init__(self, function: str, prefix: str = "v") -> None:
        """Start a basic block of the function ``function``; values are named by the prefix and a number."""
        self._function, self._prefix = function, prefix
        self._values: dict[str, str] = {}
        self._texts: dict[bytes, str] = {}

    def let(self, instruction: str) -> str:
        """Return the name of an instruction's value, adding the instruction unless it is there."""
        return self._values.setdefault(instruction, f"%{self._prefix}{len(self._values)}")

    def text(self, content: str) -> str:
        """Return an ``i8*`` to a constant text that ends with a NUL."""
        ended = content.encode() + b"\0"
        symbol = self._texts.setdefault(ended, f"@{self._function}.text.{len(self._texts)}")
        kind = f"[{len(ended)} x i8]"
        return self.let(f"getelementptr inbounds {kind}, {kind}* {symbol}, i64 0, i64 0")

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

    def has_all(self, word: str, mask: int) -> str:
        """Return whether all bits of a mask are set in an i64."""
        return self.let(f"icmp eq i64 {self.let(f'and i64 {word}, {mask}')}, {mask}")

    def function(self, result: str, parameters: str, attributes: str, end: str) -> str:
        """Return the definition of the internal function, whose last instruction is ``end``."""
        head = f"define internal {result} @{self._function}({parameters}) {attributes}"
        return f"{self.constants()}{head} {{\n{self.instructions()}  {end}\n}}\n"

    def instructions(self) -> str:
        """Return the instructions, a line each."""
        return "".join(f"  {name} = {instruction}\n" for instruction, name in self._values.items())

    def constants(self) -> str:
        """Return the definitions of the texts, a line each."""
        return "".join(
            f"{symbol} = private unnamed_addr constant {constant(content)}\n" for content, symbol in self._texts.items()
        )


def constant(content: bytes) -> str:
    r"""Return bytes as a constant with its type, ``[3 x i8] c"ab\00"``."""
    escaped = "".join(f"\\{byte:02X}" for byte in content)
    return f'[{len(content)} x i8] c"{escaped}"'
