"""Read the tables in ``data/``, where facts are added as rows (a feature in ``<family>/features.tsv``).

The first of them lists the architectures.

A table is tab-separated text, one fact a line, ``#`` for comments, ``-`` for an empty cell. No other cell begins with
``-``, and every row is as long as the table's header.
In a checkout and an editable install the folder lies beside the package; in a wheel, inside it. Tables are read by the
loader of this module, so the package may also lie in a zip archive.
"""

from __future__ import annotations

import os

from cpufeat.errors import UnknownNameError
from cpufeat.support.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from importlib.abc import ResourceLoader

    __loader__: ResourceLoader

PACKAGE = os.path.dirname(os.path.abspath(__file__))
"""The path of the package ``cpufeat``, which may lead into a zip archive."""
_INSTALLED = os.path.join(PACKAGE, "data")
_IS_CHECKOUT = not os.path.isdir(_INSTALLED) and os.path.isdir(PACKAGE)
DATA = os.path.join(os.path.dirname(PACKAGE), "data") if _IS_CHECKOUT else _INSTALLED

_ARCHITECTURES = "architectures.tsv"

_texts: dict[str, str] = {}
_architectures: dict[str, Architecture] = {}


def text(name: str) -> str:
    """Return the text of ``data/name`` (``"x86/features.tsv"``), read once. Raises FileNotFoundError."""
    if name not in _texts:
        _texts[name] = __loader__.get_data(os.path.join(DATA, *name.split("/"))).decode()
    return _texts[name]


def names(folder: str) -> list[str]:
    """Return the names of the files in ``data/folder``."""
    if os.path.isdir(DATA):
        return os.listdir(os.path.join(DATA, folder))
    from importlib.resources import files

    return [file.name for file in files(__package__).joinpath("data").joinpath(folder).iterdir()]


def lines(name: str) -> list[str]:
    """Return the rows of the table ``data/name`` without its header, each with tabs between its cells."""
    written = text(name).replace("\t-", "\t").splitlines()
    return [line for line in written if line and line[0] != "#"][1:]


def rows(name: str) -> list[list[str]]:
    """Return the rows of the table ``data/name`` without its header, as cells."""
    return [line.split("\t") for line in lines(name)]


def row(name: str, *first: str) -> list[str] | None:
    """Return the row of ``data/name`` that begins with the cells ``first``, None if there is none."""
    table = text(name)
    start = table.find("\n{}\t".format("\t".join(first))) + 1
    if not start:
        return None
    line = table[start:].partition("\n")[0]
    return line.replace("\t-", "\t").split("\t")


class Architecture(Value):
    """A row of ``architectures.tsv``, whose header says what each column means."""

    arch: str
    family: str
    triple: str
    aliases: str
    abi: str
    level: str
    cpu: str
    requires: str
    assumes: str
    also_runs: str
    qemu: str
    zig: str


def architecture(arch: str) -> Architecture:
    """Return the row of an architecture. Raises UnknownNameError."""
    if arch not in _architectures:
        cells = row(_ARCHITECTURES, arch)
        if cells is None:
            raise UnknownNameError("architecture", arch, tuple(name for name, *_ in rows(_ARCHITECTURES)))
        _architectures[arch] = Architecture(*cells)
    return _architectures[arch]


def architectures() -> tuple[Architecture, ...]:
    """Return the rows of all architectures; of a CPU that runs the code of several, the one to prefer comes first."""
    return tuple([architecture(arch) for arch, *_ in rows(_ARCHITECTURES)])


def families() -> dict[str, str]:
    """Return each family of architectures, and the first architecture of it."""
    first: dict[str, str] = {}
    for arch, folder, *_ in rows(_ARCHITECTURES):
        first.setdefault(folder, arch)
    return first


def has_tables(arch: str) -> bool:
    """Whether there are tables for an architecture."""
    return row(_ARCHITECTURES, arch) is not None


def of_triple(triple: str) -> str:
    """Return a triple's architecture (``powerpc64le-unknown-linux-gnu``: ``ppc64le``). Raises UnknownNameError."""
    first = triple.partition("-")[0]
    matching = (
        arch for arch, _, spelling, aliases, *_ in rows(_ARCHITECTURES) if first in (arch, spelling, *aliases.split())
    )
    return next(matching, None) or architecture(first).arch
