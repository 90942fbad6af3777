"""Drive LLVM and the linkers: from C or IR to an object for exactly one target, and on to what people run.

:func:`from_c` gives IR, :func:`compile` an :class:`Artifact`, :func:`link` a file. Each is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.aot.artifact import Artifact as Artifact
    from cpufeat.aot.artifact import Variant as Variant
    from cpufeat.aot.artifact import link as link
    from cpufeat.aot.compiler import compile as compile  # noqa: A004
    from cpufeat.aot.frontend.clang import from_c as from_c
    from cpufeat.aot.library import Library as Library

_HOME = {
    "Artifact": "cpufeat.aot.artifact",
    "Library": "cpufeat.aot.library",
    "Variant": "cpufeat.aot.artifact",
    "compile": "cpufeat.aot.compiler",
    "from_c": "cpufeat.aot.frontend.clang",
    "link": "cpufeat.aot.artifact",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
