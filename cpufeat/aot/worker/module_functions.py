"""List the functions that an llvmlite module defines, read their names, and change their linkage."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cpufeat.support.extras import extra

with extra("aot"):
    from llvmlite import binding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.aot.llvm.job import Llvmlite, Range

LOCAL: tuple[Llvmlite, ...] = (binding.Linkage.internal, binding.Linkage.private)


def defined(module: Llvmlite) -> list[Llvmlite]:
    """Return the functions that a module defines."""
    return [function for function in module.functions if not function.is_declaration]


def name_of(function: Llvmlite) -> str:
    """Return the name of a function or variable."""
    try:
        return str(function.name)
    except UnicodeDecodeError:
        return "(a name that is not UTF-8)"


@contextlib.contextmanager
def exported_resolvers(module: Llvmlite) -> Iterator[None]:
    """Export the resolvers in this context: LLVM inlines nothing into a function that only an ``ifunc`` refers to."""
    names = [
        function.name
        for function in defined(module)
        if function.linkage in LOCAL and name_of(function).endswith(".resolver")
    ]
    for name in names:
        module.get_function(name).linkage = "external"
    yield
    for name in names:
        module.get_function(name).linkage = "internal"


def keep(module: Llvmlite, only: Range) -> list[str]:
    """Turn all defined functions but a range into declarations, and return the names of all of them."""
    functions = defined(module)
    for index, function in enumerate(functions):
        if not only[0] <= index < only[1]:
            function.linkage = "available_externally"
        elif function.linkage in LOCAL:
            function.linkage = "external"
    return [name_of(function) for function in functions]
