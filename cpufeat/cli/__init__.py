"""Run the command line ``cpufeat VERB ...``: parser -> verbs -> pages -> layout -> terminal.

:mod:`~cpufeat.cli.parser` reads the arguments, a module of :mod:`~cpufeat.cli.verbs` calls the library, a page
arranges the result in blocks, :mod:`~cpufeat.cli.layout` fits them to the width of the terminal,
:mod:`~cpufeat.cli.terminal` prints them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import warnings

from cpufeat.cli import streams
from cpufeat.cli.options import BAD, NO, OK, path_of
from cpufeat.cli.parser import parse
from cpufeat.detection.detect import MACHINE_VARIABLE
from cpufeat.errors import CompileError, CpufeatError, CpufeatWarning, LinkError, MissingFeaturesError
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

_COLLECTION_INTERVAL = 1_000_000
"""The number of new objects after which Python looks for circular garbage."""
_INTERRUPTED, _BROKEN_PIPE = 130, 141
"""The exit statuses that a shell reports for SIGINT and SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; ``arguments`` defaults to those of this process."""
    streams.prepare()
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        streams.discard()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (CpufeatError, OSError, MemoryError) as error:
        streams.flush_or_discard()
        streams.print_error(_message(error))
        return NO if isinstance(error, (MissingFeaturesError, CompileError, LinkError)) else BAD
    return status


def _message(error: CpufeatError | OSError | MemoryError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(error) or "out of memory"


def _run(arguments: list[str]) -> int:
    options = parse(arguments)
    if options is None:
        return OK
    with warnings.catch_warnings(), _default_machine(options), _rare_collections():
        warnings.simplefilter("always", CpufeatWarning)
        warnings.showwarning = _show_warning
        status: int = options.run(options)
    return status


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    streams.print_error(f"warning: {message}")


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for circular garbage less often: verbs keep most of what they make, and an audit spends a sixth on it."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECTION_INTERVAL, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def _default_machine(options: Namespace) -> Iterator[None]:
    """Make ``--machine`` the default machine of the verb and its child processes, then restore the environment."""
    before = os.environ.get(MACHINE_VARIABLE)
    if getattr(options, "machine", None) is not None:
        os.environ[MACHINE_VARIABLE] = path_of(options.machine)
    try:
        yield
    finally:
        os.environ.pop(MACHINE_VARIABLE, None)
        if before is not None:
            os.environ[MACHINE_VARIABLE] = before
