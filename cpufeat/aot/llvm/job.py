"""Define a job for LLVM and its result: plain values that are sent to the worker and back."""

from __future__ import annotations

from typing import Any, NamedTuple

from cpufeat.errors import CompileError
from cpufeat.support.value import Value

Llvmlite = Any
"""An object of llvmlite, which has no types."""
Range = tuple[int, int]
"""A range of the defined functions, in order: the index of the first, and of the one after the last."""
RequestedTarget = tuple[str, str]
"""A function's own ``target-cpu`` and ``target-features``, each empty where it has none."""


class EmitError(CompileError):
    """LLVM could not generate code for this target; a lower target may work."""


class LimitError(EmitError):
    """Code generation exceeded its limit of time or memory."""


class Clones(NamedTuple):
    """The clones of all functions for one of several targets: multiversioning."""

    label: str
    """The suffix of their names."""
    cpu: str
    features: str


class Job(Value):
    """One module for one target, or with a clone of each function for each of several."""

    name: str
    """The module's name in messages."""
    is_bitcode: bool
    triple: str
    cpu: str
    features: str
    opt: int
    files: bool = True
    """Whether assembly in the module may read files."""
    only: Range | None = None
    """The range of defined functions to emit; all others become external."""
    clones: tuple[Clones, ...] = ()
    """Best first; everything but the clones is compiled for ``cpu`` and ``features``. Empty for a single target."""
    lowest_runs: bool = True
    """Whether every machine can run the last of the clones."""
    mechanism: str = ""
    """How functions are dispatched: ``ifunc`` or ``pointer``; empty for a single target."""
    resolver_parameters: str = ""
    """The parameters of an ``ifunc`` resolver, in IR."""
    pre_guard_cpu: str = ""
    """The CPU for which code that runs before the guard is compiled (:mod:`cpufeat.aot.passes.pre_guard`).

    Empty without a guard."""
    helpers: tuple[str, ...] = ()
    """cpufeat's own modules to link with this one, as IR text."""


class Emitted(Value):
    """The result of a job."""

    object: bytes
    requested_targets: dict[RequestedTarget, list[str]]
    """The targets that functions' own attributes request, and the names of those functions."""
    functions: list[str]
    """The defined functions, in order; empty unless the job names a range of them."""
    llvm: tuple[int, ...]
    """The version of LLVM, ``(22, 1, 0)``."""
    reads_files: bool = False
    """Whether assembly in the module may have read files (:mod:`cpufeat.aot.llvm.assembly`)."""
    stderr: str = ""
    """LLVM's output on stderr."""
