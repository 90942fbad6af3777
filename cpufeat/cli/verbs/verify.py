"""``cpufeat verify``: run a program on emulated CPUs, and print one line per CPU."""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentTypeError
from collections import Counter

from cpufeat.cli.layout import folded
from cpufeat.cli.options import path_of
from cpufeat.cli.terminal import show
from cpufeat.running import verify
from cpufeat.running.cpus import NATIVE, may_be_native
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.support.verdict import EXIT_STATUS

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable
    from typing import Any

    from cpufeat.cli.layout import Block, Line
    from cpufeat.running.verify import Run

_STYLES = {verify.RIGHT: "good", verify.REFUSED: "good", verify.NOT_RUN: "warn"}
_COLUMNS = (("CPU", 22), ("level", 9), ("result", 13), ("exit", 9), ("variant", 12), ("seconds", 7))
_TABLE = sum(width + 1 for _, width in _COLUMNS) - 1
"""The width of the table; a narrower page gets a sentence for each CPU."""


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "This runs the program, with your rights and your files. Exit status: 0: it ran right on each CPU of --on; "
        "without --on, or refused in words; 1: it failed; 2: bad usage or input; 3: it could not be run."
    )
    parser.add_argument("file", metavar="FILE", help="an executable; the arguments after -- are passed to it")
    parser.add_argument(
        "--on",
        metavar="CPU,...",
        action="append",
        type=cpus,
        help="qemu-user CPUs (Haswell,-avx2,Nehalem), levels, or native (default: one per level, oldest first)",
    )
    limit = verify.TIME_LIMIT
    parser.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=_seconds,
        default=limit,
        help=f"the limit for each run (default: {limit:g})",
    )
    parser.add_argument(
        "--emulated-only", action="store_true", help="do not run it natively, on this machine itself, for any level"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line, for programs")


def run(options: Namespace) -> int:
    """Print a line for each CPU as its run ends."""
    chosen = [cpu for listed in options.on for cpu in listed] if options.on else None
    file, emulated_only = path_of(options.file), options.emulated_only
    runs = verify.verify(file, chosen, options.rest, time_limit=options.time_limit, emulated_only=emulated_only)
    print(_announcement(file, chosen, emulated_only=emulated_only), file=sys.stderr, flush=True)
    done = []
    if not options.json:
        show([_head])
    for run_ in runs:
        done.append(run_)
        if options.json:
            print(json.dumps(_to_json(run_)), flush=True)
        else:
            show(_page(run_))
    verdict = verify.verdict_of(done, are_named=chosen is not None)
    if not options.json:
        show([folded((_summary(verdict, done), "note"))])
    return EXIT_STATUS[verdict]


def _announcement(file: str, chosen: list[str] | None, *, emulated_only: bool) -> str:
    """Say, before anything is run, what will be run and how."""
    is_emulated = chosen is None or set(chosen) != {NATIVE}
    is_native = not emulated_only and may_be_native(chosen)
    places = ["on emulated CPUs"] * is_emulated + ["natively on this machine"] * is_native
    return f"running {file} {' and '.join(places)}, with your rights and your files"


def _summary(verdict: str, runs: list[Run]) -> str:
    """Count the results: ``runs: 3 right, 1 refused``."""
    counts = Counter(run_.result for run_ in runs)
    return f"{verdict}: {', '.join(f'{count} {result}' for result, count in counts.items())}"


def cpus(text: str) -> list[str]:
    """Split a comma-separated list of CPUs; ``-f``, ``+f`` and ``f=on`` belong to the CPU before them."""
    models: list[str] = []
    for part in text.split(","):
        if models and (part[:1] in ("+", "-") or "=" in part):
            models[-1] += f",{part}"
        elif part:
            models.append(part)
    if not models:
        raise ArgumentTypeError("expected at least one CPU")
    return models


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ArgumentTypeError("expected a positive number of seconds")
    return seconds


def _to_json(run_: Run) -> dict[str, Any]:
    death = vars(run_.death) if run_.death else None
    return {**vars(run_), "death": death, "stdout": run_.stdout.decode(errors="backslashreplace")}


def _head(width: int) -> list[Line]:
    return [[(_row([name for name, _ in _COLUMNS]), "head")]] if width >= _TABLE else []


def _page(run_: Run) -> list[Block]:
    status = run_.signal or ("-" if run_.status is None else str(run_.status))
    variants = "-" if run_.variants is None else " ".join(run_.variants) or "none"
    cells = [run_.cpu or "-", run_.level or "-", run_.result, status, variants, f"{run_.seconds:.2f}"]
    style = _STYLES.get(run_.result, "bad")

    def result(width: int) -> Iterable[Line]:
        row = _row(cells)
        if len(row) <= width >= _TABLE:
            return [[(row, style)]]
        return folded((_sentence(cells), style))(width)

    return [result, folded((run_.message, ""), indent=4, hanging=0)] if run_.message else [result]


def _row(cells: list[str]) -> str:
    return " ".join(f"{cell:{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True)).rstrip()


def _sentence(cells: list[str]) -> str:
    cpu, level, result, status, variants, seconds = cells
    return f"{cpu}: {result}, level {level}, exit {status}, variant {variants}, {seconds} seconds"
