"""Code that picks, when a program is loaded, the best target that the machine can run.

It is made of the rows that the Python detection reads, and follows the same rules (:mod:`cpufeat.aot.readings`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cpufeat.aot.ir import Body
from cpufeat.aot.readings import Field, Reader, reader
from cpufeat.errors import TargetError
from cpufeat.features import FeatureSet, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.target import Target


def resolver_parameters(target: Target) -> str:
    """Return the parameters of an ``ifunc`` resolver, which are handed on to ``@__cpufeat_pick``: ``i64 %hwcap, ...``.

    Raises TargetError where emitted code cannot tell what the machine can run.
    """
    return reader(target).resolver_parameters


def detector(
    targets: Sequence[Target], *, dispatch: Literal["ifunc", "pointer"] = "pointer", runtime_override: bool = False
) -> str:
    """Return LLVM IR that defines ``define internal i32 @__cpufeat_pick()``.

    It returns the index of the first target whose ISA features are all usable, ``len(targets)`` if there is none, and
    decides only once. With ``dispatch="ifunc"`` it can be called from a resolver, and takes what that is called with
    (:func:`resolver_parameters`).

    Raises TargetError for targets of several platforms, for a platform where emitted code cannot tell, and for a
    feature that nothing there tells.
    """
    if not targets or len({target.triple for target in targets}) > 1:
        raise TargetError("variants are for one triple")
    machine = reader(targets[0])
    parameters = machine.resolver_parameters if dispatch == "ifunc" else ""
    return "\n".join(
        (machine.instructions(), machine.helpers(), _choose(targets, machine), _pick(machine, dispatch, parameters))
    )


def _choose(targets: Sequence[Target], machine: Reader) -> str:
    """Define ``@__cpufeat_choose``, which decides."""
    body = Body()
    chosen = str(len(targets))
    for index, target in reversed(list(enumerate(targets))):
        usable = runs(body, machine, target)
        chosen = body.let(f"select i1 {usable}, i32 {index}, i32 {chosen}")
    parameters = ", ".join(f"i64 %{word}" for word in machine.words)
    return f"define internal i32 @__cpufeat_choose({parameters}) {machine.attributes} {{\n{body}  ret i32 {chosen}\n}}"


def _pick(machine: Reader, dispatch: str, parameters: str) -> str:
    body = Body()
    arguments = machine.resolved(body) if dispatch == "ifunc" else machine.called(body)
    return f"""
@__cpufeat_picked = internal global i32 -1
define internal i32 @__cpufeat_pick({parameters}) {machine.attributes} {{
  %known = load atomic i32, i32* @__cpufeat_picked monotonic, align 4
  %undecided = icmp slt i32 %known, 0
  br i1 %undecided, label %decide, label %decided
decide:
{body}
  %chosen = call i32 @__cpufeat_choose({arguments})
  store atomic i32 %chosen, i32* @__cpufeat_picked monotonic, align 4
  ret i32 %chosen
decided:
  ret i32 %known
}}
"""


def runs(body: Body, machine: Reader, target: Target) -> str:
    """Return whether a target's ISA features, with all that they rest on, are usable. Raises TargetError."""
    names = FeatureSet(target.arch, target.features.isa.names).closed()
    masks: dict[str, int] = {}
    others: list[str] = []
    silent: list[str] = []
    for name in names:
        condition = machine.condition(table(target.arch)[name])
        if not condition:
            silent.append(name)
        elif len(condition) > 1:
            others.append(body.any(body.all(_holds(body, machine, field) for field in fields) for fields in condition))
        else:
            for field in condition[0]:
                if field.width == 1:
                    masks[field.word] = masks.get(field.word, 0) | 1 << field.low
                else:
                    others.append(_holds(body, machine, field))
    if silent:
        raise TargetError(f"{target.cpu}: nothing tells at run time whether there is {', '.join(silent)}")
    return body.all([_all_bits(body, machine, masks), *others])


def _all_bits(body: Body, machine: Reader, masks: dict[str, int]) -> str:
    return body.all(body.has_all(machine.kind, machine.word(body, word), mask) for word, mask in masks.items())


def _holds(body: Body, machine: Reader, field: Field) -> str:
    word = machine.word(body, field.word)
    if field.width == 1:
        return body.has_all(machine.kind, word, 1 << field.low)
    shifted = body.let(f"lshr {machine.kind} {word}, {field.low}")
    number = body.let(f"and {machine.kind} {shifted}, {(1 << field.width) - 1}")
    return body.let(f"icmp uge {machine.kind} {number}, {field.least}")
