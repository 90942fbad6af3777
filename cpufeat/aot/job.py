"""What is asked of LLVM and what comes back: values that need no LLVM."""

from __future__ import annotations

from typing import Any

from cpufeat.errors import CompileError
from cpufeat.value import Value

Llvmlite = Any
"""An object of llvmlite, which has no types."""
Asked = tuple[str, str]
"""A function's own ``target-cpu`` and ``target-features``, each empty where it has none."""


class EmitError(CompileError):
    """LLVM could not generate code for this target; a lower one may do."""


class LimitError(EmitError):
    """Code generation took more time or memory than it was given."""


class Job(Value):
    """One module for one target."""

    name: str
    """What messages call the module."""
    is_bitcode: bool
    triple: str
    cpu: str
    features: str
    opt: int
    only: tuple[int, int] | None = None
    """The range of defined functions to emit, all others being left to some other object."""


class Emitted(Value):
    """What LLVM made of a job."""

    object: bytes
    asks: dict[Asked, list[str]]
    """What functions' own attributes ask for, and which functions."""
    functions: list[str]
    """The defined functions, in order; read only where the job names a range of them."""
    said: str = ""
    """What LLVM wrote to stderr meanwhile."""
