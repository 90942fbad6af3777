"""Find out whether the assembly in a module could make LLVM read files, by ``.incbin`` or ``.include`` in any disguise.

LLVM's assembler looks up directives in any case, also between quotes, macros can put them together, and an operand of
inline assembly may print any text. So what cannot be told from these directives counts as one of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASM = re.compile(r'asm(?![-\w$.])(?=(?:[\s\w]|;[^\n\r]*[\n\r])*"([^"]*)")')
"""The keyword, wherever it is, and the string that follows, perhaps after more words and comments."""
_ESCAPE = re.compile(r"\\(\\|[0-9A-Fa-f]{2})")
"""An escape in a string of IR (LLVM Language Reference, "Identifiers" and "Module-Level Inline Assembly")."""
_READS = re.compile(
    r"""
    \.(incbin | include | secure_log)            # directives that read files, or write one
    | \.(altmacro | macro | irp | rep)           # directives that put others together
    | \$\(                                       # alternatives for two dialects
    | [\w.] \$ (?!\{:)                           # an operand that is part of a word
    | (?: \A | [\n\r;/}] | %% | (?<![c-gs]s) : ) \s* ["$]     # a statement that begins with quotes or an operand
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def may_read_files(ir: str) -> bool:
    """Whether assembly in a module, given as textual IR, may read files when code is generated."""
    return any(_READS.search(text.replace("$$", " ")) for text in _assembly(ir))


def _assembly(ir: str) -> Iterator[str]:
    """Yield each text of assembly; also other strings that follow the word in a comment or a string."""
    for match in _ASM.finditer(ir):
        yield _ESCAPE.sub(_unescaped, match[1])


def _unescaped(escape: re.Match[str]) -> str:
    return "\\" if escape[1] == "\\" else chr(int(escape[1], 16))
