"""``cpufeat help``: show the help of a verb, or of the whole program."""

from __future__ import annotations

from cpufeat.cli.options import OK
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("about", metavar="VERB", nargs="?", help="the verb (default: an overview of all)")


def run(options: Namespace) -> int:
    """Print the help."""
    options.parser_of(options.about).print_help()
    return OK
