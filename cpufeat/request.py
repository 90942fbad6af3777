"""Requests: ``native``, a level or a CPU, with ``+f`` and ``-f`` in LLVM's form or in Zig's.

``haswell,+avx512f,-fma`` (LLVM) and ``haswell+avx512f-fma`` (Zig) say the same. Without a base, changes are relative to
the host. CPU names may be LLVM's, archspec's or GCC's.
"""

from __future__ import annotations

from cpufeat import llvm_tables, tables
from cpufeat.errors import TargetError, UnknownNameError
from cpufeat.features import Feature, FeatureSet, family, find, nearest
from cpufeat.levels import level_features, levels
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE = "native"
_HOST_NAMES = (NATIVE, "host")


class Request(Value):
    """A request, taken apart."""

    text: str
    base: str
    """``native``, or a CPU or level in LLVM's spelling."""
    changes: tuple[tuple[str, Feature], ...] = ()
    """``+`` or ``-`` and a feature, in the order given."""


class Cpu(Value):
    """A row of ``cpus.tsv``."""

    name: str
    predecessor: str
    """The nearest older CPU, for an LLVM that does not know this one."""
    spellings: tuple[str, ...]
    """Other systems' names."""


def cpus(arch: str) -> dict[str, Cpu]:
    """Return every CPU by LLVM's name. Raises UnknownNameError for an unknown architecture."""
    rows = tables.rows(f"{family(arch)}/cpus.tsv")
    return {
        name: Cpu(name, predecessor, tuple(item.split("=", 1)[1] for item in spellings.split()))
        for name, predecessor, spellings, *_ in rows
    }


def find_cpu(arch: str, spelling: str) -> str:
    """Return LLVM's name of the CPU that any system spells so. Raises UnknownNameError with the nearest names."""
    known = _cpu_spellings(arch)
    name = _normalize(spelling)
    if name in known:
        return known[name]
    raise UnknownNameError(f"{family(arch)} CPU", spelling, nearest(name, [NATIVE, *known]))


def cpu_features(arch: str, cpu: str) -> FeatureSet:
    """Return what a level or a CPU (in LLVM's spelling) has, by the newest LLVM that knows it."""
    if cpu in levels(arch):
        return level_features(arch, cpu)
    for version in reversed(llvm_tables.versions(arch)):
        features = llvm_tables.cpu_features(arch, cpu, version)
        if features is not None:
            return features
    raise UnknownNameError(f"{family(arch)} CPU", cpu)


def parse(text: str, arch: str) -> Request:
    """Take a request apart. Raises UnknownNameError for a name that no table has, TargetError for a malformed text."""
    base = ""
    changes: list[tuple[str, Feature]] = []
    for part in text.split(","):
        pieces = _pieces(part.strip())
        if pieces and pieces[0][0] not in "+-":
            if base or changes:
                raise TargetError(f"{text!r}: {pieces[0]!r} stands where +FEATURE or -FEATURE is expected")
            base, pieces = _longest_base(arch, pieces)
        changes.extend(_changes(arch, pieces, text))
    return Request(text, base or NATIVE, tuple(changes))


def _pieces(part: str) -> list[str]:
    """Cut before every sign: ``x86-64-v3+avx512f`` is ``x86``, ``-64``, ``-v3``, ``+avx512f``."""
    pieces = [""]
    for character in part:
        if character in "+-":
            pieces.append("")
        pieces[-1] += character
    return [piece for piece in pieces if piece]


def _longest_base(arch: str, pieces: list[str]) -> tuple[str, list[str]]:
    if pieces[0].lower() in _HOST_NAMES:
        return NATIVE, pieces[1:]
    known = _cpu_spellings(arch)
    for length in range(len(pieces), 0, -1):
        name = _normalize("".join(pieces[:length]))
        if name in known:
            return known[name], pieces[length:]
    whole = next((length for length, piece in enumerate(pieces) if piece[0] == "+"), len(pieces))
    return find_cpu(arch, "".join(pieces[:whole])), pieces[whole:]


def _changes(arch: str, pieces: list[str], text: str) -> Iterator[tuple[str, Feature]]:
    """Read signed features; a name may hold a minus, so the longest that is known is taken."""
    while pieces:
        if len(pieces[0]) == 1:
            raise TargetError(f"{text!r}: a sign without a feature")
        for length in range(len(pieces), 0, -1):
            name = "".join(pieces[:length])
            try:
                feature = find(arch, name[1:])
            except UnknownNameError:
                if length == 1:
                    raise
                continue
            yield name[0], feature
            pieces = pieces[length:]
            break


def _cpu_spellings(arch: str) -> dict[str, str]:
    spellings = {_normalize(name): cpu.name for cpu in cpus(arch).values() for name in cpu.spellings}
    names = [*levels(arch), *cpus(arch)]
    return {**spellings, **{_normalize(name): name for name in names}}


def _normalize(spelling: str) -> str:
    return spelling.strip().lower().replace("_", "-")
