"""Emit code that reads ``CPUFEAT_DISABLE``, with the spellings, separators and effects of :mod:`cpufeat.resolution`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from cpufeat.aot.llvm.builder import Body
from cpufeat.features import NO_SPELLING, find, normalize, table
from cpufeat.resolution import DISABLE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpufeat.target import Target


def call(targets: Sequence[Target]) -> str:
    """Return the call of the function that returns a mask: bit n is set if target n is disabled."""
    return f"call i{len(targets)} @__cpufeat_disabled()"


def disabled(targets: Sequence[Target], attributes: str) -> str:
    """Define what :func:`call` calls. It needs ``getenv``.

    A target's features are closed, so that a target without a feature has nothing that depends on it.
    """
    body, kind = Body("__cpufeat_listed"), f"i{len(targets)}"
    answer = "0"
    for spelling, name in _spellings(targets[0].arch).items():
        without = sum(1 << index for index, target in enumerate(targets) if name in target.features)
        if without:
            listed = body.let(f"call i1 @__cpufeat_lists(i8* %list, i8* {body.text(spelling)})")
            answer = body.let(f"or {kind} {answer}, {body.let(f'select i1 {listed}, {kind} {without}, {kind} 0')}")
    listed = body.function(kind, "i8* %list", attributes, f"ret {kind} {answer}")
    variable = Body("__cpufeat_disabled")
    list_ = variable.let(f"call i8* @getenv(i8* {variable.text(DISABLE_VARIABLE)})")
    is_empty = variable.let(f"icmp eq i8* {list_}, null")
    value = variable.let(f"select i1 {is_empty}, i8* {variable.text('')}, i8* {list_}")
    answer = variable.let(f"call {kind} @__cpufeat_listed(i8* {value})")
    caller = variable.function(kind, "", attributes, f"ret {kind} {answer}")
    return f"declare i8* @getenv(i8*)\n{_LISTS.replace('ATTRIBUTES', attributes)}{listed}{caller}"


def _spellings(arch: str) -> dict[str, str]:
    """Return the feature that each spelling stands for, with and without the prefix that is left away."""
    rows = table(arch).values()
    written = {normalize(text) for row in rows for text in (row.name, *chain(*row.spellings.values()))}
    known = {text: find(arch, text).name for text in sorted(written - {NO_SPELLING})}
    return {**known, **{f"has_{text}": name for text, name in known.items()}}


# A text of names between commas and white space against one name, which is in the form of cpufeat.features.normalize.
# %at is where in the name the word at hand has come to; a word that differs is passed over.
_LISTS = """
define internal i1 @__cpufeat_lists(i8* %list, i8* %name) ATTRIBUTES {
start:
  br label %next
next:
  %from = phi i8* [ %list, %start ], [ %rest, %compare ], [ %rest, %again ]
  %at = phi i8* [ %name, %start ], [ %further, %compare ], [ %name, %again ]
  %alike = phi i1 [ true, %start ], [ %still.alike, %compare ], [ true, %again ]
  %character = load i8, i8* %from
  %rest = getelementptr i8, i8* %from, i64 1
  %wanted = load i8, i8* %at
  %is.blank = icmp ule i8 %character, 32
  %is.comma = icmp eq i8 %character, 44
  %is.end = or i1 %is.blank, %is.comma
  br i1 %is.end, label %word, label %compare
compare:
  %above = sub i8 %character, 65
  %is.upper = icmp ult i8 %above, 26
  %lower = add i8 %character, 32
  %folded = select i1 %is.upper, i8 %lower, i8 %character
  %is.dot = icmp eq i8 %folded, 46
  %is.minus = icmp eq i8 %folded, 45
  %is.mark = or i1 %is.dot, %is.minus
  %normal = select i1 %is.mark, i8 95, i8 %folded
  %is.same = icmp eq i8 %normal, %wanted
  %still.alike = and i1 %alike, %is.same
  %after = getelementptr i8, i8* %at, i64 1
  %further = select i1 %still.alike, i8* %after, i8* %at
  br label %next
word:
  %is.whole = icmp eq i8 %wanted, 0
  %is.it = and i1 %alike, %is.whole
  br i1 %is.it, label %found, label %again
again:
  %is.last = icmp eq i8 %character, 0
  br i1 %is.last, label %missing, label %next
found:
  ret i1 true
missing:
  ret i1 false
}
"""
