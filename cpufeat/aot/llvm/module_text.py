r"""IR as LLVM prints it, taken apart as far as it takes to clone functions.

A definition of a function begins at a line ``define`` and ends at a line ``}``, anything else has a line of its own.
Strings hold neither a quote, which is printed ``\22``, nor the end of a line. A name that ``(`` follows is a callee's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

STRING = r'"[^"]*"'
NAME = rf"@(?:{STRING}|[-\w$.]+)"
"""Of a global thing: a function, variable, alias or ifunc."""
TOKEN = re.compile(rf"(blockaddress\({NAME}|{NAME}\(?|!\d+|{STRING}|;[^\n]*)", re.ASCII)
"""What may have to be renamed, and what only looks like it: strings and comments."""
LOCAL = ("private", "internal")
"""Linkages of what no other object sees."""
_PREFIX = re.compile(
    r"(?:(private|internal|weak|weak_odr|linkonce|linkonce_odr|available_externally) )?"
    r"(dso_local )?(?:(hidden|protected) )?(?:(dllexport) )?(.*)"
)
_NAMED = re.compile(rf"(?:{STRING}|[^\"@])*({NAME})\(", re.ASCII)
_BEFORE_GROUPS = re.compile(r"(?: local_unnamed_addr| unnamed_addr)?(?: addrspace\(\d+\))?(?: #\d+)*")
_COMDAT = re.compile(rf"{STRING}|(,? comdat(?:\((\$(?:{STRING}|[-\w$.]+))\))?(?=,| |$))", re.ASCII | re.MULTILINE)
_PARTS = re.compile(rf"{STRING}|[()<>{{}}\[\]]|, | ")
_DEPTH = {**dict.fromkeys("(<{[", 1), **dict.fromkeys(")>}]", -1)}


class Function(NamedTuple):
    """A definition, each part as it is printed."""

    name: str
    """With the ``@``, and with quotes where it needs them."""
    linkage: str
    """Empty for ``external``."""
    dso_local: str
    """``dso_local``, or empty."""
    visibility: str
    """``hidden``, ``protected``, or empty."""
    storage: str
    """``dllexport``, or empty."""
    convention: str
    """Calling convention and return attributes."""
    returns: str
    """The type that it returns."""
    parameters: tuple[str, ...]
    """With types, attributes and names; the last may be ``...``."""
    tail: str
    """What stands before the body, with a blank in front: attributes, section, comdat, personality, metadata."""
    body: str
    """From ``{`` to ``}``."""

    @property
    def is_local(self) -> bool:
        """Whether no other object sees it."""
        return self.linkage in LOCAL

    @property
    def type(self) -> str:
        """The function's type, ``i32 (ptr, ...)``."""
        return f"{self.returns} ({', '.join(map(type_of, self.parameters))})"

    def local(self, name: str) -> Function:
        """Return the function with another name, for this object alone: outside of any comdat."""
        tail = without_comdat(self.tail)
        return self._replace(name=name, linkage="internal", dso_local="", visibility="", storage="", tail=tail)

    def with_attributes(self, groups: str) -> Function:
        """Return the function with more groups of attributes, ``#7 #8``."""
        end = _match(_BEFORE_GROUPS, self.tail).end()
        return self._replace(tail=f"{self.tail[:end]} {groups}{self.tail[end:]}")

    def __str__(self) -> str:
        before = (self.linkage, self.dso_local, self.visibility, self.storage, self.convention, self.returns)
        head = " ".join(word for word in ("define", *before) if word)
        return f"{head} {self.name}({', '.join(self.parameters)}){self.tail} {self.body}\n"


class Module(NamedTuple):
    """A module taken apart."""

    functions: dict[str, Function]
    """Those that are defined, by name."""
    rest: str
    """All other lines."""


def read(text: str) -> Module:
    """Take apart what LLVM printed. Raises ValueError for what it was not known to print."""
    functions, rest, at = {}, [], 0
    for start, end in _definitions(text):
        function = _function(text[start:end])
        functions[function.name] = function
        rest.append(text[at:start])
        at = end
    return Module(functions, "".join([*rest, text[at:]]))


def _definitions(text: str) -> Iterator[tuple[int, int]]:
    at = text.find("\ndefine ") + 1
    while at:
        end = text.index("\n}\n", at) + 2
        yield at, end
        at = text.find("\ndefine ", end) + 1


def _function(text: str) -> Function:
    line, _, body = text.partition(" {\n")
    named = _match(_NAMED, line)
    linkage, dso_local, visibility, storage, head = _match(_PREFIX, line[len("define ") : named.start(1) - 1]).groups()
    *convention, returns = words(head)
    end = _closing(line, named.end())
    return Function(
        name=named[1],
        linkage=linkage or "",
        dso_local=(dso_local or "").strip(),
        visibility=visibility or "",
        storage=storage or "",
        convention=" ".join(convention),
        returns=returns,
        parameters=tuple(parameters(line[named.end() : end])),
        tail=line[end + 1 :],
        body="{\n" + body,
    )


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    found = pattern.match(text)
    if found is None:
        raise ValueError(f"LLVM printed what it was not known to print: {text}")
    return found


def _closing(text: str, start: int) -> int:
    """Return where the parenthesis is closed that was opened before ``start``."""
    depth = 1
    for found in _PARTS.finditer(text, start):
        depth += _DEPTH.get(found[0], 0)
        if depth == 0:
            return found.start()
    raise ValueError(f"LLVM printed a parenthesis that is not closed: {text}")


def _split(text: str, separator: str) -> list[str]:
    """Return the parts between separators that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for found in _PARTS.finditer(text):
        depth += _DEPTH.get(found[0], 0)
        if depth == 0 and found[0] == separator:
            parts.append(text[start : found.start()])
            start = found.end()
    return [part for part in (*parts, text[start:]) if part]


def parameters(text: str) -> list[str]:
    """Return the parameters that a list has."""
    return _split(text, ", ")


def type_of(parameter: str) -> str:
    """Return a parameter's type, ``...`` for the last one of a function that takes any more."""
    return words(parameter)[0]


def words(text: str) -> list[str]:
    """Return the words outside of brackets; a type is one, also if it is printed with a blank (``void (i32)*``)."""
    joined: list[str] = []
    for word in _split(text, " "):
        belongs = joined and word.startswith(("(", "addrspace("))
        joined.append(f"{joined.pop()} {word}" if belongs else word)
    return joined


def suffixed(name: str, suffix: str) -> str:
    """Return ``@f.suffix``."""
    return f'{name[:-1]}.{suffix}"' if name.endswith('"') else f"{name}.{suffix}"


def comdat(line: str, name: str) -> str:
    """Return the comdat, ``$f``, that the line of something with a name puts it into; empty for none."""
    found = next((found for found in _COMDAT.finditer(line) if found[1]), None)
    return "" if found is None else found[2] or f"${name[1:]}"


def without_comdat(line: str) -> str:
    """Return the line of something that is in no comdat."""
    return _COMDAT.sub(lambda found: "" if found[1] else found[0], line)
