"""``cpufeat record``: write a machine down."""

from __future__ import annotations

import os
import sys

from cpufeat.cli.options import OK, add_machine
from cpufeat.detection.host import default_machine
from cpufeat.detection.recorder import record
from cpufeat.errors import CpufeatError
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="the file to write; - is standard output")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    add_machine(parser)


def run(options: Namespace) -> int:
    """Write the recording."""
    text = record(default_machine()).to_json()
    if options.file == "-":
        sys.stdout.write(text)
    else:
        _write(options.file, text, force=options.force)
    return OK


def _write(path: str, text: str, *, force: bool) -> None:
    """Write a file whole or not at all; without ``force``, only where there is none."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - these raise for no path
        raise CpufeatError(f"{path}: not a regular file")
    try:
        files.write(path, text.encode(), replaces=force)
    except FileExistsError:
        raise CpufeatError(f"{path}: there is such a file; --force writes over it") from None
    except (OSError, ValueError) as error:
        raise CpufeatError(files.failure(path, error)) from None
