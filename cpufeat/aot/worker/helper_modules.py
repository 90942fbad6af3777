"""Link cpufeat's own modules (guard, selector) into the user's module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cpufeat.aot.worker.module_functions import LOCAL, defined, name_of
from cpufeat.errors import CompileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.aot.llvm.job import Llvmlite

_CONSTRUCTOR = "{ i32, void ()*, i8* }"
_CONSTRUCTOR_NAME = re.compile(r' appending global \[\d+ x (%(?:"[^"]*"|[-\w$.]+))\] ', re.ASCII)


def with_constructors_of(module: Llvmlite, helper: str) -> str:
    """Return a helper's text with a list of constructors that the linker can join to the module's.

    Both lists must be of one type; a module may have given it a name.
    """
    lists = (str(variable) for variable in module.global_variables if name_of(variable) == "llvm.global_ctors")
    named = _CONSTRUCTOR_NAME.search(next(lists, ""))
    return f"{named[1]} = type {_CONSTRUCTOR}\n{helper.replace(_CONSTRUCTOR, named[1])}" if named else helper


def link(module: Llvmlite, helpers: Sequence[Llvmlite], name: str) -> None:
    """Link helpers into a module of that name. Their local functions that others call are local again afterwards.

    Raises CompileError if LLVM refuses.
    """
    modules = (module, *helpers)
    needed = {name_of(function) for linked in modules for function in linked.functions if function.is_declaration}
    shared = [function for helper in helpers for function in defined(helper) if function.linkage in LOCAL]
    names = []
    for function in shared:
        if function.name in needed:
            function.linkage = "external"
            names.append(function.name)
    for helper in helpers:
        try:
            module.link_in(helper)
        except RuntimeError as error:
            raise CompileError(f"{name}: cpufeat's own code cannot be linked with it: {error}") from None
    for symbol in names:
        module.get_function(symbol).linkage = "internal"
