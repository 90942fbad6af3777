"""Add the arguments that several verbs share, check their values, and define exit statuses."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError

from cpufeat.errors import CpufeatError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _ActionsContainer

    from cpufeat.decisions import Decision
    from cpufeat.target import Target

OK, NO, BAD, UNKNOWN = 0, 1, 2, 3
"""The exit statuses: fine; the answer is no; bad usage, or input that cannot be read; what matters cannot be told."""


def add_machine(parser: _ActionsContainer) -> None:
    """Add ``--machine``, for a verb that detects a CPU."""
    parser.add_argument("--machine", metavar="FILE", help="use a recorded machine, not this one (see identify --help)")


def add_machine_or_triple(parser: ArgumentParser) -> None:
    """Add ``--machine`` and ``--triple``, for a verb that tells what to compile for."""
    where = parser.add_mutually_exclusive_group()
    add_machine(where)
    where.add_argument(
        "--triple",
        metavar="TRIPLE",
        help="for any machine of this architecture and system (default REQUEST: its baseline)",
    )


def target_of(options: Namespace) -> tuple[str, Target, tuple[Decision, ...]]:
    """Return the request, the target and the decisions of a command line with ``--triple``.

    Raises CpufeatError for an empty TRIPLE and for ``--on-missing``; UnknownNameError and TargetError for a REQUEST
    that does not fit the triple.
    """
    from cpufeat.cpus import base_features
    from cpufeat.levels import baseline
    from cpufeat.request import parse, wanted
    from cpufeat.resolution import corrections, removals
    from cpufeat.tables import of_triple
    from cpufeat.target import Target

    if options.on_missing:
        raise CpufeatError("--on-missing has no effect on a target for another machine: no machine is looked at")
    if not options.triple.strip():
        raise CpufeatError("TRIPLE is empty; name an architecture and a system: aarch64-linux-gnu")
    arch = of_triple(options.triple)
    request = baseline(arch) if options.request is None else options.request
    target = Target.parse(request, options.triple)
    parsed = parse(request, arch)
    requested = wanted(parsed, base_features(arch, parsed.base))
    return request, target, (*corrections(parsed, requested), *removals(request, requested))


def llvm_version(text: str) -> int:
    """Return the major version of LLVM in a text such as ``14`` or ``14.0.6``."""
    from cpufeat.llvm_tables import versions

    oldest, number = versions("x86_64")[0], text.partition(".")[0]
    if not number.isdecimal() or len(number) > 3 or int(number) < oldest:
        raise ArgumentTypeError(f"expected a version of LLVM, {oldest} or newer, not {text!r}")
    return int(number)


def add_on_missing(parser: _ActionsContainer) -> None:
    """Add ``--on-missing``, for a verb that resolves a request."""
    parser.add_argument(
        "--on-missing",
        choices=("fallback", "error"),
        help="if the machine lacks a requested feature: leave it out with a warning (fallback, the default), or fail",
    )


def path_of(file: str) -> str:
    """Return the path of a FILE argument; ``-`` is standard input. Raises CpufeatError if it is empty."""
    if not file:
        raise CpufeatError("FILE is empty; is a shell variable unset?")
    if file == "-" and sys.platform == "win32":
        raise CpufeatError("-: standard input is not supported on Windows; pass a FILE")
    return "/dev/stdin" if file == "-" else file


def request_of(text: str) -> str:
    """Return a REQUEST argument that must name a level or a CPU. Raises CpufeatError if it is empty."""
    if not text.strip():
        raise CpufeatError("REQUEST is empty; name a level or a CPU")
    return text
