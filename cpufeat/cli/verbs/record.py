"""``cpufeat record``: record a machine in a file."""

from __future__ import annotations

import os
import sys

from cpufeat.cli.options import OK, add_machine
from cpufeat.detection.detect import default_machine
from cpufeat.detection.recorder import record
from cpufeat.errors import CpufeatError
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="the file to write; - is standard output")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
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
    """Write a file atomically; without ``force``, refuse to overwrite. Raises CpufeatError if it cannot be written."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - these accept any string
        raise CpufeatError(f"{path}: not a regular file")
    try:
        files.write(path, text.encode(), replaces=force)
    except FileExistsError:
        raise CpufeatError(f"{path}: file exists; pass --force to overwrite it") from None
    except (OSError, ValueError) as error:
        raise CpufeatError(files.failure(path, error)) from None
