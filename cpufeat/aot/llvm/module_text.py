"""Parse textual LLVM IR, as LLVM prints it, into definitions, globals and attribute groups.

A function's definition begins at a line ``define`` and ends at a line ``}``; everything else has a line of its own. The
passes of :mod:`cpufeat.aot.passes` take a :class:`Module` and return another one.
"""

from __future__ import annotations

import re
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cpufeat.aot.llvm import syntax
from cpufeat.aot.llvm.syntax import NAME, STRING
from cpufeat.errors import CompileError
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
LOCAL = ("private", "internal")
"""Linkages of what no other object sees."""
_HEAD = re.compile(
    r"(?:(private|internal|weak|weak_odr|linkonce|linkonce_odr|available_externally) )?"
    r"(dso_local )?(?:(hidden|protected) )?(?:(dllexport) )?(.*)"
)
_UP_TO_NAME = re.compile(rf"(?:{STRING}|[^\"@])*({NAME})\(", re.ASCII)
_BEFORE_GROUPS = re.compile(r"(?: local_unnamed_addr| unnamed_addr)?(?: addrspace\(\d+\))?(?: #\d+)*")
_GLOBAL = re.compile(rf"^({NAME}) = .*$", re.MULTILINE | re.ASCII)
_LINKAGE = re.compile(rf"{NAME} = (\w+) ", re.ASCII)
_KIND = re.compile(rf"{NAME} = (?:[\w()]+ )*?(alias|ifunc|constant|global) ", re.ASCII)
_AIM = re.compile(rf" ({NAME})(?:, partition {STRING})?$", re.ASCII)
"""The aliasee of an alias, or the resolver of an ifunc, if it is a name and no expression."""
_GROUP = re.compile(r"^attributes (#\d+) = \{ (.*) \}$", re.MULTILINE)
_GROUP_USE = re.compile(r"#\d+")
_STRING = re.compile(STRING)
_TYPE = re.compile(rf"^(%(?:{STRING}|[-\w$.]+)) = type (.*)$", re.MULTILINE | re.ASCII)


class Function(NamedTuple):
    """A definition, each part as it is printed."""

    name: str
    """The name, with the ``@``, and with quotes where it needs them."""
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
    """The return type."""
    parameters: tuple[str, ...]
    """The parameters, each with type, attributes and name; the last may be ``...``."""
    tail: str
    """The text before the body, with a blank in front: attributes, section, comdat, personality, metadata."""
    body: str
    """The text from ``{`` to ``}``."""

    @property
    def is_local(self) -> bool:
        """Whether no other object sees it."""
        return self.linkage in LOCAL

    @property
    def type(self) -> str:
        """The function's type, ``i32 (ptr, ...)``."""
        return f"{self.returns} ({', '.join(map(syntax.type_of, self.parameters))})"

    @property
    def groups(self) -> list[str]:
        """The attribute groups, ``#7``."""
        return _GROUP_USE.findall(_STRING.sub("", self.tail))

    def local(self, name: str) -> Function:
        """Return the function under another name, visible in this object only and outside of any comdat."""
        tail = syntax.without_comdat(self.tail)
        return self._replace(name=name, linkage="internal", dso_local="", visibility="", storage="", tail=tail)

    def with_attributes(self, groups: str) -> Function:
        """Return the function with more groups of attributes, ``#7 #8``."""
        end = _match(_BEFORE_GROUPS, self.tail).end()
        return self._replace(tail=f"{self.tail[:end]} {groups}{self.tail[end:]}")

    def __str__(self) -> str:
        before = (self.linkage, self.dso_local, self.visibility, self.storage, self.convention, self.returns)
        head = " ".join(word for word in ("define", *before) if word)
        return f"{head} {self.name}({', '.join(self.parameters)}){self.tail} {self.body}\n"


class Module(Value):
    """A parsed module."""

    functions: dict[str, Function]
    """The defined functions by name, in order."""
    rest: str
    """All other lines."""

    def __str__(self) -> str:
        return "".join([self.rest, *map(str, self.functions.values())])

    @cached_property
    def globals(self) -> dict[str, str]:
        """The line that defines each variable, alias or ifunc."""
        return {match[1]: match[0] for match in _GLOBAL.finditer(self.rest)}

    @cached_property
    def kinds(self) -> dict[str, str]:
        """``alias``, ``ifunc``, ``constant`` or ``global`` for each of the globals."""
        return {name: match[1] for name, line in self.globals.items() if (match := _KIND.match(line))}

    @cached_property
    def aliases(self) -> dict[str, str]:
        """The aliasee of each alias, where that is a name."""
        return self._aims("alias")

    @cached_property
    def ifuncs(self) -> dict[str, str]:
        """The resolver of each ifunc, where that is a name."""
        return self._aims("ifunc")

    def _aims(self, kind: str) -> dict[str, str]:
        lines = ((name, self.globals[name]) for name, kind_of_name in self.kinds.items() if kind_of_name == kind)
        return {name: match[1] for name, line in lines if (match := _AIM.search(line))}

    @cached_property
    def groups(self) -> dict[str, str]:
        """The text of each attribute group, ``#7``."""
        return {match[1]: match[2] for match in _GROUP.finditer(self.rest)}

    @cached_property
    def types(self) -> dict[str, str]:
        """The type that each named type, ``%pair``, stands for."""
        return {match[1]: match[2] for match in _TYPE.finditer(self.rest)}

    def free_group(self) -> int:
        """Return the first number from which on there is no attribute group."""
        return 1 + max((int(group[1:]) for group in self.groups), default=-1)

    def attributes(self, function: Function) -> set[str]:
        """Return the words in the attribute groups of a function."""
        return set(chain.from_iterable(self.groups.get(group, "").split() for group in function.groups))

    def linkage(self, name: str) -> str:
        """Return the linkage of a global."""
        match = _LINKAGE.match(self.globals[name])
        return match[1] if match else ""


def parse(text: str) -> Module:
    """Parse a module that LLVM printed. Raises CompileError for what LLVM is not known to print."""
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
    named = _match(_UP_TO_NAME, line)
    linkage, dso_local, visibility, storage, head = _match(_HEAD, line[len("define ") : named.start(1) - 1]).groups()
    *convention, returns = syntax.words(head)
    end = _closing(line, named.end())
    return Function(
        name=named[1],
        linkage=linkage or "",
        dso_local=(dso_local or "").strip(),
        visibility=visibility or "",
        storage=storage or "",
        convention=" ".join(convention),
        returns=returns,
        parameters=tuple(syntax.parameters(line[named.end() : end])),
        tail=line[end + 1 :],
        body="{\n" + body,
    )


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.match(text)
    if match is None:
        raise CompileError(f"cannot parse what LLVM printed: {text}")
    return match


def _closing(text: str, start: int) -> int:
    """Return the index at which the parenthesis that was opened before ``start`` is closed."""
    depth = 1
    for match in syntax.BRACKET_OR_SEPARATOR.finditer(text, start):
        depth += syntax.DEPTH.get(match[0], 0)
        if depth == 0:
            return match.start()
    raise CompileError(f"cannot parse what LLVM printed, a parenthesis is not closed: {text}")


def reachable(roots: Iterable[T], successors: Callable[[T], Iterable[T]]) -> set[T]:
    """Return the nodes of a graph that can be reached from the roots, and these: a closure over calls or uses."""
    waiting = list(roots)
    reached = set(waiting)
    while waiting:
        new = set(successors(waiting.pop())) - reached
        reached |= new
        waiting += new
    return reached
