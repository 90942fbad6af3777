"""What is asked of LLVM and what comes back: values that need no LLVM."""

from __future__ import annotations

from typing import Any, NamedTuple

from cpufeat.errors import CompileError
from cpufeat.support.value import Value

Llvmlite = Any
"""An object of llvmlite, which has no types."""
Range = tuple[int, int]
"""Of the defined functions, in order: the first, and the one after the last."""
Asked = tuple[str, str]
"""A function's own ``target-cpu`` and ``target-features``, each empty where it has none."""


class EmitError(CompileError):
    """LLVM could not generate code for this target; a lower one may do."""


class LimitError(EmitError):
    """Code generation took more time or memory than it was given."""


class Clones(NamedTuple):
    """The clones of all functions for one of several targets."""

    label: str
    """What their names end in."""
    cpu: str
    features: str


class Job(Value):
    """One module for one target, or with a clone of each function for each of several."""

    name: str
    """What messages call the module."""
    is_bitcode: bool
    triple: str
    cpu: str
    features: str
    opt: int
    only: Range | None = None
    """The range of defined functions to emit, all others being left to some other object."""
    clones: tuple[Clones, ...] = ()
    """Best first; what is no clone is compiled for ``cpu`` and ``features``. Empty where there is one target."""
    lowest_runs: bool = True
    """Whether any machine can run the last of the clones."""
    mechanism: str = ""
    """How functions are dispatched: ``ifunc`` or ``pointer``."""
    resolver_parameters: str = ""
    pre_guard_cpu: str = ""
    """What runs before the guard (:mod:`cpufeat.aot.passes.pre_guard`) is compiled for it; empty where nothing is
    guarded."""
    helpers: tuple[str, ...] = ()
    """Modules of cpufeat's own to link with this one, as text."""


class Emitted(Value):
    """What LLVM made of a job."""

    object: bytes
    requested_targets: dict[Asked, list[str]]
    """The targets that functions' own attributes request, and the names of those functions."""
    functions: list[str]
    """The defined functions, in order; empty unless the job names a range of them."""
    llvm: tuple[int, ...]
    """The version of LLVM, ``(22, 1, 0)``."""
    stderr: str = ""
    """What LLVM wrote to stderr."""
