"""Code that picks, when a program is loaded, the best target that the machine can run.

It is made of the rows that the Python detection reads, and follows the same rules
(:mod:`cpufeat.aot.runtime.detection`). On a
hybrid part it reads the core that it is loaded on: those sold have the same features on all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.llvm.builder import Body
from cpufeat.aot.runtime import disable
from cpufeat.aot.runtime.readers import reader
from cpufeat.errors import TargetError
from cpufeat.features import FeatureSet, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.aot.runtime.detection import Field, Reader
    from cpufeat.aot.runtime.dispatcher import Mechanism
    from cpufeat.target import Target


def resolver_parameters(target: Target) -> str:
    """Return what an ``ifunc`` resolver is called with, and hands on to ``@__cpufeat_pick``: ``i64 %hwcap, ...``.

    Raises TargetError where emitted code cannot tell what the machine can run.
    """
    return reader(target).resolver_parameters


def detector(targets: Sequence[Target], *, dispatch: Mechanism = "pointer", runtime_override: bool = False) -> str:
    """Return LLVM IR that defines ``define internal i32 @__cpufeat_pick()``.

    It returns the index of the first target whose ISA features are all usable, ``len(targets)`` if there is none. What
    was decided is kept. With ``dispatch="ifunc"`` it is called by resolvers, with their parameters
    (:func:`resolver_parameters`); with ``"pointer"`` by a constructor.

    With ``runtime_override`` targets are left out that have a feature which ``CPUFEAT_DISABLE`` lists, spelled as in
    Python (:mod:`cpufeat.resolution`), or one that rests on it. Names that matter to no target are ignored. The last
    target that runs here stays, so that neither it nor the baseline can be disabled.

    Raises TargetError for no targets or those of several triples, for a system where emitted code cannot tell what the
    machine can run, for a feature of which nothing tells, and for ``runtime_override`` with ``"ifunc"``.
    """
    if len({target.triple for target in targets}) != 1:
        raise TargetError("the variants of a program are all for one triple")
    machine = reader(targets[0])
    if dispatch == "ifunc" and (runtime_override or machine.needs_library):
        what = "CPUFEAT_DISABLE" if runtime_override else f"{targets[0].triple}: what the machine can run"
        raise TargetError(f'{what} cannot be read in an ifunc resolver, before libraries work: use dispatch="pointer"')
    parts = [machine.instructions(), machine.helpers(), _choose(targets, machine, runtime_override)]
    if runtime_override:
        parts.append(disable.disabled(targets, machine.attributes))
    return "\n".join([*parts, _pick(targets, machine, dispatch, runtime_override)])


def runs(body: Body, machine: Reader, features: FeatureSet, *, permitted: bool = True) -> str:
    """Return an i1: whether the ISA features of a set, and all that they rest on, are usable.

    ``permitted``: where a process must ask the kernel for one, only if it has. Raises TargetError for a feature of
    which nothing tells.
    """
    rows = table(features.arch)
    conditions = {name: machine.condition(rows[name], permitted=permitted) for name in features.isa.closed()}
    silent = [name for name, condition in conditions.items() if not condition]
    if silent:
        raise TargetError(f"nothing tells at run time whether there is {', '.join(silent)}: do without (-{silent[0]})")
    masks: dict[str, int] = {}
    others: list[str] = []
    for condition in conditions.values():
        if len(condition) > 1:
            others.append(body.any(body.all(_holds(body, machine, field) for field in fields) for fields in condition))
            continue
        for field in condition[0]:
            if field.width > 1:
                others.append(_holds(body, machine, field))
            else:
                masks[field.word] = masks.get(field.word, 0) | 1 << field.low
    held = [body.has_all(machine.word(body, word), mask) for word, mask in masks.items()]
    return body.all([*held, *others])


def _holds(body: Body, machine: Reader, field: Field) -> str:
    word = machine.word(body, field.word)
    shifted = body.let(f"lshr i64 {word}, {field.low}")
    number = body.let(f"and i64 {shifted}, {(1 << field.width) - 1}")
    return body.let(f"icmp uge i64 {number}, {field.least}")


def _choose(targets: Sequence[Target], machine: Reader, runtime_override: bool) -> str:
    """Define ``@__cpufeat_choose``, which decides. The bits of ``%disabled`` are targets, the first the lowest."""
    body, count = Body("__cpufeat_choose"), len(targets)
    usable = [_usable(body, machine, target) for target in targets]
    chosen = str(count)
    if runtime_override:
        for index, runs_here in enumerate(usable):
            chosen = body.let(f"select i1 {runs_here}, i32 {index}, i32 {chosen}")
    for index in reversed(range(count)):
        permitted = usable[index]
        if runtime_override:
            bit = body.let(f"and i{count} %disabled, {1 << index}")
            permitted = body.all([permitted, body.let(f"icmp eq i{count} {bit}, 0")])
        chosen = body.let(f"select i1 {permitted}, i32 {index}, i32 {chosen}")
    parameters = [f"i64 %{word}" for word in machine.words] + [f"i{count} %disabled"] * runtime_override
    return body.function("i32", ", ".join(parameters), machine.attributes, f"ret i32 {chosen}")


def _usable(body: Body, machine: Reader, target: Target) -> str:
    try:
        return runs(body, machine, target.features)
    except TargetError as error:
        raise TargetError(f"{target.cpu}: {error}") from None


def _pick(targets: Sequence[Target], machine: Reader, dispatch: Mechanism, runtime_override: bool) -> str:
    body = Body("__cpufeat_pick")
    arguments = machine.resolved(body) if dispatch == "ifunc" else machine.called(body)
    if runtime_override:
        arguments = ", ".join(filter(None, (arguments, f"i{len(targets)} {body.let(disable.call(targets))}")))
    parameters = machine.resolver_parameters if dispatch == "ifunc" else ""
    return f"""
@__cpufeat_picked = internal global i32 -1
{body.constants()}define internal i32 @__cpufeat_pick({parameters}) {machine.attributes} {{
  %known = load atomic i32, i32* @__cpufeat_picked monotonic, align 4
  %is.undecided = icmp slt i32 %known, 0
  br i1 %is.undecided, label %decide, label %decided
decide:
{body.instructions()}
  %chosen = call i32 @__cpufeat_choose({arguments})
  store atomic i32 %chosen, i32* @__cpufeat_picked monotonic, align 4
  ret i32 %chosen
decided:
  ret i32 %known
}}
"""
