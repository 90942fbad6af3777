"""The architectures that have tables, by the kernel's name."""

from __future__ import annotations

from cpufeat import tables
from cpufeat.errors import UnknownNameError
from cpufeat.value import Value


class Architecture(Value):
    """A row of ``architectures.tsv``, whose header says what each column means."""

    arch: str
    family: str
    triple: str
    abi: str
    cpu: str
    requires: str


def architecture(arch: str) -> Architecture:
    """Return the row of an architecture. Raises UnknownNameError."""
    row = tables.row("architectures.tsv", arch)
    if row is None:
        raise UnknownNameError("architecture", arch, tuple(name for name, *_ in tables.rows("architectures.tsv")))
    return Architecture(*row)


def has_tables(arch: str) -> bool:
    """Whether an architecture has a row."""
    return tables.row("architectures.tsv", arch) is not None


def of_triple(triple: str) -> str:
    """Return a triple's architecture (``powerpc64le-unknown-linux-gnu``: ``ppc64le``). Raises UnknownNameError."""
    first = triple.partition("-")[0].replace("arm64", "aarch64")
    named = (arch for arch, _, spelling, *_ in tables.rows("architectures.tsv") if first in (arch, spelling))
    return next(named, None) or architecture(first).arch
