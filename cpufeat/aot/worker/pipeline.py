"""Run LLVM's default optimization pipeline of a level, by the pass manager that the installed llvmlite has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.worker.module_functions import defined
from cpufeat.support.extras import extra

with extra("aot"):
    from llvmlite import binding

if TYPE_CHECKING:
    from cpufeat.aot.llvm.job import Llvmlite

_INLINE_THRESHOLD = {1: 225, 2: 225, 3: 250}
"""The values of LLVM's own pipelines, by level. llvmlite's legacy pipeline has no inliner unless it is given one."""


def optimize(module: Llvmlite, machine: Llvmlite, opt: int) -> None:
    """Optimize a module by the default pipeline of a level, vectorizing from 2 upward, as clang does."""
    if not hasattr(binding, "create_pass_builder"):
        _optimize_legacy(module, machine, opt)
        return
    tuning = binding.create_pipeline_tuning_options(speed_level=opt)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = opt >= 2
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)


def _optimize_legacy(module: Llvmlite, machine: Llvmlite, opt: int) -> None:
    """Do so by the old pass manager, the only one that llvmlite has for LLVM 14."""
    builder = binding.create_pass_manager_builder()
    builder.opt_level = opt
    builder.loop_vectorize = builder.slp_vectorize = opt >= 2
    passes = binding.create_module_pass_manager()
    machine.add_analysis_passes(passes)
    if opt:
        builder.inlining_threshold = _INLINE_THRESHOLD[opt]
    else:
        passes.add_always_inliner_pass()
    early = binding.create_function_pass_manager(module)
    machine.add_analysis_passes(early)
    builder.populate(early)
    early.initialize()
    for function in defined(module):
        early.run(function)
    early.finalize()
    builder.populate(passes)
    passes.run(module)
