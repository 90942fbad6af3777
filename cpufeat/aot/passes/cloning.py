"""One module in which each function is there once for each target, made by a change of what LLVM prints.

A *clone* of ``f`` is ``f.x86-64-v3``: an internal function with that target in its own attributes. What a clone calls
directly is the clone for the same target. All else that names ``f`` (its address in data or in a register, an alias,
another object) means one symbol, which is *dispatched* (:mod:`cpufeat.aot.runtime.dispatcher`). Data is there once.

Exceptions, each for a reason:

- A function that may be replaced at link time (``weak``, LLVM's *interposable* linkages) is called by its symbol.
- Not cloned are ``available_externally`` functions, which are there only to be inlined; naked ones, whose assembly may
  define symbols; resolvers of the module's own ifuncs, which run when nothing may be dispatched yet; and interrupt
  handlers, which no jump can lead to.
- Local data with addresses of labels (``blockaddress``) is there once for each target, as the labels are.
- Clones are outside of the function's comdat: a linker that discards it would discard what other clones call.
- Clones begin at a cache line. With LLVM's alignment to 16 bytes, a loop that lies well in an object for one target may
  lie badly behind clones for another (a matrix product took 7 % longer on Zen 5).
- Of debug information, what belongs to one function (all that leads to its DISubprogram) is there once for each clone.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from cpufeat.aot.llvm import module_text
from cpufeat.aot.llvm.module_text import LOCAL, NAME, STRING, TOKEN, suffixed
from cpufeat.errors import CompileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.aot.llvm.job import Clones
    from cpufeat.aot.llvm.module_text import Function
    from cpufeat.aot.runtime.dispatcher import Dispatch

T = TypeVar("T")
_OURS = re.compile(r'@"?__cpufeat_')
_LINE = re.compile(rf"^({NAME}) = .*$", re.MULTILINE | re.ASCII)
"""What defines data, an alias or an ifunc."""
_LINKAGE = re.compile(rf"{NAME} = (\w+) ", re.ASCII)
_KIND = re.compile(rf"{NAME} = (?:[\w()]+ )*?(alias|ifunc|constant|global) ", re.ASCII)
_LAST = re.compile(rf" ({NAME})(?:, partition {STRING})?$", re.ASCII)
"""What an alias or an ifunc leads to, if that is a thing of a name."""
_USED = ("@llvm.used", "@llvm.compiler.used")
_REAL = re.compile(rf"\b(?:dso_local_equivalent|no_cfi) ({NAME})", re.ASCII)
"""What must be a function and no ``ifunc``."""
_MAIN = "@main"
"""A static program of glibc takes its address before it resolves any ``ifunc``."""
_ITSELF = re.compile(r"@llvm\.(?:init\.trampoline|localrecover|eh\.recoverfp|coro)\b[^\n]*")
"""Calls of intrinsics that take a function itself, and not what leads to one."""
_INTERPOSABLE = ("weak", "linkonce")
_INTERPOSITION = re.compile(r'^!\d+ = !\{i32 \d+, !"SemanticInterposition", i32 [1-9]', re.MULTILINE)
_NEVER_CALLED = "x86_intrcc"
"""The calling convention of interrupt handlers."""
_GROUP = re.compile(r"^attributes (#\d+) = \{ (.*) \}$", re.MULTILINE)
_GROUP_USE = re.compile(r"#\d+")
_PROTECTION = re.compile(r'"(?:branch-target-enforcement|guarded-control-stack|sign-return-address)[^"]*"(?:="[^"]*")?')
"""AArch64's branch protection, which a program has if all of its functions have it."""
_NODE = re.compile(r"^!(\d+) = (.*)$", re.MULTILINE)
_NODE_USE = re.compile(rf"{STRING}|!(\d+)")
_OF_A_FUNCTION = ("distinct !DISubprogram(", "distinct !DIAssignID(")
_OF_THE_MODULE = "distinct !DICompileUnit("
_VECTOR = re.compile(r"<(vscale x )?(\d+) x ([^<>]+)>(?!\*| addrspace)")
_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64}
_CACHE_LINE = 64
_ALIGNED = re.compile(r" align \d+")
_SMALL_OR_COLD = frozenset({"cold", "minsize", "optnone", "optsize"})
_HALF = re.compile(r"(?<![-%\w$.])(?:half|bfloat)\b(?!\*| addrspace)")
_TYPE = rf"%(?:{STRING}|[-\w$.]+)"
_TYPE_LINE = re.compile(rf"^({_TYPE}) = type (.*)$", re.MULTILINE | re.ASCII)
_TYPE_USE = re.compile(rf"{_TYPE}(?![-\w$.]|\*| addrspace)", re.ASCII)
"""Other than of a pointer to it."""


def merge(text: str, clones: Sequence[Clones], dispatch: Dispatch, *, lowest_runs: bool) -> str:
    """Return a module of which each function is there once for each target.

    ``text`` is what LLVM prints, without attributes that override the target, and with a name for every function.
    ``lowest_runs`` is whether any machine can run the last of the clones.

    Raises CompileError, which names the function, for what cannot be cloned.
    """
    if _OURS.search(text):
        raise CompileError("it has names that begin with __cpufeat_, which are cpufeat's own")
    try:
        source = _Source(text)
    except ValueError as error:
        raise CompileError(str(error)) from None
    source.check(clones, dispatch, lowest_runs=lowest_runs)
    return source.merged(clones, dispatch)


class _Source:
    """A module, and what is known about its functions."""

    def __init__(self, text: str) -> None:
        """Take the module apart. Raises ValueError for what LLVM was not known to print."""
        self.functions, self.rest = module_text.read(text)
        self.lines = {found[1]: found[0] for found in _LINE.finditer(self.rest)}
        self.kinds = {name: found[1] for name, line in self.lines.items() if (found := _KIND.match(line))}
        self.aliases = self._leading("alias")
        self.resolvers = set(self._leading("ifunc").values())
        self.groups = {found[1]: found[2] for found in _GROUP.finditer(self.rest)}
        self.types = {found[1]: found[2] for found in _TYPE_LINE.finditer(self.rest)}
        self.cloned = {name: one for name, one in self.functions.items() if not self._is_shared(one)}
        self.callable = self._callable("SemanticInterposition" in text and bool(_INTERPOSITION.search(text)))
        self.tables = self._tables()
        self.symbols = self._symbols()
        self.real = self._real(text)
        self.is_program = _MAIN in self.functions or _MAIN in self.aliases

    def _leading(self, kind: str) -> dict[str, str]:
        """Return the aliases or ifuncs, and what each leads to."""
        lines = ((name, self.lines[name]) for name, found in self.kinds.items() if found == kind)
        return {name: found[1] for name, line in lines if (found := _LAST.search(line))}

    def _is_shared(self, function: Function) -> bool:
        is_own = function.name in self.resolvers or function.convention.startswith(_NEVER_CALLED)
        return is_own or function.linkage == "available_externally" or "naked" in self._attributes(function)

    def _attributes(self, function: Function) -> set[str]:
        groups = (self.groups.get(group, "") for group in _GROUP_USE.findall(function.tail))
        return set(chain.from_iterable(words.split() for words in groups))

    def _begins_a_line(self, function: Function) -> bool:
        """Whether clones begin at a cache line: not where a function says how it is aligned, or is to be small."""
        return not _ALIGNED.search(function.tail) and _SMALL_OR_COLD.isdisjoint(self._attributes(function))

    def _callable(self, interposition: bool) -> dict[str, str]:
        """Return the names by which a clone can be called directly, and the function that each means."""
        found = {
            name: name
            for name, one in self.cloned.items()
            if one.linkage not in _INTERPOSABLE and not (interposition and not one.dso_local and not one.is_local)
        }
        for alias in self.aliases:
            meant, seen = alias, set()
            while meant in self.aliases and meant not in seen and self._linkage(meant) not in _INTERPOSABLE:
                seen.add(meant)
                meant = self.aliases[meant]
            if meant in self.cloned and meant in found:
                found[alias] = meant
        return found

    def _linkage(self, name: str) -> str:
        found = _LINKAGE.match(self.lines[name])
        return found[1] if found else ""

    def _tables(self) -> frozenset[str]:
        """Return the data that holds addresses of labels, or of such data. Raises CompileError for what others see."""
        found = {name for name, line in self.lines.items() if "blockaddress(" in line}
        if found:
            users: dict[str, list[str]] = {}
            for name, line in self.lines.items():
                for used in _tokens(line):
                    users.setdefault(used, []).append(name)
            found = _leading_to(found, users)
        for name in sorted(found):
            if self._linkage(name) not in LOCAL or name in self.aliases:
                raise CompileError(f"{_plain(name)}: addresses of labels in what other objects, or aliases, can reach")
        return frozenset(found)

    def _symbols(self) -> frozenset[str]:
        """Return the cloned functions that are named by more than direct calls from clones."""
        named = {name for name, one in self.cloned.items() if not one.is_local}
        named.update(_tokens(self.rest))
        for function in self.functions.values():
            body = _ITSELF.sub("", function.body)
            tokens = set(_tokens(f"{function.tail} {body}"))
            called = {token[:-1] for token in tokens if token.endswith("(")}
            if function.name in self.cloned:
                called -= self.callable.keys()
            named |= tokens if function.name in self.resolvers else tokens | called
        return frozenset(named & self.cloned.keys())

    def _real(self, text: str) -> frozenset[str]:
        """Return the functions that others know by several names, or that must not be an ``ifunc``."""
        used = chain.from_iterable(_tokens(self.lines[name]) for name in _USED if name in self.lines)
        return frozenset((_MAIN, *self.aliases.values(), *used, *_REAL.findall(text)))

    def check(self, clones: Sequence[Clones], dispatch: Dispatch, *, lowest_runs: bool) -> None:
        """Raise CompileError for what cannot be cloned, or not be dispatched."""
        self._check_names(clones, dispatch)
        self._check_duplicates()
        for name, line in self.lines.items():
            if module_text.comdat(line, name) and self._linkage(name) in LOCAL and self.kinds.get(name) != "constant":
                raise CompileError(
                    f"{_plain(name)}: local data in a comdat, which clones outside of it would not share"
                )
        for name in sorted(self.symbols):
            kinds = self._with_parts(self.functions[name].type)
            value = next(chain.from_iterable(_unportable(kind, dispatch.vector) for kind in kinds), None)
            if value:
                what = f"{value} by value, in registers that may differ between variants: hand over a pointer"
                raise _refusal(name, f"it takes or returns {what}")
        for name in sorted(self.resolvers & self.functions.keys()):
            if not lowest_runs and any(token[:-1] in self.callable for token in _tokens(self.functions[name].body)):
                raise _refusal(name, "it resolves an ifunc, and calls what no variant has that runs anywhere")

    def _with_parts(self, kind: str) -> list[str]:
        """Return a type and the named ones that values of it consist of."""
        parts = {name: _TYPE_USE.findall(text) for name, text in self.types.items()}
        return [kind, *(self.types[name] for name in sorted(_leading_to(set(_TYPE_USE.findall(kind)), parts)))]

    def _check_names(self, clones: Sequence[Clones], dispatch: Dispatch) -> None:
        taken = self.functions.keys() | {token.rstrip("(") for token in _tokens(self.rest)}
        cloned = (suffixed(name, one.label) for name in (*self.cloned, *self.tables) for one in clones)
        helpers = (suffixed(name, suffix) for name in sorted(self.symbols) for suffix in dispatch.helpers)
        for name in chain(cloned, helpers):
            if name in taken:
                raise _refusal(name, "that name is needed for a variant")

    def _check_duplicates(self) -> None:
        marked = {group for group, words in self.groups.items() if "noduplicate" in words.split()}
        if not marked:
            return
        lines = [line for line in self.rest.splitlines() if line.startswith("declare ")]
        lines += [f"{name}({one.tail}" for name, one in self.functions.items()]
        single = {token for line in lines if marked & set(_GROUP_USE.findall(line)) for token in _tokens(line)}
        for name, one in self.cloned.items():
            if single & set(_tokens(one.body)) or marked & set(_GROUP_USE.findall(one.body)):
                raise _refusal(name, "it has a call that must not be duplicated (noduplicate)")

    def merged(self, clones: Sequence[Clones], dispatch: Dispatch) -> str:
        """Return the module's text with the functions cloned and dispatched."""
        first = 1 + max((int(group[1:]) for group in self.groups), default=-1)
        names = [self._names(one.label) for one in clones]
        nodes = _Nodes(self.rest)
        line = f"#{first + len(clones)}"
        parts = [self._rest(names), dispatch.declaration(), f"attributes {line} = {{ align={_CACHE_LINE} }}\n"]
        for index, one in enumerate(clones):
            group = f"#{first + index}"
            change = {**names[index], **nodes.renamed(index)}
            parts.append(f'attributes {group} = {{ "target-cpu"="{one.cpu}" "target-features"="{one.features}" }}\n')
            for function in self.cloned.values():
                groups = f"{group} {line}" if self._begins_a_line(function) else group
                parts.append(str(self._clone(function, one.label, change).with_attributes(groups)))
            parts.append(nodes.definitions(index))
        parts += (str(self._shared(one, names[-1])) for one in self.functions.values() if one.name not in self.cloned)
        parts += (self._symbol(self.functions[name], dispatch) for name in self.functions if name in self.symbols)
        return "".join(parts)

    def _names(self, label: str) -> dict[str, str]:
        """Return what stands in a clone for each of the tokens that mean something else there."""
        return {
            **{f"{called}(": f"{suffixed(name, label)}(" for called, name in self.callable.items()},
            **{f"blockaddress({name}": f"blockaddress({suffixed(name, label)}" for name in self.cloned},
            **{name: suffixed(name, label) for name in self.tables},
        }

    def _clone(self, function: Function, label: str, change: dict[str, str]) -> Function:
        def for_itself(call: re.Match[str]) -> str:
            return _renamed(call[0], {name: suffixed(name, label) for name in self.cloned})

        clone = function.local(suffixed(function.name, label))
        body = _ITSELF.sub(for_itself, clone.body)
        return clone._replace(tail=_renamed(clone.tail, change), body=_renamed(body, change))

    def _rest(self, names: list[dict[str, str]]) -> str:
        """Return all that is no function, with data that clones have of their own once for each."""

        def line(found: re.Match[str]) -> str:
            name = found[1]
            if name in self.tables:
                return "\n".join(_renamed(found[0], change) for change in names)
            return module_text.without_comdat(found[0]) if self._linkage(name) in LOCAL else found[0]

        return _LINE.sub(line, self.rest)

    def _shared(self, function: Function, lowest: dict[str, str]) -> Function:
        """Return a function that is not cloned. What resolves an ifunc cannot go through another one."""
        if function.name not in self.resolvers:
            return function
        calls = {token: name for token, name in lowest.items() if token.endswith("(")}
        return function._replace(body=_renamed(function.body, calls))

    def _symbol(self, function: Function, dispatch: Dispatch) -> str:
        groups = (self.groups.get(group, "") for group in _GROUP_USE.findall(function.tail))
        protection = " ".join(["uwtable", *(found for words in groups for found in _PROTECTION.findall(words))])
        alone = not (self.is_program or function.is_local or function.visibility or function.name in self.real)
        try:
            return dispatch.symbol(function, protection, alone=alone)
        except ValueError as error:
            raise _refusal(function.name, str(error)) from None


class _Nodes:
    """The numbered metadata that belongs to one function or another."""

    def __init__(self, rest: str) -> None:
        self._lines = {int(found[1]): found[2] for found in _NODE.finditer(rest)}
        self._span = 1 + max(self._lines, default=0)
        self._own = self._of_functions()

    def _of_functions(self) -> list[int]:
        """Return what leads to a function's description, other than by way of the description of the module."""
        users: dict[int, list[int]] = {}
        for node, line in self._lines.items():
            if not line.startswith(_OF_THE_MODULE):
                for used in _NODE_USE.findall(line):
                    if used:
                        users.setdefault(int(used), []).append(node)
        return sorted(
            _leading_to({node for node, line in self._lines.items() if line.startswith(_OF_A_FUNCTION)}, users)
        )

    def renamed(self, index: int) -> dict[str, str]:
        """Return the numbers that clones of a variant have in place of their originals', which the first one keeps."""
        return {f"!{node}": f"!{node + index * self._span}" for node in self._own} if index else {}

    def definitions(self, index: int) -> str:
        """Return the metadata of a variant's clones."""
        change = self.renamed(index)
        return "".join(f"{change[f'!{node}']} = {_renamed(self._lines[node], change)}\n" for node in self._own if index)


def _leading_to(things: set[T], users: dict[T, list[T]]) -> set[T]:
    """Return things and all that leads to them, by which others use each."""
    found, waiting = set(things), list(things)
    while waiting:
        new = set(users.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


def _tokens(text: str) -> list[str]:
    return TOKEN.findall(text)


def _renamed(text: str, change: dict[str, str]) -> str:
    return "".join([change.get(part, part) for part in TOKEN.split(text)])


def _unportable(kind: str, most: int) -> Iterator[str]:
    """Yield what in a type is not sure to be passed the same way by each variant, as vectors of so many bits are."""
    for found in _VECTOR.finditer(kind):
        scalable, count, element = found.groups()
        bits = int(element[1:]) if element[1:].isdecimal() else _BITS.get(element, 64)
        if scalable or bits == 1 or int(count) * bits > most:
            yield found[0]
    if not most:
        yield from _HALF.findall(kind)


def _plain(name: str) -> str:
    return name[1:].strip('"')


def _refusal(name: str, why: str) -> CompileError:
    return CompileError(f"function {_plain(name)}: {why}", _plain(name))
