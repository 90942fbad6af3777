"""Refuse modules whose functions cannot be cloned or dispatched, naming the function and the reason; change nothing."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from cpufeat.aot.llvm import syntax
from cpufeat.aot.llvm.module_text import LOCAL, reachable
from cpufeat.aot.llvm.syntax import STRING, plain, suffixed, tokens
from cpufeat.errors import CompileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpufeat.aot.llvm.job import Clones
    from cpufeat.aot.llvm.module_text import Module
    from cpufeat.aot.passes.clone_plan import Plan
    from cpufeat.aot.runtime.dispatcher import Dispatch

_RESERVED = re.compile(r'@"?__cpufeat_')
_GROUP_USE = re.compile(r"#\d+")
_VECTOR = re.compile(r"<(vscale x )?(\d+) x ([^<>]+)>(?!\*| addrspace)")
_FLOAT_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64}
_HALF_PRECISION = re.compile(r"(?<![-%\w$.])(?:half|bfloat)\b(?!\*| addrspace)")
_NAMED_TYPE = re.compile(rf"%(?:{STRING}|[-\w$.]+)(?![-\w$.]|\*| addrspace)", re.ASCII)
"""Other than of a pointer to it."""


def refusal(name: str, reason: str) -> CompileError:
    """Return the error about a function."""
    return CompileError(f"function {plain(name)}: {reason}", plain(name))


def check_reserved_names(module: Module) -> None:
    """Raise CompileError for a module with names that cpufeat uses itself."""
    bodies = (f"{name}{function.tail} {function.body}" for name, function in module.functions.items())
    if any(map(_RESERVED.search, chain([module.rest], bodies))):
        raise CompileError("it has names that begin with __cpufeat_, which are reserved for cpufeat")


def check(module: Module, plan: Plan, clones: Sequence[Clones], dispatch: Dispatch, *, lowest_runs: bool) -> None:
    """Raise CompileError for a module that cannot be cloned and dispatched as planned."""
    _check_new_names(module, plan, clones, dispatch)
    _check_duplicates(module, plan)
    _check_comdats(module)
    _check_signatures(module, plan, dispatch.abi.portable_vector_bits)
    if not lowest_runs:
        _check_resolvers(module, plan)


def _check_new_names(module: Module, plan: Plan, clones: Sequence[Clones], dispatch: Dispatch) -> None:
    existing = module.functions.keys() | {token.rstrip("(") for token in tokens(module.rest)}
    cloned = (suffixed(name, clone.label) for name in (*plan.cloned, *plan.label_tables) for clone in clones)
    helpers = (suffixed(name, suffix) for name in sorted(plan.dispatched) for suffix in dispatch.helpers)
    for name in chain(cloned, helpers):
        if name in existing:
            raise refusal(name, "the name is needed for a variant")


def _check_duplicates(module: Module, plan: Plan) -> None:
    marked = {group for group, text in module.groups.items() if "noduplicate" in text.split()}
    if not marked:
        return
    lines = [line for line in module.rest.splitlines() if line.startswith("declare ")]
    lines += [f"{name}({function.tail}" for name, function in module.functions.items()]
    single = {token for line in lines if marked & set(_GROUP_USE.findall(line)) for token in tokens(line)}
    for name, function in plan.cloned.items():
        if single & set(tokens(function.body)) or marked & set(_GROUP_USE.findall(function.body)):
            raise refusal(name, "it has a call that must not be duplicated (noduplicate)")


def _check_comdats(module: Module) -> None:
    for name, line in module.globals.items():
        if syntax.comdat(line, name) and module.linkage(name) in LOCAL and module.kinds.get(name) != "constant":
            raise CompileError(f"{plain(name)}: local data in a comdat, which clones outside of it would not share")


def _check_signatures(module: Module, plan: Plan, portable_bits: int) -> None:
    for name in sorted(plan.dispatched):
        types = _with_parts(module, module.functions[name].type)
        value = next(chain.from_iterable(_unportable(type_, portable_bits) for type_ in types), None)
        if value:
            raise refusal(
                name,
                f"it takes or returns {value} by value, in registers that may differ between variants: pass a pointer",
            )


def _with_parts(module: Module, type_: str) -> list[str]:
    """Return a type and the named ones that values of it consist of."""
    parts = {name: _NAMED_TYPE.findall(text) for name, text in module.types.items()}
    named = reachable(_NAMED_TYPE.findall(type_), lambda name: parts.get(name, ()))
    return [type_, *(module.types[name] for name in sorted(named))]


def _unportable(type_: str, portable_bits: int) -> Iterator[str]:
    """Yield the parts of a type that variants may pass in different registers.

    Vectors of up to ``portable_bits`` are passed in the same ones; if that is 0, half precision is not either.
    """
    for match in _VECTOR.finditer(type_):
        scalable, count, element = match.groups()
        bits = int(element[1:]) if element[1:].isdecimal() else _FLOAT_BITS.get(element, 64)
        if scalable or bits == 1 or int(count) * bits > portable_bits:
            yield match[0]
    if not portable_bits:
        yield from _HALF_PRECISION.findall(type_)


def _check_resolvers(module: Module, plan: Plan) -> None:
    for name in sorted(plan.resolvers & module.functions.keys()):
        if not plan.direct.keys().isdisjoint(syntax.callees(module.functions[name].body)):
            reason = "it resolves an ifunc, and calls a function without a variant that runs on every machine"
            raise refusal(name, reason)
