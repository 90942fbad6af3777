"""``cpufeat verify``: a program on other CPUs, one line a CPU."""

from __future__ import annotations

import json
import math
from argparse import ArgumentTypeError

from cpufeat.cli.options import NO, OK, path_of
from cpufeat.cli.terminal import show
from cpufeat.running import verify
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from cpufeat.cli.layout import Line
    from cpufeat.running.verify import Run

_STYLES = {verify.RIGHT: "good", verify.REFUSED: "good", verify.NOT_RUN: "warn"}
_COLUMNS = (("CPU", 22), ("level", 11), ("result", 14), ("exit", 8), ("variant", 16), ("seconds", 7))


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "cpufeat verify [-h] [--on CPU,...] [--time-limit SECONDS] [--json] FILE [-- ARGUMENT ...]"
    parser.add_argument("file", metavar="FILE", help="an executable; what follows -- are its own arguments")
    parser.add_argument(
        "--on",
        metavar="CPU,...",
        action="append",
        type=cpus,
        help="CPU models of qemu-user (Haswell,-avx2,Nehalem), levels, or native (one a level, oldest first)",
    )
    limit = verify.TIME_LIMIT
    parser.add_argument("--time-limit", metavar="SECONDS", type=_seconds, default=limit, help=f"of a run ({limit:g})")
    parser.add_argument("--json", action="store_true", help="an object a line, for machines")


def run(options: Namespace) -> int:
    """Print a line for each CPU as it is done."""
    chosen = [cpu for listed in options.on for cpu in listed] if options.on else None
    runs = verify.verify(path_of(options.file), chosen, options.rest, time_limit=options.time_limit)
    results = []
    if not options.json:
        show([[(_row([name for name, _ in _COLUMNS]), "head")]])
    for one in runs:
        results.append(one.result)
        if options.json:
            print(json.dumps(_facts(one)), flush=True)
        else:
            show(_lines(one))
    ran = any(result != verify.NOT_RUN for result in results)
    return OK if ran and set(results) <= set(verify.FINE) else NO


def cpus(text: str) -> list[str]:
    """Return the CPUs in a list between commas, in which ``-f``, ``+f`` and ``f=on`` change the one before them."""
    found: list[str] = []
    for part in text.split(","):
        if found and (part[:1] in ("+", "-") or "=" in part):
            found[-1] += f",{part}"
        elif part:
            found.append(part)
    if not found:
        raise ArgumentTypeError("no CPU in it")
    return found


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ArgumentTypeError("expected a number of seconds")
    return seconds


def _facts(one: Run) -> dict[str, Any]:
    variants = None if one.variants is None else list(one.variants)
    output = {"stdout": one.stdout.decode(errors="backslashreplace"), "stdout_size": one.size, "sha256": one.sha256}
    return {**vars(one), "variants": variants, **output}


def _lines(one: Run) -> list[Line]:
    cells = [one.cpu or "-", one.level or "-", one.result, one.signal or str("-" if one.status is None else one.status)]
    ran = "-" if one.variants is None else " ".join(one.variants) or "none"
    row = _row([*cells, ran, f"{one.seconds:.2f}"])
    lines: list[Line] = [[(row, _STYLES.get(one.result, "bad"))]]
    return [*lines, [(f"    {one.message}", "")]] if one.message else lines


def _row(cells: list[str]) -> str:
    return " ".join(f"{cell:{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True)).rstrip()
