"""``cpufeat check``: tell whether a binary runs on a machine or CPU, and what it lacks."""

from __future__ import annotations

import json

from cpufeat.cli.layout import folded
from cpufeat.cli.options import add_machine, path_of, request_of
from cpufeat.cli.progress import progress
from cpufeat.cli.terminal import show
from cpufeat.running.check import check
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.support.verdict import CANNOT_TELL, EXIT_STATUS, MAY_NOT_RUN, RUNS, WILL_NOT_RUN

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Any

    from cpufeat.cli.layout import Block
    from cpufeat.running.file_check import Check, Lack

_STYLES = {RUNS: "good", MAY_NOT_RUN: "warn", WILL_NOT_RUN: "bad", CANNOT_TELL: "warn"}


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "Exit status: 0: it runs; 1: it will not or may not run; 2: bad usage or unreadable input; 3: cannot tell."
    )
    parser.add_argument("file", metavar="FILE", help="an object, library or program, from any compiler")
    group = parser.add_mutually_exclusive_group()
    add_machine(group)
    group.add_argument("--cpu", metavar="REQUEST", help="a CPU or level, with +FEATURE and -FEATURE, not this machine")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--no-libraries", action="store_true", help="look at the file alone, not at what it loads")
    what.add_argument(
        "--root", metavar="DIR", help="search for its libraries in this root of a system, not in this machine's"
    )
    parser.add_argument("--json", action="store_true", help="print everything, for programs")


def run(options: Namespace) -> int:
    """Print the answer."""
    on = None if options.cpu is None else request_of(options.cpu)
    with progress("decoding") as report:
        answer = check(
            path_of(options.file), on, libraries=not options.no_libraries, root=options.root, progress=report
        )
    if options.json:
        print(json.dumps(_to_json(answer), indent=2))
    else:
        show(_page(answer))
    return EXIT_STATUS[answer.verdict]


def _to_json(answer: Check) -> dict[str, Any]:
    libraries = None if answer.libraries is None else [_to_json(library) for library in answer.libraries]
    return {**vars(answer), "lacks": [vars(lack) for lack in answer.lacks], "libraries": libraries}


def _page(answer: Check) -> Iterator[Block]:
    variants = f", variant {' and '.join(dict.fromkeys(answer.variants))}" if answer.variants else ""
    whether = " whether it runs" if answer.verdict == CANNOT_TELL else ""
    because = f": {'; '.join(answer.reasons)}" if answer.reasons else ""
    told = f": {answer.verdict}{whether} on {answer.on}{variants}{because}"
    yield folded((answer.file, "name"), (told, _STYLES[answer.verdict]))
    yield from _details(answer)
    for library in answer.libraries or ():
        because = f": {'; '.join(library.reasons)}" if library.reasons else ""
        yield folded((library.file, ""), (f": {library.verdict}{because}", _STYLES[library.verdict]), indent=2)
        yield from _details(library, 4)
    if answer.verdict == MAY_NOT_RUN:
        yield folded(("the audit may have missed a run-time check; see docs/explanation/audit.md", "note"), indent=2)
    if answer.system_libraries:
        yield folded((f"parts of the system, not looked at: {', '.join(answer.system_libraries)}", "note"), indent=2)
    if answer.may_load:
        yield folded((f"may also load, not looked at: {', '.join(answer.may_load)}", "note"), indent=2)
    if answer.libraries is None:
        yield folded(("this file alone: what it loads was not looked at", "note"), indent=2)


def _details(answer: Check, indent: int = 2) -> Iterator[Block]:
    yield from (_lack(lack, indent) for lack in answer.lacks)
    if answer.guarded:
        yield folded((f"checked before each use: {', '.join(answer.guarded)}", "note"), indent=indent)
    if answer.rebuild:
        ways = (" ".join(f"--target {target}" for target in targets) for targets in answer.rebuild)
        yield folded((f"rebuild with: cpufeat compile ... {', or as variants: '.join(ways)}", ""), indent=indent)


def _lack(lack: Lack, indent: int) -> Block:
    doubt = "" if lack.certain else " (this may be data, not code)"
    used = f"used in {lack.function} at {lack.place}: {lack.instruction}{doubt}"
    return folded((f"{lack.feature}: {used}{f'; {lack.why}' if lack.why else ''}", "warn"), indent=indent)
