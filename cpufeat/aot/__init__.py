"""Drive LLVM and the linkers: from C or IR to an object for exactly one target, and on to what people run.

:func:`from_c` gives IR, :func:`compile` an :class:`Artifact`, :func:`link` a file. :func:`check` says whether that
will run somewhere, :func:`verify` runs it on other CPUs. Each is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.aot.artifact import Artifact as Artifact
    from cpufeat.aot.artifact import Variant as Variant
    from cpufeat.aot.checking import check as check
    from cpufeat.aot.compiler import compile as compile  # noqa: A004
    from cpufeat.aot.frontend import from_c as from_c
    from cpufeat.aot.library import Library as Library
    from cpufeat.aot.linking import link as link
    from cpufeat.aot.verifying import verify as verify

_HOME = {
    "Artifact": "artifact",
    "Library": "library",
    "Variant": "artifact",
    "check": "checking",
    "compile": "compiler",
    "from_c": "frontend",
    "link": "linking",
    "verify": "verifying",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
