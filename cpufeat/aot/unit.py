"""Define the compilation unit (source, targets, options): turn it into a job for LLVM, and run that in the worker."""

from __future__ import annotations

import functools
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from cpufeat.aot.artifact import labels
from cpufeat.aot.llvm.job import Clones, Job
from cpufeat.aot.runtime.dispatcher import INITIALIZER
from cpufeat.aot.runtime.guard import guard
from cpufeat.aot.runtime.selector import resolver_parameters, selector
from cpufeat.aot.worker import client
from cpufeat.levels import baseline, level_features
from cpufeat.support.value import Value
from cpufeat.tables import architecture
from cpufeat.target import Target

if TYPE_CHECKING:
    from cpufeat.aot.frontend.module import Source
    from cpufeat.aot.llvm.job import Emitted, Range
    from cpufeat.aot.options import Guard, Options
    from cpufeat.aot.runtime.dispatcher import Mechanism
    from cpufeat.support.deadline import Deadline


class Unit(Value):
    """A module, the targets to compile it for, best first, and the options."""

    source: Source
    targets: tuple[Target, ...]
    options: Options

    @property
    def labels(self) -> tuple[str, ...]:
        """The suffix of each target's functions, where there are several targets."""
        return labels(self.targets)

    @property
    def dispatch(self) -> Mechanism | None:
        """How functions are dispatched, None for a single target."""
        return self.options.dispatch if len(self.targets) > 1 else None

    def emit(self, deadline: Deadline, only: Range | None = None) -> Emitted:
        """Have LLVM compile the unit, or a range of its functions. Raises CompileError and TargetError.

        An EmitError is a failure of code generation.
        """
        options, content = self.options, self.source.content
        if options.isolation == "none":
            from cpufeat.aot.llvm.llvmlite_setup import llvm_version
            from cpufeat.aot.worker import codegen

            return codegen.emit(self.job(llvm_version()[0], only), content)
        with client.worker(deadline) as worker:
            job = self.job(worker.llvm[0], only)
            return worker.emit(job, content, deadline, options.memory_limit)

    def job(self, llvm: int, only: Range | None = None) -> Job:
        """Return the job for an LLVM of that major version."""
        best = self.targets[0]
        options = self.options
        name = self.source.stem or "program"
        helpers = _helpers(self.targets, self.dispatch, options.runtime_override, options.guard, name)
        job = Job(
            name=self.source.name,
            is_bitcode=self.source.is_bitcode,
            triple=best.triple,
            cpu=best.llvm_cpu(llvm),
            features=best.llvm_features(llvm),
            opt=options.opt,
            files=options.files,
            only=only,
            helpers=helpers,
        )
        if self.dispatch:
            return self._multiversioned(job, self.dispatch, llvm)
        return job.replace(pre_guard_cpu=architecture(best.arch).cpu) if helpers else job

    def _multiversioned(self, job: Job, dispatch: Mechanism, llvm: int) -> Job:
        """Return the job for several targets. What is compiled once, and what dispatches, must run on any machine."""
        best, worst = self.targets[0], self.targets[-1]
        lowest = baseline(best.arch)
        common = reduce(and_, self.targets, Target.parse(lowest, best.triple))
        clones = zip(self.labels, self.targets, strict=True)
        return job.replace(
            cpu=common.llvm_cpu(llvm),
            features=common.llvm_features(llvm),
            clones=tuple(Clones(label, target.llvm_cpu(llvm), target.llvm_features(llvm)) for label, target in clones),
            lowest_runs=worst.features.isa <= level_features(best.arch, lowest),
            mechanism=dispatch,
            resolver_parameters=resolver_parameters(best) if dispatch == "ifunc" else "",
        )


@functools.lru_cache(maxsize=64)
def _helpers(
    targets: tuple[Target, ...], dispatch: Mechanism | None, runtime_override: bool, guarded: Guard, name: str
) -> tuple[str, ...]:
    """Return the modules to link with one: the selector and the guard, and what runs the selector first."""
    parts = []
    if dispatch:
        parts.append(selector(targets, dispatch=dispatch, runtime_override=runtime_override))
    if guarded:
        parts.append(guard(targets, name, mode="ask" if guarded == "ask" else "exit", beside_selector=bool(dispatch)))
    return tuple(filter(None, ("\n".join(parts), INITIALIZER if dispatch == "pointer" else "")))
