"""``cpufeat features``: list the features that are known, one line per feature."""

from __future__ import annotations

import json
from string import digits

from cpufeat import llvm_tables
from cpufeat.cli.listing import add_filters, arch_of, features_named, llvm_of, matches, of_level, show_rows, usable
from cpufeat.cli.options import NO, OK, request_of
from cpufeat.features import NO_SPELLING, find, implied, table
from cpufeat.support.value import TYPE_CHECKING
from cpufeat.tables import architecture
from cpufeat.target import Target

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Collection, Iterator
    from typing import Any

    from cpufeat.features import Feature
    from cpufeat.llvm_tables import Llvm

_KINDS = ("isa", "privileged", "tuning", "codegen", "other")


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    add_filters(
        parser,
        "features",
        "Read from: CPUID LEAF.SUBLEAF:REGISTER[BIT], or a bit of the kernel's hwcap, or the like. State: the register "
        "state that the operating system must enable.",
    )
    parser.add_argument("--level", metavar="LEVEL", help="only features that this level has")
    parser.add_argument("--cpu", metavar="REQUEST", help="only features that this CPU or level has")
    parser.add_argument(
        "--implies", metavar="FEATURE,...", action="append", default=[], help="only features that imply all of these"
    )
    parser.add_argument(
        "--kind",
        choices=_KINDS,
        metavar="KIND",
        action="append",
        help=f"only features of this kind: {', '.join(_KINDS)}",
    )


def run(options: Namespace) -> int:
    """Print the rows."""
    arch = arch_of(options)
    matching = list(_matching(arch, options))
    if options.json:
        known = {version: _names(llvm_tables.load(arch, version)) for version in llvm_tables.versions(arch)}
        print(json.dumps({"arch": arch, "features": [_facts(feature, known) for feature in matching]}, indent=2))
    elif matching:
        show_rows(("feature", "kind", "read from", "state", "implies", "other names"), list(map(_row, matching)))
    return OK if matching else NO


def _matching(arch: str, options: Namespace) -> Iterator[Feature]:
    """Yield the features that pass each filter, in the order of their table."""
    implying = features_named(arch, options.implies).names
    allowed = list(_allowed(arch, options))
    for feature in table(arch).values():
        if (
            (options.kind is None or feature.kind in options.kind)
            and implying <= implied(arch, feature.name) - {feature.name}
            and all(feature.name in names for names in allowed)
            and matches(options.name, (feature.name, *_spelled(feature)))
        ):
            yield feature


def _allowed(arch: str, options: Namespace) -> Iterator[Collection[str]]:
    """Yield the names that each of the filters leaves."""
    if options.level is not None:
        yield of_level(arch, options.level).names
    if options.cpu is not None:
        yield Target.parse(request_of(options.cpu), f"{architecture(arch).triple}-unknown-linux").features.names
    if options.llvm is not None:
        yield _names(llvm_of(arch, options.llvm))
    if options.usable:
        yield usable(arch).names


def _names(llvm: Llvm) -> frozenset[str]:
    return frozenset([find(llvm.arch, name).name for name in (*llvm.implied, *llvm.options)])


def _spelled(feature: Feature) -> list[str]:
    """Return other systems' names, without the numbers that Windows has for features."""
    names = (name for of_system in feature.spellings.values() for name in of_system if name.strip(NO_SPELLING + digits))
    return list(dict.fromkeys(names))


def _facts(feature: Feature, known: dict[int, frozenset[str]]) -> dict[str, Any]:
    return {
        "feature": feature.name,
        "kind": feature.kind,
        "read_from": feature.bit,
        "state": feature.state,
        "implies": list(feature.implies),
        "spellings": {system: list(feature.flags(system)) for system in feature.spellings},
        "llvm": [version for version, names in known.items() if feature.name in names],
    }


def _row(feature: Feature) -> tuple[str, ...]:
    cells = (feature.bit, feature.state, feature.implies_text)
    return feature.name, feature.kind, *(cell or "-" for cell in cells), " ".join(_spelled(feature))
