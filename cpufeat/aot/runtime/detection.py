"""Pick the run-time feature tests of a target's system, and emit code that tests a set of features with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.llvm import triples
from cpufeat.aot.runtime.detection_aarch64 import BY_SYSTEM
from cpufeat.aot.runtime.detection_x86 import CpuidTests
from cpufeat.errors import TargetError
from cpufeat.features import family, table

if TYPE_CHECKING:
    from cpufeat.aot.llvm.builder import Body
    from cpufeat.aot.runtime.feature_tests import FeatureTests, Field
    from cpufeat.features import FeatureSet
    from cpufeat.target import Target


def feature_tests(target: Target) -> FeatureTests:
    """Return the run-time tests for a target's architecture and system. Raises TargetError where there are none."""
    arch, system, _ = triples.parts(target.triple)
    if family(target.arch) == "x86":
        return CpuidTests(target)
    if arch == "aarch64" and system in BY_SYSTEM:
        return BY_SYSTEM[system](target)
    raise TargetError(f"{target.triple}: emitted code cannot detect CPU features there")


def usable(body: Body, tests: FeatureTests, features: FeatureSet, *, permitted: bool = True) -> str:
    """Return an i1: whether the ISA features of a set, and all that they depend on, are usable.

    Those are the ones that do not fault: emitted code does not ask for errata, nor what the kernel cleared of CPUID.
    ``permitted``: a feature that the process must request from the kernel counts only once that was granted. Raises
    TargetError for a feature that cannot be tested on this system.
    """
    rows = table(features.arch)
    conditions = {name: tests.condition(rows[name], permitted=permitted) for name in features.isa.elementary()}
    untestable = [name for name, condition in conditions.items() if not condition]
    if untestable:
        names = ", ".join(untestable)
        raise TargetError(f"no run-time test for {names} on this system: compile without (-{untestable[0]})")
    masks: dict[str, int] = {}
    tested: list[str] = []
    for alternatives in conditions.values():
        if len(alternatives) > 1:
            tested.append(body.any(body.all(_holds(body, tests, field) for field in fields) for fields in alternatives))
            continue
        for field in alternatives[0]:
            if field.width > 1:
                tested.append(_holds(body, tests, field))
            else:
                masks[field.word] = masks.get(field.word, 0) | 1 << field.low
    masked = [body.has_all(tests.word(body, word), mask) for word, mask in masks.items()]
    return body.all([*masked, *tested])


def _holds(body: Body, tests: FeatureTests, field: Field) -> str:
    word = tests.word(body, field.word)
    shifted = body.let(f"lshr i64 {word}, {field.low}")
    number = body.let(f"and i64 {shifted}, {(1 << field.width) - 1}")
    return body.let(f"icmp uge i64 {number}, {field.least}")
