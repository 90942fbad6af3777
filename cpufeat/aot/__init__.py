"""Compile IR or C to an object for exactly the given targets, and link it: an ahead-of-time compiler driving LLVM.

A module and targets come in; an :class:`Artifact` goes out, which is linked to a file or loaded into this process.
``compiler`` runs the stages in this order: ``frontend`` reads the module, ``cache`` looks for an artifact made before;
``fallback`` has ``unit`` emit an object through the ``worker`` (``passes`` and ``runtime`` code, then LLVM), at lower
levels where LLVM fails; ``used_features`` verifies it; ``objects`` adds the note. ``artifact`` links by ``toolchain``
and loads by ``library``. ``llvm`` and ``objects`` are ground. Public names are loaded when first used.
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
