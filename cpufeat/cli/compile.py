"""``cpufeat compile``: LLVM IR to an object."""

from __future__ import annotations

from pathlib import Path

from cpufeat import aot
from cpufeat.cli import OK, add_machine, add_on_missing, path_of
from cpufeat.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="LLVM IR, as text (.ll) or bitcode (.bc)")
    parser.add_argument("-o", "--output", metavar="OUT.o", required=True, help="the object to write")
    parser.add_argument("--target", metavar="REQUEST", help="what to compile for (native)")
    parser.add_argument("--opt", type=int, choices=range(4), default=2, metavar="N", help="optimize: 0 to 3 (2)")
    add_machine(parser)
    add_on_missing(parser)


def run(options: Namespace) -> int:
    """Compile and save."""
    file = Path(path_of(options.file))
    artifact = aot.compile(file, target=options.target, opt=options.opt, on_missing=options.on_missing)
    artifact.save(options.output)
    return OK
