"""Requests: ``native``, a level or a CPU, with ``+f`` and ``-f`` in LLVM's form or in Zig's.

``haswell,+avx512f,-fma`` (LLVM) and ``haswell+avx512f-fma`` (Zig) say the same. Without a base, changes are relative to
the host. CPU names may be LLVM's, archspec's or GCC's.
"""

from __future__ import annotations

from cpufeat.cpus import NATIVE, cpus, find_cpu, lookup  # noqa: F401 - people import `cpus` from here
from cpufeat.errors import TargetError, UnknownNameError
from cpufeat.features import Feature, find
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOST_NAMES = (NATIVE, "host")


class Request(Value):
    """A request, taken apart."""

    text: str
    base: str
    """``native``, or a CPU or level in LLVM's spelling."""
    changes: tuple[tuple[str, Feature], ...] = ()
    """``+`` or ``-`` and a feature, in the order given."""


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
    for length in range(len(pieces), 0, -1):
        cpu = lookup(arch, "".join(pieces[:length]))
        if cpu is not None:
            return cpu, pieces[length:]
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
