"""Run the passes and LLVM on a module: in the worker process, or with ``isolation="none"`` in the caller's."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from cpufeat.aot.llvm import module_text, triples
from cpufeat.aot.llvm.assembly import may_read_files
from cpufeat.aot.llvm.job import Clones, EmitError, Emitted
from cpufeat.aot.llvm.llvmlite_setup import initialize, llvm_version
from cpufeat.aot.passes import cloning, pre_guard, target_attributes
from cpufeat.aot.runtime.dispatcher import Dispatch
from cpufeat.aot.runtime.forwarding import Abi, portable_vector_bits
from cpufeat.aot.worker import helper_modules, pipeline
from cpufeat.aot.worker.module_functions import defined, exported_resolvers, keep, name_of
from cpufeat.errors import CompileError, TargetError
from cpufeat.support.extras import extra

with extra("aot"):
    from llvmlite import binding

if TYPE_CHECKING:
    from collections.abc import Callable

    from cpufeat.aot.llvm.job import Job, Llvmlite, RequestedTarget
    from cpufeat.aot.llvm.module_text import Module

_COMDAT = re.compile(r"^\$(.+) = comdat ", re.MULTILINE)
_NAMED_ABI = ("riscv", "loongarch")
"""The architectures whose modules name their ABI."""
_FLOAT_ABI = re.compile(r'!"target-abi", !"(\w+([fd]))"')
"""An ABI that passes numbers in floating-point registers, and the feature that has these."""
_MACH_O_MANGLING = "-m:o"
"""The part of a data layout that says that names are mangled as in Mach-O."""


def emit(job: Job, source: bytes, on_accepted: Callable[[], None] = lambda: None) -> Emitted:
    """Return the object code of a module, IR text or bitcode.

    ``on_accepted`` is called when the module was read, verified and found to fit the target, before code generation.
    Raises CompileError for a module that LLVM rejects, TargetError for one made for something else, EmitError for code
    that LLVM reports it cannot generate. Where LLVM crashes, the process ends.
    """
    initialize()
    with contextlib.ExitStack() as stack:
        text = None if job.is_bitcode else _text(job, source)
        context = stack.enter_context(binding.create_context())
        module = _parse(stack, context, job.name, source if text is None else text)
        ir_text = str(module) if text is None else text
        reads_files = may_read_files(ir_text)
        if reads_files and not job.files:
            raise CompileError(f"{job.name}: its assembly may read files (.incbin, .include or macros), and may not")
        machine = _target_machine(job)
        module = _upgraded(stack, context, job.name, module, machine)
        _fit(module, job, machine)
        requested_targets: dict[RequestedTarget, list[str]] = {}
        if _needs_passes(module, ir_text, job):
            ir = _printed(module, job)
            requested_targets = _requested_targets(module, ir)
            context = stack.enter_context(binding.create_context())
            module = _parse(stack, context, job.name, str(_run_passes(ir, job, machine)))
        if not job.only:
            helpers = [helper_modules.with_constructors_of(module, helper) for helper in job.helpers]
            parsed = [_parse(stack, context, "cpufeat's own code", helper) for helper in helpers]
            for helper in parsed:
                _fit(helper, job, machine)
            helper_modules.link(module, parsed, job.name)
        on_accepted()
        functions = keep(module, job.only) if job.only else []
        try:
            with exported_resolvers(module) if job.mechanism else contextlib.nullcontext():
                pipeline.optimize(module, machine, job.opt)
            code = bytes(machine.emit_object(module))
            return Emitted(code, requested_targets, functions, llvm_version(), reads_files)
        except RuntimeError as error:
            raise EmitError(f"LLVM: {error}") from None


def _needs_passes(module: Llvmlite, text: str, job: Job) -> bool:
    """Whether a pass would change the module. If none does, its text need not be printed and parsed again."""
    if job.clones or _requests_any_target(module):
        return True
    return bool(job.pre_guard_cpu) and pre_guard.may_apply(text)


def _run_passes(ir: Module, job: Job, machine: Llvmlite) -> Module:
    """Run cpufeat's passes, in order."""
    ir = target_attributes.neutralize(ir)
    if job.pre_guard_cpu:
        ir = pre_guard.for_baseline(ir, job.pre_guard_cpu)
    if job.clones:
        ir = _with_clones(ir, job, machine)
    return ir


def _parse(stack: contextlib.ExitStack, context: Llvmlite, name: str, source: str | bytes) -> Llvmlite:
    """Read and verify text or bitcode, into a context that ends with the stack: a worker that is kept does not grow.

    Module and context end in this order. Left to the garbage collector, the context may go first, and LLVM crash.
    """
    parse = binding.parse_bitcode if isinstance(source, bytes) else binding.parse_assembly
    try:
        module = stack.enter_context(parse(source, context))
        module.verify()
    except RuntimeError as error:
        raise CompileError(_located(name, str(error))) from None
    return module


def _upgraded(
    stack: contextlib.ExitStack, context: Llvmlite, name: str, module: Llvmlite, machine: Llvmlite
) -> Llvmlite:
    """Return a module of an older producer with the target's data layout, if LLVM upgrades its own to that.

    LLVM does so when it reads bitcode, not text. In text, what has no alignment has got that of its own data layout.
    """
    layout = str(machine.target_data)
    if module.data_layout in ("", layout):
        return module
    upgraded = _parse(stack, context, name, module.as_bitcode())
    return upgraded if upgraded.data_layout == layout else module


def _text(job: Job, source: bytes) -> str:
    try:
        return source.decode()
    except UnicodeDecodeError as error:
        raise CompileError(f"{job.name}: byte {error.start} of the IR is not UTF-8") from None


def _located(name: str, message: str) -> str:
    """Put the module's name before LLVM's message, in place of what llvmlite and LLVM call it."""
    text = re.sub(r"\ALLVM .* parsing error\n", "", message).strip()
    return name + text.removeprefix("<string>") if text.startswith("<string>:") else f"{name}: {text}"


def _target_machine(job: Job) -> Llvmlite:
    try:
        return binding.Target.from_triple(job.triple).create_target_machine(
            cpu=job.cpu, features=job.features, opt=job.opt, reloc="pic", codemodel="default"
        )
    except RuntimeError as error:
        raise TargetError(f"LLVM has no code generator for {job.triple}: {error}") from None


def _fit(module: Llvmlite, job: Job, machine: Llvmlite) -> None:
    differs = triples.conflict(module.triple, job.triple)
    if differs:
        raise TargetError(f"{job.name}: made for {module.triple}, which conflicts with {job.triple}: {differs}")
    layout = str(machine.target_data)
    if module.data_layout not in ("", layout):
        raise TargetError(
            f"{job.name}: its data layout {module.data_layout!r} conflicts with that of {job.triple}, {layout!r}"
        )
    comdat = _COMDAT.search(str(module)) if _MACH_O_MANGLING in layout else None
    if comdat:
        raise TargetError(
            f"{job.name}: it has the comdat {comdat[1]}, and Mach-O, the format of {job.triple}, has none"
        )
    abi = _FLOAT_ABI.search(str(module)) if job.triple.startswith(_NAMED_ABI) else None
    if abi and f"+{abi[2]}" not in job.features.split(","):
        raise TargetError(f"{job.name}: made for the ABI {abi[1]}, which needs {abi[2]}; the target has none")
    module.triple, module.data_layout = job.triple, layout


def _requests_any_target(module: Llvmlite) -> bool:
    """Whether a function requests a target. LLVM is slow to list all of them: see :func:`_requested_targets`."""
    return any(
        target_attributes.requested_target(text.decode(errors="replace") for text in function.attributes)
        for function in defined(module)
    )


def _requested_targets(module: Llvmlite, ir: Module) -> dict[RequestedTarget, list[str]]:
    """Return the targets that functions' attributes request, and the names of those functions."""
    requested: dict[RequestedTarget, list[str]] = {}
    for function, target in zip(defined(module), target_attributes.requested_targets(ir), strict=True):
        if target is not None:
            requested.setdefault(target, []).append(name_of(function))
    return requested


def _printed(module: Llvmlite, job: Job) -> Module:
    """Return the module as LLVM prints it, parsed, each function with the name that its symbol will have."""
    unnamed = [function for function in defined(module) if not name_of(function)]
    for number, function in enumerate(unnamed, 1):
        function.name = f"__unnamed_{number}"
    try:
        return module_text.parse(str(module))
    except CompileError as error:
        raise CompileError(f"{job.name}: {error}") from None


def _with_clones(ir: Module, job: Job, machine: Llvmlite) -> Module:
    pointer = re.search(r"(?:^|-)p:(\d+)", str(machine.target_data))
    abi = Abi(
        pointer_size=int(pointer[1]) // 8 if pointer else 8,
        llvm=llvm_version()[0],
        windows=triples.parts(job.triple)[1] == "windows",
        portable_vector_bits=portable_vector_bits(job.triple, job.features),
    )
    clones = [Clones(*fields) for fields in job.clones]
    dispatch = Dispatch(job.mechanism, tuple(variant.label for variant in clones), job.resolver_parameters, abi)
    try:
        return cloning.clone(ir, clones, dispatch, lowest_runs=job.lowest_runs)
    except CompileError as error:
        raise CompileError(f"{job.name}: cannot be compiled for several targets: {error}", error.function) from None
