"""The installed llvmlite: where it is, which LLVM it holds, and its code generators initialized.

Nothing is loaded until a function that needs LLVM is called.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from cpufeat.errors import CompileError


def origin(package: str) -> str:
    """Return the path of a package's ``__init__.py``, without importing it. Raises CompileError."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise CompileError(f"{package} is not installed")
    return str(Path(spec.origin).absolute())


def llvm_version() -> tuple[int, ...]:
    """Return the version of the LLVM in this process, ``(22, 1, 0)``."""
    from llvmlite.binding import llvm_version_info

    return tuple(llvm_version_info)


@functools.cache
def initialize() -> None:
    """Initialize LLVM's code generators for every target, once."""
    from llvmlite import binding

    if llvm_version()[0] < 20:
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.initialize_native_asmparser()
