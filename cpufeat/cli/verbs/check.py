"""``cpufeat check``: tell whether a binary runs on a machine or CPU, and what it lacks."""

from __future__ import annotations

import json

from cpufeat.cli.layout import folded
from cpufeat.cli.options import NO, OK, add_machine, path_of, request_of
from cpufeat.cli.terminal import show
from cpufeat.detection.detect import detect
from cpufeat.running.check import check
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from cpufeat.cli.layout import Block
    from cpufeat.running.check import Check, Lack


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "Exit status: 0: it runs; 1: it will not or may not run; 2: bad usage or unreadable input."
    parser.add_argument("file", metavar="FILE", help="an object, library or program, from any compiler")
    group = parser.add_mutually_exclusive_group()
    add_machine(group)
    group.add_argument("--cpu", metavar="REQUEST", help="a CPU or level, with +FEATURE and -FEATURE, not this machine")
    parser.add_argument("--json", action="store_true", help="print everything, for programs")


def run(options: Namespace) -> int:
    """Print the answer."""
    answer = check(path_of(options.file), detect() if options.cpu is None else request_of(options.cpu))
    if options.json:
        print(json.dumps({**vars(answer), "lacks": [vars(lack) for lack in answer.lacks]}, indent=2))
    else:
        show(_page(answer))
    return OK if answer.runs else NO


def _page(answer: Check) -> Iterator[Block]:
    variants = f", variant {' and '.join(dict.fromkeys(answer.variants))}" if answer.variants else ""
    if answer.runs:
        yield folded((answer.file, "name"), (f": runs on {answer.on}{variants}", "good"))
    else:
        auxiliary, style = ("will", "bad") if answer.certain else ("may", "warn")
        yield folded(
            (answer.file, "name"), (f": {auxiliary} not run on {answer.on}: {'; '.join(answer.reasons)}", style)
        )
    yield from (_lack(lack) for lack in answer.lacks)
    if not answer.certain:
        yield folded(("the audit may have missed a run-time check; see docs/explanation/audit.md", "note"), indent=2)
    if answer.guarded:
        yield folded((f"used only behind run-time checks: {', '.join(answer.guarded)}", "note"), indent=2)
    if answer.rebuild:
        ways = (" ".join(f"--target {target}" for target in targets) for targets in answer.rebuild)
        yield folded((f"rebuild with: cpufeat compile ... {', or as variants: '.join(ways)}", ""), indent=2)


def _lack(lack: Lack) -> Block:
    doubt = "" if lack.certain else " (this may be data, not code)"
    used = f"used in {lack.function} at {lack.place}: {lack.instruction}{doubt}"
    return folded((f"{lack.feature}: {used}{f'; {lack.why}' if lack.why else ''}", "warn"), indent=2)
