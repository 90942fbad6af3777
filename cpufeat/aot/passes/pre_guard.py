"""Give functions that run before the start-up guard (:mod:`cpufeat.aot.runtime.guard`) the baseline as their target.

Such functions are resolvers of ``ifunc`` symbols, constructors of priority 0, which is the guard's own, and those in
``.preinit_array``, with everything that they call by name. Functions whose addresses they only return run later.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from cpufeat.aot.llvm.module_text import reachable
from cpufeat.aot.llvm.syntax import NAME, callees

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.aot.llvm.module_text import Module

_SIGNS = re.compile(r" ifunc |llvm\.global_ctors|\.preinit_array")
_FIRST = re.compile(rf"\bi32 0, (?:ptr|void \(\)\*) ({NAME})", re.ASCII)
_PREINIT_ARRAY = re.compile(rf"^{NAME} = .* (\S.*), section \"\.preinit_array[\".].*$", re.MULTILINE | re.ASCII)
_NAME = re.compile(NAME, re.ASCII)


def may_apply(text: str) -> bool:
    """Whether the text of a module may have code that runs so early: a quick test before the module is parsed."""
    return bool(_SIGNS.search(text))


def for_baseline(module: Module, cpu: str) -> Module:
    """Return the module with its early code for that CPU, without features beyond it.

    No function may have a target of its own yet.
    """
    functions = module.functions

    def called(name: str) -> list[str]:
        return [callee for callee in callees(functions[name].body) if callee in functions]

    early = reachable((name for name in _roots(module) if name in functions), called)
    if not early:
        return module
    group = f"#{module.free_group()}"
    attributes = f'attributes {group} = {{ "target-cpu"="{cpu}" "target-features"="" "tune-cpu"="generic" }}\n'
    changed = {name: functions[name].with_attributes(group) for name in functions if name in early}
    return module.replace(functions={**functions, **changed}, rest=module.rest + attributes)


def _roots(module: Module) -> Iterator[str]:
    yield from module.ifuncs.values()
    yield from _FIRST.findall(module.globals.get("@llvm.global_ctors", ""))
    yield from chain.from_iterable(map(_NAME.findall, _PREINIT_ARRAY.findall(module.rest)))
