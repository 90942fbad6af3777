"""Provide what the verbs that list tables have in common: filters, the choice of a machine, and rows of one line."""

from __future__ import annotations

from cpufeat.cli import terminal
from cpufeat.cli.options import add_machine, llvm_version
from cpufeat.detection.detect import default_machine, detect
from cpufeat.errors import CpufeatError, UnknownNameError
from cpufeat.features import FeatureSet, family, find, nearest
from cpufeat.levels import level_features, levels
from cpufeat.llvm_tables import load, versions
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import of_triple

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Sequence

    from cpufeat.llvm_tables import Llvm

_CELL = 24
"""The width from which on a cell pushes those after it out of their columns."""


def add_filters(parser: ArgumentParser, things: str, columns: str) -> None:
    """Add the arguments that all lists have: a name, ``--arch``, ``--llvm``, ``--usable``, ``--machine``, ``--json``.

    ``things`` is the plural of what is listed, ``columns`` explains the columns at the end of the help.
    """
    parser.epilog = f"{columns} Exit status: 0: something is listed; 1: nothing matches; 2: bad usage or input."
    parser.add_argument(
        "name",
        metavar=things.removesuffix("s").upper(),
        nargs="?",
        default="",
        help=f"only {things} with this in one of their names",
    )
    parser.add_argument("--arch", metavar="ARCH", help="the architecture (default: that of this machine)")
    parser.add_argument("--llvm", metavar="N", type=llvm_version, help=f"only {things} that this version of LLVM knows")
    parser.add_argument("--usable", action="store_true", help=f"only {things} whose code runs on this machine")
    parser.add_argument("--json", action="store_true", help="print all that is known of each, for programs")
    add_machine(parser)


def arch_of(options: Namespace) -> str:
    """Return the architecture that is meant. Raises UnknownNameError if there are no tables for it."""
    return of_triple(options.arch if options.arch is not None else default_machine().arch)


def llvm_of(arch: str, version: int) -> Llvm:
    """Return the tables of a version. Raises CpufeatError if it is older than LLVM's support of the architecture."""
    oldest = versions(arch)[0]
    if version < oldest:
        raise CpufeatError(f"--llvm {version}: for {arch} the oldest version that is known is {oldest}")
    return load(arch, version)


def of_level(arch: str, level: str) -> FeatureSet:
    """Return the features of a level. Raises UnknownNameError."""
    if level not in levels(arch):
        raise UnknownNameError(f"{family(arch)} level", level, nearest(level, levels(arch)) or tuple(levels(arch)))
    return level_features(arch, level)


def features_named(arch: str, texts: Iterable[str]) -> FeatureSet:
    """Return the features that comma-separated lists name in any spelling. Raises UnknownNameError."""
    return FeatureSet(arch, [find(arch, name).name for text in texts for name in text.split(",") if name.strip()])


def usable(arch: str) -> FeatureSet:
    """Return the features that the machine can use. Raises CpufeatError if it is of another architecture."""
    host = detect()
    if family(host.arch) != family(arch):
        raise CpufeatError(f"--usable: the machine is {host.arch}, on which no code for {arch} runs")
    return FeatureSet(arch, host.features.names)


def matches(wanted: str, names: Iterable[str]) -> bool:
    """Whether one of the names contains the wanted text, whatever the case and punctuation."""
    return any(_plain(wanted) in _plain(name) for name in names)


def show_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a heading and one line for each row, in columns; a terminal gets no more of a line than fits."""
    widths = [min(max(map(len, column)), _CELL) for column in zip(head, *rows, strict=True)]
    terminal.show_cut([(_aligned(head, widths), "head"), *((_aligned(row, widths), "") for row in rows)])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _plain(text: str) -> str:
    return text.strip().lower().replace("_", "-").replace(".", "-")
