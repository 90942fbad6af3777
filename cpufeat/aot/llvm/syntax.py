r"""Match the lexical elements of textual LLVM IR: names, tokens, and words outside of brackets.

Strings hold neither a quote, which is printed ``\22``, nor the end of a line. A name that ``(`` follows is a callee's.
"""

from __future__ import annotations

import re

STRING = r'"[^"]*"'
NAME = rf"@(?:{STRING}|[-\w$.]+)"
"""A global name: of a function, variable, alias or ifunc."""
_TOKEN = re.compile(rf"(blockaddress\({NAME}|{NAME}\(?|!\d+|{STRING}|;[^\n]*)", re.ASCII)
"""Tokens that may have to be renamed, and those that only look like it: strings and comments."""
_COMDAT = re.compile(rf"{STRING}|(,? comdat(?:\((\$(?:{STRING}|[-\w$.]+))\))?(?=,| |$))", re.ASCII | re.MULTILINE)
BRACKET_OR_SEPARATOR = re.compile(rf"{STRING}|[()<>{{}}\[\]]|, | ")
DEPTH = {**dict.fromkeys("(<{[", 1), **dict.fromkeys(")>}]", -1)}


def tokens(text: str) -> list[str]:
    """Return the tokens that can be renamed: ``@f``, ``@f(``, ``blockaddress(@f``, ``!1``; and strings and comments."""
    return _TOKEN.findall(text)


def callees(text: str) -> list[str]:
    """Return the functions that are called by name."""
    return [token[:-1] for token in tokens(text) if token.startswith("@") and token.endswith("(")]


def renamed(text: str, names: dict[str, str]) -> str:
    """Return a text with other tokens in place of some."""
    return "".join([names.get(part, part) for part in _TOKEN.split(text)])


def suffixed(name: str, suffix: str) -> str:
    """Return ``@f.suffix``."""
    return f'{name[:-1]}.{suffix}"' if name.endswith('"') else f"{name}.{suffix}"


def plain(name: str) -> str:
    """Return a name as messages show it: without the ``@``, and without quotes."""
    return name[1:].strip('"')


def _split(text: str, separator: str) -> list[str]:
    """Return the parts between separators that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for match in BRACKET_OR_SEPARATOR.finditer(text):
        depth += DEPTH.get(match[0], 0)
        if depth == 0 and match[0] == separator:
            parts.append(text[start : match.start()])
            start = match.end()
    return [part for part in (*parts, text[start:]) if part]


def parameters(text: str) -> list[str]:
    """Return the elements of a list of parameters."""
    return _split(text, ", ")


def words(text: str) -> list[str]:
    """Return the words outside of brackets; a type is one, also if it is printed with a blank (``void (i32)*``)."""
    joined: list[str] = []
    for word in _split(text, " "):
        continues = joined and word.startswith(("(", "addrspace("))
        joined.append(f"{joined.pop()} {word}" if continues else word)
    return joined


def type_of(parameter: str) -> str:
    """Return a parameter's type, ``...`` for the last one of a variadic function."""
    return words(parameter)[0]


def comdat(line: str, name: str) -> str:
    """Return the comdat, ``$f``, that the line that defines a name puts it into; empty for none."""
    match = next((match for match in _COMDAT.finditer(line) if match[1]), None)
    return "" if match is None else match[2] or f"${name[1:]}"


def without_comdat(line: str) -> str:
    """Return the line without its comdat."""
    return _COMDAT.sub(lambda match: "" if match[1] else match[0], line)
