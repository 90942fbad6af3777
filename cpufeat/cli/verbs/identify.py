"""``cpufeat identify``: print the CPU of each recorded machine, one line per file."""

from __future__ import annotations

import json

from cpufeat.cli.options import BAD, OK, path_of
from cpufeat.cli.terminal import show_row
from cpufeat.detection import dumps
from cpufeat.detection.detect import detect
from cpufeat.errors import CpufeatError
from cpufeat.explanation import GENERIC, identity
from cpufeat.support import files
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import has_tables

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from cpufeat.detection.host import Host

_UNKNOWN: dict[str, Any] = {
    **dict.fromkeys(("format", "arch", "vendor", "family", "model", "stepping", "brand", "cpu", "stands_for", "level")),
    "cores": [],
    "features": [],
    "withheld": {},
    "decisions": [],
    "error": None,
}
_WITHOUT_TABLES = {"name": "", "brand": "", "cpu": GENERIC, "stands_for": "", "level": ""}
"""The identity that is reported for an architecture without tables."""


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", metavar="FILE", nargs="+", help=f"{dumps.TITLES}; -: standard input")
    parser.add_argument("--json", action="store_true", help="print a JSON object per line, with the features")


def run(options: Namespace) -> int:
    """Print a line for each file, in order; the line of an unreadable file is an error message."""
    status = OK
    for file in options.files:
        answer = _identify(file)
        if answer["error"]:
            status = BAD
        if options.json:
            print(json.dumps(answer))
        else:
            show_row(_line(answer))
    return status


def _identify(file: str) -> dict[str, Any]:
    answer = {"path": file, **_UNKNOWN}
    try:
        answer["format"], machine = dumps.load(path_of(file))
        answer["arch"] = machine.arch
        if machine.arch and not has_tables(machine.arch):
            return {**answer, **_WITHOUT_TABLES}
        return {**answer, **_described(detect(machine))}
    except CpufeatError as error:
        return {**answer, "error": str(error)}
    except OSError as error:
        return {**answer, "error": files.failure(file, error)}


def _described(host: Host) -> dict[str, Any]:
    withheld = {name: why.reason for name, why in host.withheld.items()}
    decisions = [vars(decision) for decision in host.decisions]
    return {**identity(host), "features": list(host.features), "withheld": withheld, "decisions": decisions}


def _line(answer: dict[str, Any]) -> str:
    if answer["error"]:
        return f"{answer['path']}: error: {answer['error'].removeprefix(answer['path'] + ': ')}"
    cores = " + ".join(f"{core['count']} {_cpu(core)}" for core in answer["cores"])
    cpu = cores if len(answer["cores"]) > 1 else _cpu(answer)
    known_as = answer["name"] or answer["brand"]
    called = f" ({known_as})" if known_as else ""
    said = "".join(f"; {made['subject']}: {made['reason']}" for made in answer["decisions"] if made["kind"] == "source")
    return f"{answer['path']}: {cpu}{called}, {answer['level'] or answer['arch']}{said}"


def _cpu(core: dict[str, Any]) -> str:
    stands_for = core["stands_for"]
    return f"{core['cpu']} as a stand-in for {stands_for}" if stands_for else core["cpu"]
