"""Arguments shared by the verbs, the checks of their values, and exit statuses."""

from __future__ import annotations

import sys

from cpufeat.errors import CpufeatError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _ActionsContainer

OK, NO, BAD = 0, 1, 2
"""The exit statuses: success; a check or a compilation failed; bad usage or unreadable input."""


def add_machine(parser: _ActionsContainer) -> None:
    """Add ``--machine``, for a verb that detects a CPU."""
    parser.add_argument("--machine", metavar="FILE", help="use a recorded machine, not this one (see identify --help)")


def add_on_missing(parser: _ActionsContainer) -> None:
    """Add ``--on-missing``, for a verb that resolves a request."""
    parser.add_argument(
        "--on-missing",
        choices=("fallback", "error"),
        default="fallback",
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
