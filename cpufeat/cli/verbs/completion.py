"""``cpufeat completion``: print the script that makes a shell complete command lines."""

from __future__ import annotations

import sys

from cpufeat.cli.completion import SCRIPTS, candidates
from cpufeat.cli.options import OK
from cpufeat.errors import CpufeatError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "The first line of the script says where it belongs."
    parser.add_argument("shell", metavar="SHELL", nargs="?", choices=SCRIPTS, help=f"one of {', '.join(SCRIPTS)}")
    parser.add_argument(
        "--words",
        action="store_true",
        help="print what the last ARGUMENT can be, as the scripts ask, and what it means",
    )


def run(options: Namespace) -> int:
    """Print a script, or candidates: a line for each, with a tab before its meaning."""
    if options.words:
        words = candidates(options.rest, options.parser_of)
        print("".join(f"{word}\t{' '.join(text.split())}\n" for word, text in words), end="")
    elif options.shell:
        sys.stdout.write(SCRIPTS[options.shell])
    else:
        raise CpufeatError(f"name a shell: {', '.join(SCRIPTS)} (see cpufeat help completion)")
    return OK
