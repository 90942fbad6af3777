"""The calls into LLVM: a module and a target in, an object out. Runs in the worker, or in the caller's own process."""

from __future__ import annotations

import contextlib
import functools
import re
from typing import TYPE_CHECKING

from llvmlite import binding

from cpufeat.aot.llvm import triples
from cpufeat.aot.llvm.job import Clones, EmitError, Emitted
from cpufeat.aot.llvm.llvmlite_setup import initialize, llvm_version
from cpufeat.aot.passes import cloning, pre_guard, target_attributes
from cpufeat.aot.runtime.dispatcher import Dispatch, same_vector
from cpufeat.errors import CompileError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cpufeat.aot.llvm.job import Asked, Job, Llvmlite

_LOCAL = (binding.Linkage.internal, binding.Linkage.private)
_INLINE_THRESHOLD = {1: 225, 2: 225, 3: 250}
"""By level, what LLVM's own pipelines use. llvmlite's legacy pipeline has no inliner unless it is told."""
_CONSTRUCTOR = "{ i32, void ()*, i8* }"
_COMDAT = re.compile(r"^\$(.+) = comdat ", re.MULTILINE)
_OF_MACH_O = "-m:o"
"""In a data layout: how names are mangled."""
_CONSTRUCTORS_OF = re.compile(r' appending global \[\d+ x (%(?:"[^"]*"|[-\w$.]+))\] ', re.ASCII)


def emit(job: Job, source: bytes, on_accepted: Callable[[], None] = lambda: None) -> Emitted:
    """Return the object code of a module.

    ``on_accepted`` is called when the module was read, verified and found to fit the target, before code generation.
    Raises CompileError for a module that LLVM rejects, TargetError for one made for something else, EmitError for code
    that LLVM cannot generate and says so. What it cannot bear ends the process.
    """
    initialize()
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(binding.create_context())
        given = None if job.is_bitcode else _text(job, source)
        module = _parse(stack, context, job.name, source if given is None else given)
        machine = _target_machine(job)
        _fit(module, job, machine)
        asks: dict[Asked, list[str]] = {}
        printed = functools.cache(functools.partial(_named, module))
        runs_early = job.pre_guard_cpu and pre_guard.may_have_some(printed() if given is None else given)
        if job.clones or runs_early or _asks_anything(module):
            asks, text = _asks(module, printed()), target_attributes.disarm(printed())
            text = pre_guard.for_baseline(text, job.pre_guard_cpu) if job.pre_guard_cpu else text
            context = stack.enter_context(binding.create_context())
            module = _parse(stack, context, job.name, _with_clones(text, job, machine) if job.clones else text)
        if not job.only:
            own = (_with_constructors_of(module, text) for text in job.helpers)
            _link(module, [_parse(stack, context, "cpufeat's own code", text) for text in own], job, machine)
        on_accepted()
        functions = _keep(module, job.only) if job.only else []
        try:
            with _resolvers_are_seen(module) if job.mechanism else contextlib.nullcontext():
                _optimize(module, machine, job.opt)
            return Emitted(bytes(machine.emit_object(module)), asks, functions, llvm_version())
        except RuntimeError as error:
            raise EmitError(f"LLVM: {error}") from None


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
    comdat = _COMDAT.search(str(module)) if _OF_MACH_O in layout else None
    if comdat:
        raise TargetError(
            f"{job.name}: it has the comdat {comdat[1]}, and Mach-O, the format of {job.triple}, has none"
        )
    module.triple, module.data_layout = job.triple, layout


def _asks_anything(module: Llvmlite) -> bool:
    """Whether a function asks for something. LLVM is slow to tell of each: see :func:`_asks`."""
    return any(
        target_attributes.asked(text.decode(errors="replace") for text in function.attributes)
        for function in _defined(module)
    )


def _asks(module: Llvmlite, printed: str) -> dict[Asked, list[str]]:
    asks: dict[Asked, list[str]] = {}
    for function, own in zip(_defined(module), target_attributes.asked_in(printed), strict=True):
        if own is not None:
            asks.setdefault(own, []).append(_name(function))
    return asks


def _defined(module: Llvmlite) -> list[Llvmlite]:
    return [function for function in module.functions if not function.is_declaration]


def _name(function: Llvmlite) -> str:
    try:
        return str(function.name)
    except UnicodeDecodeError:
        return "(a name that is not UTF-8)"


def _named(module: Llvmlite) -> str:
    """Return the module as LLVM prints it, each function with the name that its symbol will have."""
    unnamed = [function for function in _defined(module) if not _name(function)]
    for number, function in enumerate(unnamed, 1):
        function.name = f"__unnamed_{number}"
    return str(module)


def _with_clones(text: str, job: Job, machine: Llvmlite) -> str:
    bits = re.search(r"(?:^|-)p:(\d+)", str(machine.target_data))
    clones = [Clones(*one) for one in job.clones]
    labels = tuple(one.label for one in clones)
    alignment = int(bits[1]) // 8 if bits else 8
    windows = triples.parts(job.triple)[1] == "windows"
    vector = same_vector(job.triple, job.features)
    how = Dispatch(job.mechanism, labels, job.resolver_parameters, alignment, llvm_version()[0], windows, vector)
    try:
        return cloning.merge(text, clones, how, lowest_runs=job.lowest_runs)
    except CompileError as error:
        raise CompileError(f"{job.name}: no variants can be made of it: {error}", error.function) from None


def _with_constructors_of(module: Llvmlite, helper: str) -> str:
    """Return a helper's text with a list of constructors that the linker can join to the module's.

    Both lists must be of one type; a module may have given it a name.
    """
    lists = (str(variable) for variable in module.global_variables if _name(variable) == "llvm.global_ctors")
    named = _CONSTRUCTORS_OF.search(next(lists, ""))
    return f"{named[1]} = type {_CONSTRUCTOR}\n{helper.replace(_CONSTRUCTOR, named[1])}" if named else helper


def _link(module: Llvmlite, helpers: list[Llvmlite], job: Job, machine: Llvmlite) -> None:
    """Link modules of cpufeat's own. What is local to one, and called by others, will be so again."""
    needed = {_name(function) for one in (module, *helpers) for function in one.functions if function.is_declaration}
    local = [one for helper in helpers for one in _defined(helper) if one.linkage in _LOCAL and one.name in needed]
    names = [function.name for function in local]
    for function in local:
        function.linkage = "external"
    for helper in helpers:
        _fit(helper, job, machine)
        try:
            module.link_in(helper)
        except RuntimeError as error:
            raise CompileError(f"{job.name}: cpufeat's own code cannot be linked with it: {error}") from None
    for name in names:
        module.get_function(name).linkage = "internal"


@contextlib.contextmanager
def _resolvers_are_seen(module: Llvmlite) -> Iterator[None]:
    """Have resolvers be known to others meanwhile: LLVM inlines nothing into what only an ``ifunc`` leads to."""
    names = [one.name for one in _defined(module) if one.linkage in _LOCAL and _name(one).endswith(".resolver")]
    for name in names:
        module.get_function(name).linkage = "external"
    yield
    for name in names:
        module.get_function(name).linkage = "internal"


def _keep(module: Llvmlite, only: tuple[int, int]) -> list[str]:
    defined = _defined(module)
    for index, function in enumerate(defined):
        if not only[0] <= index < only[1]:
            function.linkage = "available_externally"
        elif function.linkage in _LOCAL:
            function.linkage = "external"
    return [_name(function) for function in defined]


def _optimize(module: Llvmlite, machine: Llvmlite, opt: int) -> None:
    """Run the default pipeline of a level, vectorizing from 2 upward, as clang does."""
    if not hasattr(binding, "create_pass_builder"):
        _optimize_legacy(module, machine, opt)
        return
    tuning = binding.create_pipeline_tuning_options(speed_level=opt)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = opt >= 2
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)


def _optimize_legacy(module: Llvmlite, machine: Llvmlite, opt: int) -> None:
    """LLVM 14 as llvmlite has it knows only the old pass manager."""
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
    for function in _defined(module):
        early.run(function)
    early.finalize()
    builder.populate(passes)
    passes.run(module)
