"""Clone every function once per target by rewriting textual IR: function multiversioning.

A *clone* of ``f`` is ``f.x86-64-v3``: an internal function with that target in its own attributes. A direct call from a
clone goes to the clone for the same target. Everything else that names ``f`` (its address in data or in a register, an
alias, another object) means one symbol, which is *dispatched* (:mod:`cpufeat.aot.runtime.dispatcher`). Data is not
cloned.

Exceptions, each for a reason:

- A function that may be replaced at link time (``weak``, LLVM's *interposable* linkages) is called by its symbol.
- Some functions are not cloned: ``available_externally`` ones, which exist only to be inlined; naked ones, whose
  assembly may define symbols; resolvers of the module's own ifuncs, which run when nothing may be dispatched yet; and
  interrupt handlers, to which no code can jump.
- Local data with addresses of labels (``blockaddress``) is cloned, as the labels are.
- Clones are outside of the function's comdat: a linker that discards it would discard what other clones call.
- Clones begin at a cache line. With LLVM's alignment to 16 bytes, a loop that lies well in an object for one target may
  lie badly behind clones for another (a matrix product took 7 % longer on Zen 5).
- Debug information that belongs to one function (all that leads to its DISubprogram) is cloned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cpufeat.aot.llvm import syntax
from cpufeat.aot.llvm.module_text import LOCAL, Module
from cpufeat.aot.llvm.syntax import renamed, suffixed
from cpufeat.aot.passes.clone_checks import check, check_reserved_names, refusal
from cpufeat.aot.passes.clone_metadata import FunctionMetadata
from cpufeat.aot.passes.clone_plan import TAKES_ITSELF, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.aot.llvm.job import Clones
    from cpufeat.aot.llvm.module_text import Function
    from cpufeat.aot.passes.clone_plan import Plan
    from cpufeat.aot.runtime.dispatcher import Dispatch

    Names = dict[str, str]
    """Tokens, and what replaces each in the clones for one target."""

_BRANCH_PROTECTION = re.compile(
    r'"(?:branch-target-enforcement|guarded-control-stack|sign-return-address)[^"]*"(?:="[^"]*")?'
)
"""AArch64's, which a program has only if all of its functions have it."""
_CACHE_LINE = 64
_ALIGNED = re.compile(r" align \d+")
_SMALL_OR_COLD = frozenset({"cold", "minsize", "optnone", "optsize"})


def clone(module: Module, clones: Sequence[Clones], dispatch: Dispatch, *, lowest_runs: bool) -> Module:
    """Return a module with a clone of each function for each target, and with what dispatches them.

    No function may have a target of its own yet, and each must have a name. ``lowest_runs`` is whether every machine
    can run the last of the clones. Raises CompileError, which names the function, for what cannot be cloned.
    """
    check_reserved_names(module)
    planned = plan(module)
    check(module, planned, clones, dispatch, lowest_runs=lowest_runs)
    names = [_names(planned, variant.label) for variant in clones]
    metadata = FunctionMetadata(module.rest)
    first = module.free_group()
    aligned = f"#{first + len(clones)}"
    rest = [_data(module, planned, names), dispatch.declaration()]
    rest.append(f"attributes {aligned} = {{ align={_CACHE_LINE} }}\n")
    functions: list[Function] = []
    for index, variant in enumerate(clones):
        group, changes = f"#{first + index}", {**names[index], **metadata.renamed(index)}
        rest.append(f'attributes {group} = {{ "target-cpu"="{variant.cpu}" "target-features"="{variant.features}" }}\n')
        rest.append(metadata.definitions(index))
        for function in planned.cloned.values():
            groups = f"{group} {aligned}" if _begins_at_a_cache_line(module, function) else group
            functions.append(_clone(function, variant.label, planned, changes).with_attributes(groups))
    functions += _not_cloned(module, planned, names[-1])
    for name, function in module.functions.items():
        if name in planned.dispatched:
            dispatched = _dispatch(module, planned, function, dispatch)
            rest.append(dispatched.rest)
            functions += dispatched.functions.values()
    return Module({function.name: function for function in functions}, "".join(rest))


def _names(planned: Plan, label: str) -> Names:
    return {
        **{f"{name}(": f"{suffixed(function, label)}(" for name, function in planned.direct.items()},
        **{f"blockaddress({name}": f"blockaddress({suffixed(name, label)}" for name in planned.cloned},
        **{name: suffixed(name, label) for name in planned.label_tables},
    }


def _data(module: Module, planned: Plan, names: Sequence[Names]) -> str:
    """Return the lines outside of functions, with a copy of each label table for each target."""
    changed = {}
    for name, line in module.globals.items():
        if name in planned.label_tables:
            changed[line] = "\n".join(renamed(line, variant) for variant in names)
        elif module.linkage(name) in LOCAL:
            changed[line] = syntax.without_comdat(line)
    return "\n".join(changed.get(line, line) for line in module.rest.split("\n"))


def _begins_at_a_cache_line(module: Module, function: Function) -> bool:
    """Whether clones of a function do: not if it states an alignment, or is to be small."""
    return not _ALIGNED.search(function.tail) and _SMALL_OR_COLD.isdisjoint(module.attributes(function))


def _clone(function: Function, label: str, planned: Plan, names: Names) -> Function:
    def with_clones(call: re.Match[str]) -> str:
        return renamed(call[0], {name: suffixed(name, label) for name in planned.cloned})

    copy = function.local(suffixed(function.name, label))
    body = TAKES_ITSELF.sub(with_clones, copy.body)
    return copy._replace(tail=renamed(copy.tail, names), body=renamed(body, names))


def _not_cloned(module: Module, planned: Plan, lowest: Names) -> list[Function]:
    """Return the functions that are not cloned. An ifunc's resolver calls clones, as it cannot go through an ifunc."""
    calls = {token: name for token, name in lowest.items() if token.endswith("(")}
    functions = (function for name, function in module.functions.items() if name not in planned.cloned)
    return [
        function._replace(body=renamed(function.body, calls)) if function.name in planned.resolvers else function
        for function in functions
    ]


def _dispatch(module: Module, planned: Plan, function: Function, dispatch: Dispatch) -> Module:
    """Return the definitions of a function's dispatched symbol."""
    texts = (module.groups.get(group, "") for group in function.groups)
    protection = [attribute for text in texts for attribute in _BRANCH_PROTECTION.findall(text)]
    may_be_ifunc = not (
        planned.is_program or function.is_local or function.visibility or function.name in planned.not_ifunc
    )
    try:
        return dispatch.symbol(function, " ".join(["uwtable", *protection]), may_be_ifunc=may_be_ifunc)
    except ValueError as error:
        raise refusal(function.name, str(error)) from None
