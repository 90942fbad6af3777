"""``cpufeat explain``: show what a machine is, what to compile for, and why."""

from __future__ import annotations

import json
import os
import warnings

from cpufeat.cli.options import OK, add_machine_or_triple, add_on_missing, target_of
from cpufeat.detection.detect import MACHINE_VARIABLE, default_machine
from cpufeat.errors import CpufeatError, CpufeatWarning
from cpufeat.explanation import GENERIC, explain, verdict_without_tables
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import architecture, has_tables

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("request", metavar="REQUEST", nargs="?", help="what to compile for (default: native)")
    parser.add_argument("--json", action="store_true", help="print every fact with its evidence, for programs")
    add_machine_or_triple(parser)
    add_on_missing(parser)


def run(options: Namespace) -> int:
    """Print the explanation."""
    if options.triple is not None:
        return _for_triple(options)
    warnings.simplefilter("ignore", CpufeatWarning)  # the explanation shows what was left out
    origin = os.environ.get(MACHINE_VARIABLE, "")
    machine = default_machine()
    if machine.arch and not has_tables(machine.arch):
        return _without_tables(machine.arch, options)
    explanation = explain(options.request, machine=machine, on_missing=options.on_missing or "fallback", origin=origin)
    if options.json:
        print(explanation.to_json())
        return OK
    from cpufeat.cli.explain_page import page
    from cpufeat.cli.terminal import show

    show(page(explanation))
    return OK


def _for_triple(options: Namespace) -> int:
    """Explain a target that does not depend on a machine."""
    if options.json:
        raise CpufeatError("--json describes a machine: for JSON without one, use cpufeat target --triple ... --json")
    from cpufeat.cli.explain_page import page_of_target
    from cpufeat.cli.terminal import show

    show(page_of_target(*target_of(options)))
    return OK


def _without_tables(arch: str, options: Namespace) -> int:
    """Report an architecture without tables. Raises UnknownNameError if a REQUEST was given, which needs tables."""
    if options.request:
        architecture(arch)
    sentence = verdict_without_tables(arch)
    print(json.dumps({"verdict": sentence, "arch": arch, "cpu": GENERIC, "features": {}}) if options.json else sentence)
    return OK
