"""``cpufeat record``: write a machine down."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from cpufeat.cli import OK, add_machine
from cpufeat.errors import CpufeatError
from cpufeat.host import default_machine
from cpufeat.recorder import record
from cpufeat.value import TYPE_CHECKING

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
        _write(Path(options.file), text, force=options.force)
    return OK


def _write(final: Path, text: str, *, force: bool) -> None:
    """Write a file whole or not at all; without ``force``, only where there is none."""
    if final.exists() and not final.is_file():
        raise CpufeatError(f"{final}: not a regular file")
    partial = final.with_name(f".{final.name}.{secrets.token_hex(8)}")
    try:
        partial.write_text(text, encoding="utf-8")
        if force:
            partial.replace(final)
        else:
            os.link(partial, final)
    except FileExistsError:
        raise CpufeatError(f"{final}: there is such a file; --force writes over it") from None
    except OSError as error:
        raise CpufeatError(f"{final}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
