"""Emit the function that selects, when a program is loaded, the best target that the CPU can run.

It follows the rules of the Python detection (:mod:`cpufeat.aot.runtime.detection`). On a hybrid CPU it reads the core
that it runs on: on all that are sold, every core has the same features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.llvm.builder import Body
from cpufeat.aot.runtime import disable
from cpufeat.aot.runtime.detection import feature_tests, usable
from cpufeat.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.aot.runtime.dispatcher import Mechanism
    from cpufeat.aot.runtime.feature_tests import FeatureTests
    from cpufeat.target import Target


def resolver_parameters(target: Target) -> str:
    """Return the parameters of an ``ifunc`` resolver and of the ``@__cpufeat_pick`` that it calls: ``i64 %hwcap, ...``.

    Raises TargetError for a system where emitted code cannot detect features.
    """
    return feature_tests(target).resolver_parameters


def selector(targets: Sequence[Target], *, dispatch: Mechanism = "pointer", runtime_override: bool = False) -> str:
    """Return LLVM IR that defines ``define internal i32 @__cpufeat_pick()``.

    It returns the index of the first target whose ISA features are all usable, ``len(targets)`` if there is none, and
    keeps the answer. With ``dispatch="ifunc"`` it is called by resolvers, with their parameters
    (:func:`resolver_parameters`); with ``"pointer"`` by a constructor.

    With ``runtime_override`` it skips targets that have a feature which ``CPUFEAT_DISABLE`` lists, spelled as in Python
    (:mod:`cpufeat.resolution`), or one that depends on it. Names of features that no target has are ignored. The last
    target that runs here is never skipped, so that neither it nor the baseline can be disabled.

    Raises TargetError for no targets or targets of several triples, for a system or a feature without run-time tests,
    and for ``runtime_override`` with ``"ifunc"``.
    """
    if len({target.triple for target in targets}) != 1:
        raise TargetError("the variants of a program must all be for one triple")
    tests = feature_tests(targets[0])
    if dispatch == "ifunc" and (runtime_override or tests.needs_library):
        unreadable = "CPUFEAT_DISABLE" if runtime_override else f"{targets[0].triple}: the CPU's features"
        raise TargetError(
            f'{unreadable} cannot be read in an ifunc resolver, before libraries work: use dispatch="pointer"'
        )
    tests.in_resolver = dispatch == "ifunc"
    choose = _choose(targets, tests, runtime_override)
    parts = [tests.primitives(), tests.helpers(), choose]
    if runtime_override:
        parts.append(disable.disabled(targets, tests.attributes))
    return "\n".join([*parts, _pick(targets, tests, dispatch, runtime_override)])


def _choose(targets: Sequence[Target], tests: FeatureTests, runtime_override: bool) -> str:
    """Define ``@__cpufeat_choose``, which selects. Bit n of ``%disabled`` is set if target n must be skipped."""
    body, count = Body("__cpufeat_choose"), len(targets)
    runs = [_runs(body, tests, target) for target in targets]
    chosen = str(count)
    if runtime_override:
        for index, value in enumerate(runs):
            chosen = body.let(f"select i1 {value}, i32 {index}, i32 {chosen}")
    for index in reversed(range(count)):
        eligible = runs[index]
        if runtime_override:
            bit = body.let(f"and i{count} %disabled, {1 << index}")
            eligible = body.all([eligible, body.let(f"icmp eq i{count} {bit}, 0")])
        chosen = body.let(f"select i1 {eligible}, i32 {index}, i32 {chosen}")
    parameters = [f"i64 %{word}" for word in tests.words] + [f"i{count} %disabled"] * runtime_override
    return body.function("i32", ", ".join(parameters), tests.attributes, f"ret i32 {chosen}")


def _runs(body: Body, tests: FeatureTests, target: Target) -> str:
    try:
        return usable(body, tests, target.features)
    except TargetError as error:
        raise TargetError(f"{target.cpu}: {error}") from None


def _pick(targets: Sequence[Target], tests: FeatureTests, dispatch: Mechanism, runtime_override: bool) -> str:
    body = Body("__cpufeat_pick")
    arguments = tests.resolver_arguments(body) if dispatch == "ifunc" else tests.arguments(body)
    if runtime_override:
        arguments = ", ".join(filter(None, (arguments, f"i{len(targets)} {body.let(disable.call(targets))}")))
    parameters = tests.resolver_parameters if dispatch == "ifunc" else ""
    return f"""
@__cpufeat_picked = internal global i32 -1
{body.constants()}define internal i32 @__cpufeat_pick({parameters}) {tests.attributes} {{
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
