"""Drive LLVM: from IR to an object for exactly one target.

:func:`compile` gives an :class:`Artifact`; both are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.aot.artifact import Artifact as Artifact
    from cpufeat.aot.artifact import Variant as Variant
    from cpufeat.aot.compiler import compile as compile  # noqa: A004
    from cpufeat.aot.library import Library as Library

_HOME = {"Artifact": "artifact", "Library": "library", "Variant": "artifact", "compile": "compiler"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
