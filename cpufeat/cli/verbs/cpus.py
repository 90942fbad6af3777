"""``cpufeat cpus``: list the CPUs that are known, one line per CPU."""

from __future__ import annotations

import json

from cpufeat import llvm_tables
from cpufeat.cli.listing import add_filters, arch_of, features_named, llvm_of, matches, of_level, show_rows, usable
from cpufeat.cli.options import NO, OK
from cpufeat.cpus import base_features, can_run, cpu_features, cpus
from cpufeat.levels import level_of
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from typing import Any

    from cpufeat.cpus import Cpu


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    add_filters(
        parser,
        "CPUs",
        "LLVM: the oldest and the newest of the versions 14 to 22 that know the CPU. Level: the highest that "
        "it reaches.",
    )
    parser.add_argument("--level", metavar="LEVEL", help="only CPUs that reach this level")
    parser.add_argument(
        "--has", metavar="FEATURE,...", action="append", default=[], help="only CPUs that have these features"
    )


def run(options: Namespace) -> int:
    """Print the rows."""
    arch = arch_of(options)
    matching = list(_matching(arch, options))
    if options.json:
        print(json.dumps({"arch": arch, "cpus": [_facts(arch, cpu) for cpu in matching]}, indent=2))
    elif matching:
        show_rows(("CPU", "level", "LLVM", "other names"), [_row(_facts(arch, cpu)) for cpu in matching])
    return OK if matching else NO


def _matching(arch: str, options: Namespace) -> Iterator[Cpu]:
    """Yield the CPUs that can run the architecture's code and that pass each filter, oldest first."""
    needed = features_named(arch, options.has)
    if options.level is not None:
        needed |= of_level(arch, options.level)
    known = None if options.llvm is None else llvm_of(arch, options.llvm).cpus
    available = usable(arch) if options.usable else None
    for cpu in cpus(arch).values():
        features = cpu_features(arch, cpu.name)
        if (
            can_run(arch, cpu.name)
            and needed <= features
            and (known is None or cpu.name in known)
            and (available is None or base_features(arch, cpu.name).isa <= available)
            and matches(options.name, (cpu.name, *cpu.spellings))
        ):
            yield cpu


def _facts(arch: str, cpu: Cpu) -> dict[str, Any]:
    features = cpu_features(arch, cpu.name)
    return {
        "cpu": cpu.name,
        "level": level_of(features),
        "llvm": [version for version in llvm_tables.versions(arch) if cpu.name in llvm_tables.load(arch, version).cpus],
        "predecessor": cpu.predecessor,
        "spellings": cpu.spellings_by_system,
        "features": list(features),
    }


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    names = (name for of_system in facts["spellings"].values() for name in of_system)
    versions = "-".join(dict.fromkeys(map(str, (*facts["llvm"][:1], *facts["llvm"][-1:]))))
    return facts["cpu"], facts["level"] or "-", versions or "-", " ".join(dict.fromkeys(names))
