"""Build the argument parser; only the module of the verb that was given is imported."""

from __future__ import annotations

import argparse
import importlib

from cpufeat.support.value import TYPE_CHECKING
from cpufeat.support.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = {
    "explain": "show what this machine is, what to compile for, and why",
    "target": "print the CPU, features, triple and level for a build script",
    "compile": "compile C or LLVM IR to an object, a library or a program",
    "audit": "list the CPU features that the instructions of a binary need",
    "check": "tell whether a binary runs on a machine or CPU, and what it lacks",
    "verify": "run a program on emulated CPUs and compare the results",
    "identify": "print the CPU of each recorded machine, one line per file",
    "record": "record this machine in a file that other verbs accept",
}
"""Each verb, a module of :mod:`cpufeat.cli.verbs`, and its summary."""
_TAKES_REST = ("compile", "verify")
"""Verbs that pass the arguments after ``--`` to the linker, or to the program that they run."""

_EPILOG = """\
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
  0  success
  1  a check or a compilation failed (compile, audit --max, check,
     verify, --on-missing error), or identify could not read a FILE
  2  bad usage or unreadable input

environment:
  CPUFEAT_TARGET      the default REQUEST
  CPUFEAT_DISABLE     features not to use
  CPUFEAT_MACHINE     a recorded machine to use in place of this one
  CPUFEAT_CACHE       the folder of the compilation cache; 0 disables it
  CPUFEAT_CACHE_SIZE  the largest size of that cache (default 1G)
  NO_COLOR, FORCE_COLOR"""


def parser_for(verb: str) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of one verb; the other verbs are only listed."""
    parser = argparse.ArgumentParser(
        prog="cpufeat",
        description="Find out what a CPU can really run, and what to compile for it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cpufeat {__version__}")
    parser.add_argument("--explain", action="store_true", help="same as the verb explain")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, summary in VERBS.items():
        verb_parser = verbs.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == verb:
            module = importlib.import_module(f"cpufeat.cli.verbs.{name}")
            module.arguments(verb_parser)
            verb_parser.set_defaults(run=module.run)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace | None:
    """Return the parsed arguments, None after printing the help for a command line without a verb.

    ``run`` is the verb's function and ``rest`` the arguments after ``--`` that the verb passes on.
    Exits as argparse does: with 0 after ``--help`` and ``--version``, with 2 for bad usage.
    """
    if arguments[:1] == ["--explain"]:
        arguments = ["explain", *arguments[1:]]
    verb = arguments[0] if arguments else ""
    end = arguments.index("--") if verb in _TAKES_REST and "--" in arguments else len(arguments)
    parser = parser_for(verb)
    options = parser.parse_args(arguments[:end], argparse.Namespace(rest=list(arguments[end + 1 :])))
    if options.verb is None:
        parser.print_help()
        return None
    return options
