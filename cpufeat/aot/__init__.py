"""Compile IR or C to an object for exactly the given targets, and link it: an ahead-of-time compiler driving LLVM.

A module and targets come in; an :class:`Artifact` goes out, which is linked to a file or loaded into this process.
``compiler`` runs the stages in this order: ``frontend`` reads the module, ``cache`` looks for an artifact made before;
``fallback`` has ``unit`` emit an object through the ``worker`` (``passes`` and ``runtime`` code, then LLVM), at lower
levels where LLVM fails; ``used_features`` verifies it; ``objects`` adds the note. ``artifact`` links by ``toolchain``
and loads by ``jit_library``. ``llvm`` and ``objects`` serve all of these. Public names are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpufeat.aot.artifact import Artifact, Variant, link
    from cpufeat.aot.compiler import compile  # noqa: A004
    from cpufeat.aot.frontend.clang import from_c
    from cpufeat.aot.frontend.module import Source
    from cpufeat.aot.jit_library import Library

__all__ = ["Artifact", "Library", "Source", "Variant", "compile", "from_c", "link"]

_HOME = {
    "Artifact": "cpufeat.aot.artifact",
    "Library": "cpufeat.aot.jit_library",
    "Source": "cpufeat.aot.frontend.module",
    "Variant": "cpufeat.aot.artifact",
    "compile": "cpufeat.aot.compiler",
    "from_c": "cpufeat.aot.frontend.clang",
    "link": "cpufeat.aot.artifact",
}
"""The module of each public name."""

if not TYPE_CHECKING:  # or type checkers would take every name for one of this package

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
