"""Find the installed llvmlite, tell which LLVM it holds, and initialize its code generators.

Nothing is loaded until a function that needs LLVM is called.
"""

from __future__ import annotations

import functools

from cpufeat.support.extras import extra


def llvm_version() -> tuple[int, ...]:
    """Return the version of the LLVM in this process, ``(22, 1, 0)``."""
    with extra("aot"):
        from llvmlite.binding import llvm_version_info

    return tuple(llvm_version_info)


@functools.cache
def initialize() -> None:
    """Initialize LLVM's code generators for every target, once."""
    with extra("aot"):
        from llvmlite import binding

    if llvm_version()[0] < 20:
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.initialize_native_asmparser()
