"""Emit the start-up guard, which ends a program that the CPU cannot run before any code that would fault.

The guard is in the object that it guards, uses nothing above the baseline, and tests the features of a table
(:mod:`cpufeat.aot.runtime.guard_table`), which is narrowed when the emitted instructions have been read.

It is the first constructor of its program or library. Code of the module that runs earlier is compiled for the baseline
(:mod:`cpufeat.aot.passes.pre_guard`). It does not guard functions that a linker is told to run first (``-Wl,-init``),
nor calls into the program from constructors of other libraries that run before its own.

For x86-64 objects, :mod:`cpufeat.aot.objects.gnu_property` states the psABI level besides, which glibc's loader checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpufeat.aot.llvm.builder import Body, constant
from cpufeat.aot.runtime import guard_table
from cpufeat.aot.runtime.detection import feature_tests, usable
from cpufeat.cpus import base_features
from cpufeat.errors import TargetError
from cpufeat.features import FeatureSet, table
from cpufeat.levels import baseline, level_features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from cpufeat.aot.runtime.feature_tests import FeatureTests
    from cpufeat.target import Target

    Mode = Literal["exit", "ask"]

EXIT_STATUS = 126
"""A command that was found and cannot be executed (POSIX, Shell Command Language, 2.8.2)."""
SUPPORTED = "cpufeat_supported"
"""The function of mode ``"ask"``: ``int cpufeat_supported(void)``."""


def guard(targets: Sequence[Target], name: str, *, mode: Mode = "exit", beside_selector: bool = False) -> str:
    """Return LLVM IR that guards code for targets, best first, of which the last runs where no other does.

    ``mode``
        ``"exit"``: a constructor, before all others, that writes to standard error ``NAME: this CPU lacks: avx512f
        (needed by this program, built for x86-64-v4)`` and exits with 126. ``"ask"``: a function
        ``int cpufeat_supported(void)`` for whoever loads the library, and no constructor.
    ``beside_selector``
        Whether the text of :func:`cpufeat.aot.runtime.selector.selector` is in the same module.

    Empty if there is nothing to guard: the last target is the baseline, or emitted code cannot detect features (neither
    x86 nor 64-bit Arm). Features without a run-time test are not guarded. A state that the process must request from
    the kernel counts as usable, since the process requests it later.
    """
    *better, last = targets
    try:
        tests = feature_tests(last)
    except TargetError:
        return ""
    beyond = last.features.isa - level_features(last.arch, baseline(last.arch))
    guarded = [feature for feature in beyond if _is_testable(tests, last.arch, feature)]
    if not guarded:
        return ""
    always = mode == "exit" and all(last <= target for target in better)
    missing = _missing(tests, better, last.arch, guarded)
    parts = (
        "" if beside_selector else tests.primitives() + tests.helpers(),
        f"@__cpufeat_needs = internal constant {constant(guard_table.table(guarded, always=always))}",
        missing,
        _lacking(tests, guarded),
        _answer(tests) if mode == "ask" else _refusal(tests, targets, name, guarded),
    )
    return "\n".join(parts).replace("MASK", f"i{_mask_bits(len(guarded))}")


def _mask_bits(features: int) -> int:
    """Return the size of a mask of features: that of a register if possible, for which LLVM makes code much sooner."""
    return next((bits for bits in (32, 64) if features <= bits), features)


def _is_testable(tests: FeatureTests, arch: str, name: str) -> bool:
    rows = table(arch)
    return all(tests.condition(rows[feature]) for feature in FeatureSet(arch, [name]).isa.elementary())


def _sign(body: Body, guarded: Sequence[str], index: int | None = None) -> str:
    """Return an ``i8*`` to the sign of a feature in the table, or of the whole table."""
    kind = f"[{len(guard_table.table(guarded))} x i8]"
    offset = guard_table.sign_at(guarded, index)
    return body.let(f"getelementptr inbounds {kind}, {kind}* @__cpufeat_needs, i64 0, i64 {offset}")


def _missing(tests: FeatureTests, better: Sequence[Target], arch: str, guarded: Sequence[str]) -> str:
    """Define ``@__cpufeat_missing``, which returns a mask: bit n is set if feature n is needed and not usable.

    The table is read as volatile, since it changes after LLVM has optimized this.
    """
    body, missing = Body("__cpufeat_missing"), "0"
    for index, name in enumerate(guarded):
        sign = body.let(f"load volatile i8, i8* {_sign(body, guarded, index)}")
        is_needed = body.let(f"icmp eq i8 {sign}, {ord(guard_table.NEEDED)}")
        lacks = body.let(f"xor i1 {usable(body, tests, FeatureSet(arch, [name]), permitted=False)}, true")
        bit = body.let(f"select i1 {body.all([is_needed, lacks])}, MASK {1 << index}, MASK 0")
        missing = body.let(f"or MASK {missing}, {bit}")
    for target in better:
        missing = body.let(f"select i1 {usable(body, tests, target.features)}, MASK 0, MASK {missing}")
    parameters = ", ".join(f"i64 %{word}" for word in tests.words)
    return body.function("MASK", parameters, tests.attributes, f"ret MASK {missing}")


def _lacking(tests: FeatureTests, guarded: Sequence[str]) -> str:
    """Define ``@__cpufeat_lacking``, which tests features only if the table has one that is needed."""
    look, ask = Body("__cpufeat_lacking"), Body("__cpufeat_lacking", "a")
    sign = look.let(f"load volatile i8, i8* {_sign(look, guarded)}")
    is_free = look.let(f"icmp eq i8 {sign}, {ord(guard_table.NEVER)}")
    arguments = tests.arguments(ask)
    return f"""
define internal MASK @__cpufeat_lacking() {tests.attributes} {{
{look.instructions()}
  br i1 {is_free}, label %none, label %ask
none:
  ret MASK 0
ask:
{ask.instructions()}
  %missing = call MASK @__cpufeat_missing({arguments})
  ret MASK %missing
}}
"""


def _answer(tests: FeatureTests) -> str:
    exported = "dllexport " if tests.system == "windows" else ""
    return f"""
define {exported}i32 @{SUPPORTED}() {tests.attributes} {{
  %missing = call MASK @__cpufeat_lacking()
  %is.none = icmp eq MASK %missing, 0
  %answer = zext i1 %is.none to i32
  ret i32 %answer
}}
"""


def _refusal(tests: FeatureTests, targets: Sequence[Target], name: str, guarded: Sequence[str]) -> str:
    """Define the constructor, which composes the message in memory and writes it in one call."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    built = ", ".join(dict.fromkeys(map(_spelled, targets)))
    head, tail = f"{printable}: this CPU lacks: ", f" (needed by this program, built for {built})\n"
    body = Body("__cpufeat_guard")
    is_windows = tests.system == "windows"
    values = {
        "ROOM": str(len((head + tail).encode()) + sum(len(feature) + 2 for feature in guarded)),
        "HEAD": body.text(head),
        "TAIL": body.text(tail),
        "COMMA": body.text(", "),
        "NOTHING": body.text(""),
        "FIRST": _sign(body, guarded, 0),
        "SIZE": "i32" if is_windows or tests.arch == "i686" else "i64",
        "WRITE": "_write" if is_windows else "write",
        "ATTRIBUTES": tests.attributes,
        "STATUS": str(EXIT_STATUS),
    }
    text = _REFUSAL
    for word, value in values.items():
        text = text.replace(word, value)
    return body.constants() + text.replace("GIVEN", body.instructions())


def _spelled(target: Target) -> str:
    """Return a target as a request, ``x86-64,+avx2``, without what it leaves out."""
    added = target.features.isa - base_features(target.arch, target.cpu)
    rested_on = {name for feature in added for name in FeatureSet(target.arch, [feature]).closed() if name != feature}
    return ",+".join((target.cpu, *(feature for feature in added if feature not in rested_on)))


_REFUSAL = """\
@llvm.global_ctors = appending global [1 x { i32, void ()*, i8* }] \
[{ i32, void ()*, i8* } { i32 0, void ()* @__cpufeat_guard, i8* null }]
declare SIZE @WRITE(i32, i8*, SIZE)
declare void @_exit(i32)
define internal i8* @__cpufeat_append(i8* %to, i8* %text) ATTRIBUTES {
start:
  br label %next
next:
  %place = phi i8* [ %to, %start ], [ %place.after, %next ]
  %from = phi i8* [ %text, %start ], [ %from.after, %next ]
  %character = load volatile i8, i8* %from
  store i8 %character, i8* %place
  %place.after = getelementptr i8, i8* %place, i64 1
  %from.after = getelementptr i8, i8* %from, i64 1
  %is.end = icmp eq i8 %character, 0
  br i1 %is.end, label %end, label %next
end:
  ret i8* %place
}
define internal void @__cpufeat_guard() ATTRIBUTES {
start:
  %message = alloca [ROOM x i8]
  %missing = call MASK @__cpufeat_lacking()
  %is.none = icmp eq MASK %missing, 0
  br i1 %is.none, label %run, label %refuse
run:
  ret void
refuse:
GIVEN
  %begin = getelementptr [ROOM x i8], [ROOM x i8]* %message, i64 0, i64 0
  %begin.listed = call i8* @__cpufeat_append(i8* %begin, i8* HEAD)
  br label %next
next:
  %at = phi i8* [ %begin.listed, %refuse ], [ %at.after, %next ]
  %comma = phi i8* [ NOTHING, %refuse ], [ %comma.after, %next ]
  %record = phi i8* [ FIRST, %refuse ], [ %record.after, %next ]
  %left = phi MASK [ %missing, %refuse ], [ %left.after, %next ]
  %name = getelementptr i8, i8* %record, i64 1
  %named = call i8* @__cpufeat_append(i8* %at, i8* %comma)
  %listed = call i8* @__cpufeat_append(i8* %named, i8* %name)
  %is.missing = trunc MASK %left to i1
  %at.after = select i1 %is.missing, i8* %listed, i8* %at
  %comma.after = select i1 %is.missing, i8* COMMA, i8* %comma
  %start.number = ptrtoint i8* %named to SIZE
  %end.number = ptrtoint i8* %listed to SIZE
  %length = sub SIZE %end.number, %start.number
  %name.end = getelementptr i8, i8* %name, SIZE %length
  %record.after = getelementptr i8, i8* %name.end, i64 1
  %left.after = lshr MASK %left, 1
  %is.over = icmp eq MASK %left.after, 0
  br i1 %is.over, label %say, label %next
say:
  %end = call i8* @__cpufeat_append(i8* %at.after, i8* TAIL)
  %from = ptrtoint i8* %begin to SIZE
  %to = ptrtoint i8* %end to SIZE
  %size = sub SIZE %to, %from
  %written = call SIZE @WRITE(i32 2, i8* %begin, SIZE %size)
  call void @_exit(i32 STATUS)
  unreachable
}
"""
