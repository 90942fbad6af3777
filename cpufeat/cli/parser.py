"""Build the argument parser; only the module of the verb that was given is imported."""

from __future__ import annotations

import argparse
import importlib
import textwrap

from cpufeat.cli import terminal
from cpufeat.errors import CpufeatError
from cpufeat.features import nearest
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.support.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

VERBS = {
    "explain": "show what this machine is, what to compile for, and why",
    "target": "print the CPU, features, triple and level for a build script",
    "compile": "compile C or LLVM IR to an object, a library or a program",
    "audit": "list the CPU features that the instructions of a binary need",
    "check": "tell whether a binary runs on a machine or CPU, and what it lacks",
    "verify": "run a program on emulated CPUs and compare the results",
    "identify": "print the CPU of each recorded machine, one line per file",
    "cpus": "list the CPUs that are known",
    "features": "list the features that are known",
    "record": "record this machine in a file that --machine accepts",
    "completion": "print a script that makes bash, zsh or fish complete commands",
    "help": "show the help of a verb",
}
"""Each verb, a module of :mod:`cpufeat.cli.verbs`, and its summary."""
TAKES_REST = ("compile", "verify", "completion")
"""Verbs that take any arguments after ``--``: those of the linker, of the program to run, or the words to complete."""

REQUESTS = "x86-64-v3    haswell,-avx2    native,-avx512f    +amx_int8"
EXAMPLES = (
    "cpufeat --explain",
    "cpufeat explain skylake-avx512,+amx_int8",
    "cpufeat target --triple aarch64-linux-gnu neoverse-v2",
    "llc x.bc -mcpu=$(cpufeat target --llvm 14 --print cpu)\n -mattr=$(cpufeat target --llvm 14 --print features)",
    "cpufeat compile kernel.ll -o kernel.o --target x86-64-v3",
    "cpufeat compile dot.c -o dot.so --target x86-64-v3 --target x86-64",
    "ssh server cat /proc/cpuinfo | cpufeat identify --json -",
)
STATUSES = {
    "0": "fine",
    "1": "the answer is no: a check or a compilation failed (compile, audit --max, check, verify, --on-missing error), "
    "or nothing matches (cpus, features)",
    "2": "bad usage, or input that cannot be read",
    "3": "cannot tell: something that matters could not be looked at (check, audit --max)",
}
"""The exit statuses, and what each means."""
VARIABLES = {
    "CPUFEAT_TARGET": "the default REQUEST",
    "CPUFEAT_DISABLE": "features not to use",
    "CPUFEAT_MACHINE": "a recorded machine to use in place of this one",
    "CPUFEAT_CACHE": "the folder of the compilation cache; 0 disables it",
    "CPUFEAT_CACHE_SIZE": "the largest size of that cache (default 1G)",
    "NO_COLOR": "if set: as --color never",
    "FORCE_COLOR": "if set: as --color always",
    "COLUMNS": "the width of the output, 40 to 100 (default: that of the terminal, else 80)",
}
"""The environment variables that are read, and what each means."""


_USAGE = " " * len("usage: ")


class Parser(argparse.ArgumentParser):
    """A parser whose help fits the terminal, and that raises CpufeatError for bad usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Formatter, **settings)

    def error(self, message: str) -> Any:
        """Raise CpufeatError with the message, and with the command that shows the help."""
        program, _, verb = self.prog.partition(" ")
        raise CpufeatError(f"{message} (see {program} help{f' {verb}' if verb else ''})")

    def format_help(self) -> str:
        """Return the help, from Python 3.14 on in colour where that is wanted."""
        self.color: bool = terminal.wants_colour()
        return super().format_help()


class _Formatter(argparse.HelpFormatter):
    """Wraps every text to the terminal but for those of several lines, which are laid out already."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{**settings, "width": terminal.width()})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Colour(argparse.Action):
    """Follow ``--color`` from here on, so that it holds for the help too."""

    def __call__(self, _parser: object, _namespace: object, value: Any, _option: object = None) -> None:
        terminal.choose_colour(value)


def parser_for(verb: str) -> Parser:
    """Return the parser, with the arguments of one verb; the other verbs are only listed."""
    parser = Parser(
        prog="cpufeat",
        usage="cpufeat [OPTION ...] VERB ...",
        description="Find out what a CPU can really run, and what to compile for it.",
        epilog=_epilog(),
    )
    parser.add_argument("--version", action="version", version=f"cpufeat {__version__}")
    parser.add_argument("--explain", action="store_true", help="same as the verb explain")
    _add_colour(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", prog="cpufeat", parser_class=Parser)
    for name, summary in VERBS.items():
        verb_parser = verbs.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == verb:
            module = importlib.import_module(f"cpufeat.cli.verbs.{name}")
            module.arguments(verb_parser)
            _add_colour(verb_parser)
            verb_parser.usage = _usage(verb_parser, takes_rest=name in TAKES_REST)
            verb_parser.set_defaults(run=module.run, parser_of=parser_of)
    return parser


def parser_of(verb: str | None) -> Parser:
    """Return the parser of one verb alone, of the program for None. Raises CpufeatError for an unknown verb."""
    if verb is None:
        return parser_for("")
    _check_verb(verb)
    parser: Parser = _verbs(parser_for(verb)).choices[verb]
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace | None:
    """Return the parsed arguments, None after printing the help for a command line without a verb.

    ``run`` is the verb's function and ``rest`` the arguments after ``--`` that the verb passes on. Raises CpufeatError
    for bad usage; exits with 0 after ``--help`` and ``--version``, as argparse does.
    """
    terminal.choose_colour("auto")
    arguments = list(arguments)
    start = _after_colour(arguments)
    if arguments[start : start + 1] == ["--explain"]:
        arguments[start] = "explain"
    verb = next(iter(arguments[start:]), "--")
    if not verb.startswith("-"):
        _check_verb(verb)
    end = arguments.index("--") if verb in TAKES_REST and "--" in arguments else len(arguments)
    parser = parser_for(verb)
    options, unknown = parser.parse_known_args(arguments[:end], argparse.Namespace(rest=list(arguments[end + 1 :])))
    if unknown:
        used = _verbs(parser).choices.get(options.verb, parser)
        used.error(_unknown(unknown[0], used))
    if options.verb is None:
        parser.print_help()
        return None
    return options


def _add_colour(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--color",
        action=_Colour,
        choices=terminal.COLOUR,
        default=argparse.SUPPRESS,
        help="whether to write in colour (default: auto, on a terminal)",
    )


def _after_colour(arguments: list[str]) -> int:
    """Return the place of the first argument that does not belong to ``--color``."""
    place = 0
    while place < len(arguments) and arguments[place].partition("=")[0] == "--color":
        place += 1 if "=" in arguments[place] else 2
    return place


def _check_verb(verb: str) -> None:
    if verb not in VERBS:
        tip = _tip(verb, VERBS)
        raise CpufeatError(f"unknown verb {verb!r}{tip} (see cpufeat help)")


def _unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    if not argument.startswith("-") or argument == "-":
        return f"unexpected argument {argument!r}"
    option = argument.partition("=")[0]
    known = [name for action in parser._actions for name in action.option_strings]
    return f"unknown option {option!r}{_tip(option, known)}"


def _tip(name: str, known: Sequence[str] | dict[str, str]) -> str:
    meant = nearest(name, known)
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _verbs(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[Parser]:
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _usage(parser: argparse.ArgumentParser, *, takes_rest: bool) -> str:
    """Return one short line: only the arguments that are required are named."""
    words = [parser.prog, "[OPTION ...]"]
    for action in parser._actions:
        if action.option_strings and action.required:
            words.append(f"{action.option_strings[0]} {action.metavar}")
        elif not action.option_strings:
            words.append({"?": "[{}]", "+": "{} ..."}.get(str(action.nargs), "{}").format(action.metavar))
    words += ["[-- ARGUMENT ...]"] if takes_rest else []
    return textwrap.fill(" ".join(words), terminal.width(), initial_indent=_USAGE, subsequent_indent=_USAGE).lstrip()


# --- the end of the help


def _epilog() -> str:
    width = terminal.width()
    sections = {
        "a REQUEST is native, a level or a CPU, with +FEATURE and -FEATURE:": _wrapped(REQUESTS, width),
        "examples:": (line for example in EXAMPLES for line in _command(example, width)),
        "exit status:": _terms(STATUSES, 3, width),
        "environment:": _terms(VARIABLES, 20, width),
    }
    return "\n\n".join("\n".join([*textwrap.wrap(title, width), *lines]) for title, lines in sections.items())


def _wrapped(text: str, width: int) -> Iterator[str]:
    return (f"  {line}" for line in textwrap.wrap(text, width - 2, break_on_hyphens=False))


def _command(command: str, width: int) -> Iterator[str]:
    """Break a command between its words as a shell accepts it."""
    parts = command.split("\n") if len(command) > width - 2 else [command.replace("\n", "")]
    *first, last = (
        line
        for part in parts
        for line in textwrap.wrap(part, width - 6, break_on_hyphens=False, break_long_words=False)
    )
    for number, line in enumerate([*(f"{part} \\" for part in first), last]):
        yield f"  {'  ' if number else ''}{line}"


def _terms(terms: dict[str, str], column: int, width: int) -> Iterator[str]:
    """Explain terms: beside each other, or on a narrow page the explanation of a long one below it."""
    beside = column < 10 or width >= 60
    indent = " " * (column + 2 if beside else 4)
    for term, meaning in terms.items():
        if not beside:
            yield f"  {term}"
        start = f"  {term}".ljust(column + 2) if beside else indent
        yield from textwrap.wrap(meaning, width, initial_indent=start, subsequent_indent=indent)
