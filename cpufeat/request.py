"""Parse requests: ``native``, a level or a CPU with ``+f`` and ``-f``; and apply the changes to the base.

``haswell,+avx512f,-fma`` (as LLVM writes it) and ``haswell+avx512f-fma`` (as Zig does) are the same. Without a base,
changes are relative to the host. CPU names may be LLVM's, archspec's or GCC's.
"""

from __future__ import annotations

from cpufeat.errors import TargetError, UnknownNameError
from cpufeat.features import HARDWARE, Feature, FeatureSet, find, implied, nearest, table
from cpufeat.levels import levels, required_features
from cpufeat.support.value import TYPE_CHECKING, Value
from cpufeat.tables import architectures, families

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cpufeat.cpus import Cpu

NATIVE = "native"
"""The name that compilers have for the CPU of the machine that they run on."""
_HOST_NAMES = (NATIVE, "host")


class Request(Value):
    """A parsed request."""

    text: str
    base: str
    """``native``, or a CPU or level in LLVM's spelling."""
    changes: tuple[tuple[str, Feature], ...] = ()
    """``+`` or ``-`` and a feature, in the order given."""

    @property
    def is_native(self) -> bool:
        """Whether it is relative to the host."""
        return self.base == NATIVE

    @property
    def options(self) -> tuple[str, ...]:
        """The changes to tuning and code generation flags (``+prefer_256_bit``), the last of each name."""
        known = {feature.name: feature for _, feature in self.changes}
        return tuple([sign + name for name, sign in self.last_signs.items() if known[name].kind not in HARDWARE])

    @property
    def last_signs(self) -> dict[str, str]:
        """The last sign that is before each name."""
        return {feature.name: sign for sign, feature in self.changes}


class Wanted(Value):
    """The features that a request asks for."""

    features: FeatureSet
    """Closed under implication."""
    also_removed: dict[str, tuple[str, ...]]
    """The features lost with a removed one: each name, and the removed features that it depends on."""


def parse(text: str, arch: str) -> Request:
    """Parse a request. Raises UnknownNameError for a name that no table has, TargetError for a malformed text."""
    if not text.replace(",", " ").strip():
        raise TargetError(f"the request is empty: name a level or a CPU, or {NATIVE} for the machine itself")
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


def arch_of(text: str, here: str) -> str:
    """Return the architecture of a request: ``here`` where its CPU or level has code for that, else the CPU's own.

    A request that is relative to a host, or that names nothing known, is for ``here``. Raises TargetError for a name
    that stands for no CPU in particular on several architectures (``generic``).
    """
    from cpufeat.cpus import can_run, lookup

    pieces, known = _pieces(text.partition(",")[0].strip()), architectures()
    archs = sorted([row.arch for row in known], key=lambda arch: arch != here)
    named = ((arch, _longest_cpu(arch, pieces)[0]) for arch in archs)
    arch, cpu = next(((arch, cpu) for arch, cpu in named if cpu and can_run(arch, cpu)), (here, ""))
    if len({row.family for row in known if row.cpu == cpu}) > 1:
        having = ", ".join(folder for folder, first in families().items() if lookup(first, cpu))
        raise TargetError(f"{cpu} is a name of several architectures ({having}): give a triple as well")
    return arch


def cpus(arch: str) -> dict[str, Cpu]:
    """Return the rows of :func:`cpufeat.cpus.cpus`, which scripts import from here."""
    from cpufeat.cpus import cpus

    return cpus(arch)


def wanted(request: Request, base: FeatureSet) -> Wanted:
    """Apply a request's changes to the features of its base.

    ``+f`` adds all that f implies as well, ``-f`` removes all that implies f. Raises TargetError for 64-bit code
    without the baseline, which LLVM cannot generate, and for a ``+f`` that would bring back what is removed.
    """
    arch, features, lost = base.arch, base, FeatureSet(base.arch)
    for sign, feature in request.changes:
        if feature.kind not in HARDWARE:
            continue
        if sign == "+":
            features |= FeatureSet(arch, implied(arch, feature.name))
        else:
            remaining = features.without([feature.name])
            features, lost = remaining, lost | (features - remaining)
    removed = {name for name, sign in request.last_signs.items() if sign == "-"}
    if request.changes:
        features |= (features.completed() - features).without(removed)
    lowest = required_features(arch)
    if not lowest <= features:
        raise TargetError(f"{request.text!r}: {arch} code cannot do without {', '.join(lowest - features)}")
    for name in features & FeatureSet(arch, removed):
        users = [other for other, sign in request.last_signs.items() if sign == "+" and name in implied(arch, other)]
        raise TargetError(
            f"{request.text!r} removes {name} and then asks for {' and '.join(users)}, which cannot do without it"
        )
    also = {name: implied(arch, name) & removed for name in lost - features if name not in removed}
    return Wanted(features, {name: tuple(sorted(causes)) for name, causes in also.items()})


def _pieces(part: str) -> list[str]:
    """Split before every sign: ``x86-64-v3+avx512f`` is ``x86``, ``-64``, ``-v3``, ``+avx512f``."""
    pieces = [""]
    for character in part:
        if character in "+-":
            pieces.append("")
        pieces[-1] += character
    return [piece for piece in pieces if piece]


def _longest_base(arch: str, pieces: list[str]) -> tuple[str, list[str]]:
    if pieces[0].lower() in _HOST_NAMES:
        return NATIVE, pieces[1:]
    from cpufeat.cpus import find_cpu  # not for native, the request of most starts

    cpu, length = _longest_cpu(arch, pieces)
    if cpu:
        return cpu, pieces[length:]
    whole = next((length for length, piece in enumerate(pieces) if piece[0] == "+"), len(pieces))
    changes = ["+" + feature for feature in table(arch)]
    return find_cpu(arch, "".join(pieces[:whole]), NATIVE, *changes), pieces[whole:]


def _longest_cpu(arch: str, pieces: list[str]) -> tuple[str, int]:
    """Return the CPU or level of the longest name at the front and the number of its pieces, an empty name for none."""
    from cpufeat.cpus import lookup

    named = ((lookup(arch, "".join(pieces[:length])), length) for length in range(len(pieces), 0, -1))
    return next(((cpu, length) for cpu, length in named if cpu), ("", 0))


def _changes(arch: str, pieces: list[str], text: str) -> Iterator[tuple[str, Feature]]:
    """Parse signed features. A name may contain a minus: the longest known name is taken."""
    while pieces:
        if len(pieces[0]) == 1:
            raise TargetError(f"{text!r}: a sign without a feature")
        for length in range(len(pieces), 0, -1):
            name = "".join(pieces[:length])
            try:
                feature = find(arch, name[1:])
            except UnknownNameError as error:
                if length == 1:
                    meant = error.nearest or nearest(text, levels(arch))  # x86-64-v5 is x86-64 without v5
                    raise UnknownNameError(error.kind, error.name, meant, error.elsewhere) from None
                continue
            yield name[0], feature
            pieces = pieces[length:]
            break
