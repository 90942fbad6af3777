"""Decide which functions :mod:`.cloning` clones, which names call a clone directly, and which are dispatched."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from cpufeat.aot.llvm.module_text import LOCAL, reachable
from cpufeat.aot.llvm.syntax import NAME, plain, tokens
from cpufeat.errors import CompileError
from cpufeat.support.value import Value

if TYPE_CHECKING:
    from cpufeat.aot.llvm.module_text import Function, Module

_INTERPOSABLE = ("weak", "linkonce")
_INTERPOSITION = re.compile(r'^!\d+ = !\{i32 \d+, !"SemanticInterposition", i32 [1-9]', re.MULTILINE)
_INTERRUPT_HANDLER = "x86_intrcc"
"""A calling convention: no code calls or jumps to such a function."""
_MAIN = "@main"
"""A static program of glibc takes its address before it resolves any ``ifunc``."""
_USED_LISTS = ("@llvm.used", "@llvm.compiler.used")
_NO_IFUNC = re.compile(rf"\b(?:dso_local_equivalent|no_cfi) ({NAME})", re.ASCII)
"""References to functions that must not become an ``ifunc``."""
TAKES_ITSELF = re.compile(r"@llvm\.(?:init\.trampoline|localrecover|eh\.recoverfp|coro)\b[^\n]*")
"""Calls of intrinsics that take a function itself, and not its dispatched symbol."""


class Plan(Value):
    """What cloning does with each function of a module."""

    cloned: dict[str, Function]
    """The functions of which there is a clone for each target."""
    direct: dict[str, str]
    """The names whose direct calls go to a clone, and the function that each means."""
    label_tables: frozenset[str]
    """The data that is there once for each target: it holds addresses of labels, or of such data."""
    dispatched: frozenset[str]
    """The cloned functions that are named by more than direct calls from clones."""
    not_ifunc: frozenset[str]
    """Names that must stay functions: others know them by several names, or take their address early."""
    resolvers: frozenset[str]
    """The resolvers of the module's own ifuncs."""
    is_program: bool
    """Whether the module defines ``main``."""


def plan(module: Module) -> Plan:
    """Return the plan for a module. Raises CompileError for addresses of labels that other objects can reach."""
    resolvers = frozenset(module.ifuncs.values())
    cloned = {name: function for name, function in module.functions.items() if _is_cloned(module, function, resolvers)}
    direct = _direct(module, cloned)
    return Plan(
        cloned=cloned,
        direct=direct,
        label_tables=_label_tables(module),
        dispatched=_dispatched(module, cloned, direct, resolvers),
        not_ifunc=_not_ifunc(module),
        resolvers=resolvers,
        is_program=_MAIN in module.functions or _MAIN in module.aliases,
    )


def _is_cloned(module: Module, function: Function, resolvers: frozenset[str]) -> bool:
    if function.name in resolvers or function.convention.startswith(_INTERRUPT_HANDLER):
        return False
    return function.linkage != "available_externally" and "naked" not in module.attributes(function)


def _direct(module: Module, cloned: dict[str, Function]) -> dict[str, str]:
    may_be_interposed = "SemanticInterposition" in module.rest and bool(_INTERPOSITION.search(module.rest))
    direct = {
        name: name
        for name, function in cloned.items()
        if function.linkage not in _INTERPOSABLE and (function.dso_local or function.is_local or not may_be_interposed)
    }
    for alias in module.aliases:
        name, visited = alias, set()
        while name in module.aliases and name not in visited and module.linkage(name) not in _INTERPOSABLE:
            visited.add(name)
            name = module.aliases[name]
        if name in direct:
            direct[alias] = name
    return direct


def _label_tables(module: Module) -> frozenset[str]:
    roots = {name for name, line in module.globals.items() if "blockaddress(" in line}
    if not roots:
        return frozenset()
    users: dict[str, list[str]] = {}
    for name, line in module.globals.items():
        for used in tokens(line):
            users.setdefault(used, []).append(name)
    tables = reachable(roots, lambda name: users.get(name, ()))
    for name in sorted(tables):
        if module.linkage(name) not in LOCAL or name in module.aliases:
            raise CompileError(f"{plain(name)}: addresses of labels in data that other objects, or aliases, can reach")
    return frozenset(tables)


def _dispatched(
    module: Module, cloned: dict[str, Function], direct: dict[str, str], resolvers: frozenset[str]
) -> frozenset[str]:
    names = {name for name, function in cloned.items() if not function.is_local}
    names.update(tokens(module.rest))
    for function in module.functions.values():
        used = set(tokens(f"{function.tail} {TAKES_ITSELF.sub('', function.body)}"))
        names |= used
        if function.name not in resolvers:
            called = {token[:-1] for token in used if token.endswith("(")}
            names |= called - direct.keys() if function.name in cloned else called
    return frozenset(names & cloned.keys())


def _not_ifunc(module: Module) -> frozenset[str]:
    listed = chain.from_iterable(tokens(module.globals[name]) for name in _USED_LISTS if name in module.globals)
    texts = [module.rest, *(f"{function.tail} {function.body}" for function in module.functions.values())]
    marked = chain.from_iterable(map(_NO_IFUNC.findall, texts))
    return frozenset((_MAIN, *module.aliases.values(), *listed, *marked))
