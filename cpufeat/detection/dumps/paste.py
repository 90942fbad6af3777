"""Undo what printing on a terminal, copying and mailing did to the lines of a text.

Lists of features that were broken into lines are joined. Lines are broken between words, which leaves them of
different widths, or at a column, as lscpu itself does on a terminal, and then also inside words. What can be read in
two ways does not count, nor does what may be half a word: half of ``avx512f`` is ``avx``.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

from cpufeat import tables
from cpufeat.decisions import Decision
from cpufeat.detection.dumps.architecture import infer_arch
from cpufeat.detection.dumps.labels import split, translated
from cpufeat.features import NO_SPELLING, family, table
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

CPUINFO_LISTS = ("flags", "Features", "features", "facilities", "isa", "hart isa", "ISA")
LSCPU_LISTS = ("Flags", "ISA")
_SYSCTL_LISTS = ("machdep.cpu.features", "machdep.cpu.leaf7_features", "machdep.cpu.extfeatures")
_LISTS = frozenset([*CPUINFO_LISTS, *LSCPU_LISTS, *_SYSCTL_LISTS])
"""The keys of lists of features."""
_ISA_STRINGS = ("isa", "hart isa", "ISA")
"""Those of lists that may have ``_`` between the names in place of a space."""
_CONTINUATION = re.compile(r"\s*(?:[a-z0-9_]+(?:\s+[a-z0-9_]+)*|[A-Z0-9_.]+(?:\s+[A-Z0-9_.]+)*)\s*$")
"""What a list may go on with: no sentence, and nothing with a colon."""
_NUMBERED = "x86"
"""The family of architectures whose kernel prints the words in the order of numbers, and has a table of them."""
_LATE = "lahf_lm"
"""A word that all 64-bit x86 CPUs have but the first of AMD (2003) and Intel (2004); most words come after it."""
_IS_64_BIT = re.compile(r"x86_64|\b(?:48|57) bits virtual| lm( |$)", re.MULTILINE)
_WIDTHS = range(40, 301)
"""The columns at which lines are broken."""
_LEAST_WORDS = 10
"""The words of a list that is long enough to tell that it is in the kernel's order."""
_CUT_MARKS = ("...", "\u2026", "...]", "\u2026]", ">", "\\")
"""What people and pagers put where they cut off a line."""


def mend(text: str) -> tuple[str, tuple[Decision, ...]]:
    """Return a text of keys and values with each list of features in one line, and a decision for what was left out.

    Labels of lscpu are put into English, and empty lines after every line are dropped.
    """
    groups: list[list[str]] = []
    for line in map(translated, _single_spaced(text.splitlines())):
        if groups and _goes_on(groups[-1], line):
            groups[-1].append(line)
        else:
            groups.append([line])
    decisions: list[Decision] = []
    lines = [_one_line(group, decisions) for group in groups]
    for at, line in enumerate(lines):
        is_last = at + 1 == len(lines)
        if text[-1:].isalnum() if is_last else _CONTINUATION.match(lines[at + 1]):
            lines[at] = _without_half_a_word(line, decisions)
    mended = "\n".join([*lines, ""])
    if not decisions:
        decisions += _stops_early(mended)
    return mended, tuple(dict.fromkeys(decisions))


def _stops_early(text: str) -> Iterator[Decision]:
    """Yield the decision about a list of x86 in the kernel's order whose end is nowhere near that of a whole one."""
    lists = (split(line) for line in text.splitlines() if _is_list(line))
    key, listed = next(lists, ("", ""))
    words = listed.split()
    if len(words) < _LEAST_WORDS or infer_arch({"flags": listed}) not in ("x86_64", "i686"):
        return
    numbers = _numbers("x86_64")
    order = [number for word in words if (number := numbers.get(word, -1)) >= 0]
    if order == sorted(order) and 0 < max(order, default=0) < numbers[_LATE] and _IS_64_BIT.search(text):
        yield _said(key, f"the list stops at {words[-1]!r}, early for a 64-bit CPU: it may be cut off")


def repeated(values: Iterable[str]) -> Iterator[str]:
    """Yield each value that was there before."""
    known: set[str] = set()
    for value in values:
        if value in known:
            yield value
        known.add(value)


def several_machines(key: str, repeated: Iterable[str]) -> tuple[Decision, ...]:
    """Return the decision about a text that says more than once what a machine says once; none where none is."""
    first = next(iter(repeated), None)
    if first is None:
        return ()
    return (_said(key, f"{first} occurs twice, as in dumps of several machines; what all of them run counts"),)


def _single_spaced(lines: list[str]) -> list[str]:
    """Halve every run of empty lines where no two lines with text follow one another."""
    filled = [bool(line.strip()) for line in lines]
    if sum(filled) < 3 or any(map(all, pairwise(filled))):
        return lines
    single, empty = [], 0
    for line, is_filled in zip(lines, filled, strict=True):
        empty = 0 if is_filled else empty + 1
        if is_filled or empty == 2:
            single.append(line)
    return single


def _is_list(line: str) -> bool:
    return split(line)[0] in _LISTS


def _goes_on(group: list[str], line: str) -> bool:
    """Whether a line continues the list that a group of lines began."""
    return _is_list(group[0]) and _width(group[-1]) in _WIDTHS and _CONTINUATION.match(line) is not None


def _width(line: str) -> int:
    return len(line.expandtabs().rstrip())


def _one_line(group: list[str], decisions: list[Decision]) -> str:
    if not _is_list(group[0]):
        return group[0]
    key, listed = split(group[0])
    widest = max(map(_width, group[1:]), default=0)
    has_ragged_lines = any(_width(line) < widest - 1 for line in group[1:-1])
    known = _words(infer_arch({"flags": " ".join([listed, *group[1:]])})) if len(group) > 1 else frozenset()
    earlier: list[str] = []  # and `listed` is what follows: one text of all would be copied for every line
    for line in group[1:]:
        while earlier and not listed.strip():
            listed = f"{earlier.pop()} {listed}"
        before, last = _last_word(listed)
        first, *after = line.split(maxsplit=1)
        separator = " " if earlier else _separator(key, listed)
        joined = last + first if separator == "_" else _joined(last, first, known)
        if not joined and (has_ragged_lines or listed != listed.rstrip()):
            joined = f"{last} {first}"
        if not joined:
            reason = f"the list is broken at {last!r} and {first!r}, which may be one word; neither counts"
            decisions.append(_said(key, reason))
        earlier += [before] if before else []
        listed = " ".join([*([] if earlier else [""]), joined, *after])
    listed = " ".join([*earlier, listed])
    return f"{key}: {_without_mark(key, listed, decisions)}" if listed.strip() else group[0]


def _last_word(text: str) -> tuple[str, str]:
    """Return what stands before the last word, and that word."""
    text = text.rstrip()
    start = len(text) - len(text.split()[-1]) if text.strip() else 0
    return text[:start].strip(), text[start:]


def _joined(last: str, first: str, known: Container[str]) -> str:
    """Return two words or one, whichever the kernel has, for what a line end parts; empty if both are possible."""
    are_two, is_one = last in known and first in known, last + first in known
    return "" if are_two == is_one else f"{last} {first}" if are_two else last + first


@cache
def _words(arch: str) -> frozenset[str]:
    """Return the words of an architecture's kernel."""
    if not tables.has_tables(arch):
        return frozenset()
    features = [feature for feature in table(arch).values() if feature.bit]
    names = {word for feature in features for word in feature.spellings.get("kernel", (feature.name,))}
    return frozenset(names.union(_numbers(arch))) - {NO_SPELLING}


@cache
def _numbers(arch: str) -> dict[str, int]:
    """Return the kernel's words with the numbers that give their order, -1 for unknown ones; empty but for x86."""
    path = f"{family(arch)}/kernel_words.tsv"
    rows = tables.rows(path) if arch and family(arch) == _NUMBERED else []
    return {word: int(number or -1) for word, number, *_ in rows}


def _without_mark(key: str, listed: str, decisions: list[Decision]) -> str:
    """Leave out a last word that was cut off: a mark says so, it is no word, or it is out of the kernel's order."""
    before, last = _last_word(listed)
    if last.endswith(_CUT_MARKS):
        decisions.append(_said(key, f"the list was cut off, at {last!r}; what follows is unknown"))
        return before
    if key not in _ISA_STRINGS and _is_half(before.split(), last):
        decisions.append(_said(key, f"the list stops in the middle of a word, at {last!r}; what follows is unknown"))
        return before
    return listed.strip()


def _is_half(before: list[str], last: str) -> bool:
    """Whether the last word of a list is half of another: no word itself, or one that belongs further forward.

    The kernel prints the facilities of s390x in the order of their numbers, too.
    """
    if not before:
        return False
    if last.isdecimal():
        return before[-1].isdecimal() and int(last) <= int(before[-1])
    arch = infer_arch({"flags": " ".join([*before, last])})
    if last not in _beginnings(arch):
        return False
    numbers = _numbers(arch)
    order = [number for word in before if (number := numbers.get(word, -1)) >= 0]
    return last not in _words(arch) or (order == sorted(order) and -1 < numbers.get(last, -1) < max(order, default=-1))


@cache
def _beginnings(arch: str) -> frozenset[str]:
    """Return everything that some word of the kernel begins with."""
    return frozenset(word[:end] for word in _words(arch) for end in range(1, len(word)))


def _without_half_a_word(line: str, decisions: list[Decision]) -> str:
    """Leave out the last name of a list that the text ends in, unless it is a word that begins no other."""
    if not _is_list(line):
        return line
    key, listed = split(line)
    before, separator, last = listed.rpartition(_separator(key, listed))
    arch = infer_arch({"flags": listed})
    is_whole = separator == " " and last in _words(arch) - _beginnings(arch)
    if is_whole or not separator:
        return line
    decisions.append(_said(key, f"the list ends at {last!r}, which may be half a word and does not count"))
    return f"{key}: {before.strip()}"


def _separator(key: str, listed: str) -> str:
    """Return what stands between the names of a list, which itself begins with a space."""
    return "_" if key in _ISA_STRINGS and " " not in listed.strip() else " "


def _said(key: str, reason: str) -> Decision:
    return Decision("source", key, reason)
