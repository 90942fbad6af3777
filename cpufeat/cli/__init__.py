"""The command line: one module a verb, loaded when that verb is given.

Its module has ``arguments(parser)``, which declares its arguments, and ``run(options)``, which returns the exit status.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys

from cpufeat.detection.host import MACHINE_VARIABLE
from cpufeat.errors import CompileError, CpufeatError, CpufeatWarning, LinkError, MissingFeaturesError
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.support.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERBS = {
    "explain": "what this machine is, what to compile for, and why",
    "target": "the same for build scripts: CPU, features, triple, level",
    "compile": "C or LLVM IR to an object, library or program for a target",
    "audit": "what a program, library or object needs of a CPU, from its own instructions",
    "check": "will a file run on a machine or CPU, and if not, what is missing",
    "verify": "run a program on other CPUs, emulated, and compare",
    "identify": "the CPUs of recorded machines, one line a file",
    "record": "write this machine to a file that every verb takes in its place",
}
_HANDS_ON = ("compile", "verify")
"""Verbs that hand on what stands behind ``--``, to the linker or to the program that they run."""
OK, NO, BAD = 0, 1, 2
_INTERRUPTED, _READER_GONE = 130, 141  # what a shell reports for SIGINT and SIGPIPE

_EXAMPLES = """\
a REQUEST is native, a level or a CPU, with +FEATURE and -FEATURE:
  x86-64-v3    haswell,-avx2    native,-avx512f    +amx_int8

examples:
  cpufeat --explain
  cpufeat explain skylake-avx512,+amx_int8
  llc x.bc -mcpu=$(cpufeat target --print cpu) \\
           -mattr=$(cpufeat target --print features)
  cpufeat compile kernel.ll -o kernel.o --target x86-64-v3
  cpufeat compile dot.c -o dot.so --target x86-64-v3 --target x86-64
  ssh server cat /proc/cpuinfo | cpufeat identify --json -

exit status:
  0  fine
  1  the answer is no (--on-missing error, compile, audit --max,
     check, verify), or identify met a bad FILE
  2  bad usage, or bad input

environment:
  CPUFEAT_TARGET   the REQUEST where none is given
  CPUFEAT_DISABLE  features to do without
  CPUFEAT_MACHINE  a recorded machine in place of this one
  CPUFEAT_CACHE    the folder for what was compiled; 0: none
  CPUFEAT_CACHE_SIZE  how large it may grow (1G)
  NO_COLOR, FORCE_COLOR"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 if the answer is no, 2 for bad usage or input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _run(["explain", *given[1:]] if given[:1] == ["--explain"] else given)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_output()
        return _READER_GONE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (CpufeatError, OSError, MemoryError) as error:
        _flush()
        _say(_words(error))
        return NO if isinstance(error, (MissingFeaturesError, CompileError, LinkError)) else BAD
    return status


def _words(error: CpufeatError | OSError | MemoryError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(error) or "out of memory"


def _flush() -> None:
    """Write what is left to write, if that can be."""
    try:
        sys.stdout.flush()
    except OSError:
        _abandon_output()


def _abandon_output() -> None:
    """Let what cannot be written go: the flush at exit would fail on it once more, with an exit status of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: list[str]) -> int:
    import warnings

    parser = argparse.ArgumentParser(
        prog="cpufeat",
        description="What a CPU can really run, and what to compile for it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cpufeat {__version__}")
    parser.add_argument("--explain", action="store_true", help="short for the verb explain")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name in given[:1]:
            module = importlib.import_module(f"cpufeat.cli.{name}")
            module.arguments(verb)
            verb.set_defaults(run=module.run)
    own = given.index("--") if "--" in given and given[0] in _HANDS_ON else len(given)
    options = parser.parse_args(given[:own], argparse.Namespace(rest=given[own + 1 :]))
    if options.verb is None:
        parser.print_help()
        return OK
    with warnings.catch_warnings(), _on_machine(options):
        warnings.simplefilter("always", CpufeatWarning)
        warnings.showwarning = _show_warning
        status: int = options.run(options)
    return status


@contextlib.contextmanager
def _on_machine(options: argparse.Namespace) -> Iterator[None]:
    """Let a verb, and what it starts, ask the machine that was named, and nobody after it."""
    before = os.environ.get(MACHINE_VARIABLE)
    if getattr(options, "machine", None) is not None:
        os.environ[MACHINE_VARIABLE] = path_of(options.machine)
    try:
        yield
    finally:
        os.environ.pop(MACHINE_VARIABLE, None)
        if before is not None:
            os.environ[MACHINE_VARIABLE] = before


def path_of(file: str) -> str:
    """Return the path that an argument names; ``-`` is standard input. Raises CpufeatError for an empty one."""
    if not file:
        raise CpufeatError("an empty FILE: perhaps a variable of the shell that is not set")
    if file == "-" and sys.platform == "win32":
        raise CpufeatError("-: on Windows standard input has no name: give a FILE")
    return "/dev/stdin" if file == "-" else file


def request_of(text: str) -> str:
    """Return a request that must name a level or a CPU. Raises CpufeatError for an empty one."""
    if not text.strip():
        raise CpufeatError("an empty REQUEST: name a level or a CPU")
    return text


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"warning: {message}")


def _say(message: str) -> None:
    lines = "\n".join(printable(line) for line in message.splitlines())
    print(f"cpufeat: {lines}", file=sys.stderr)


def printable(text: str) -> str:
    """Return a text without control characters, which the name of a file or a dump of a stranger may hold."""
    return "".join(character if character.isprintable() else "?" for character in text)


def add_machine(parser: argparse._ActionsContainer) -> None:
    """Declare what every verb takes that asks a machine."""
    parser.add_argument("--machine", metavar="FILE", help="a recorded machine in place of this one (see identify)")


def add_on_missing(parser: argparse.ArgumentParser) -> None:
    """Declare what every verb takes that may leave something out."""
    parser.add_argument(
        "--on-missing",
        choices=("fallback", "error"),
        default="fallback",
        help="what the machine lacks is left out, with a warning (fallback), or is an error",
    )
