"""Print, as JSON, what runs on every node of a cluster, which nodes hold that back, and which variant each node runs.

    python cluster_report.py FOLDER [TARGET...]

FOLDER contains a recording of each node (``cpufeat record``, ``/proc/cpuinfo``, ``lscpu``). TARGETs are the variants of
a library, best first; by default the levels of x86-64.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import reduce
from operator import and_
from pathlib import Path

import cpufeat

LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64")


def held_back(targets: dict[str, cpufeat.Target], everywhere: cpufeat.Target) -> dict[str, list[str]]:
    """Return the features that all other nodes have, for each node that alone lacks some."""
    others = {node: [target for name, target in targets.items() if name != node] for node in targets}
    gains = {node: reduce(and_, rest).features.isa - everywhere.features for node, rest in others.items() if rest}
    return {node: list(gain) for node, gain in gains.items() if gain}


def report(hosts: dict[str, cpufeat.Host], variants: tuple[str, ...]) -> dict[str, object]:
    """Return the report. Raises TargetError if no code runs on all nodes."""
    targets = {node: cpufeat.Target.of(host) for node, host in hosts.items()}
    everywhere = reduce(and_, targets.values())
    compiled = {variant: cpufeat.Target.parse(variant, everywhere.triple) for variant in variants}
    selected = {
        node: next((name for name, target in compiled.items() if target.runs_on(host)), None)
        for node, host in hosts.items()
    }
    return {
        "everywhere": {
            "level": everywhere.level,
            "cpu": everywhere.llvm_cpu(),
            "features": everywhere.llvm_features(),
        },
        "held_back_by": held_back(targets, everywhere),
        "variants": Counter(selected.values()),
        "nodes": {
            node: {"cpu": host.cpu, "level": host.level, "variant": selected[node]} for node, host in hosts.items()
        },
    }


def main() -> None:
    """Read the recordings and print the report; a recording that cannot be read ends the program with its name."""
    folder, *variants = sys.argv[1:]
    try:
        machines = {path.stem: cpufeat.load_machine(path) for path in sorted(Path(folder).iterdir())}
        hosts = {node: cpufeat.detect(machine) for node, machine in machines.items()}
        print(json.dumps(report(hosts, tuple(variants) or LEVELS), indent=2))
    except (cpufeat.CpufeatError, OSError) as error:
        sys.exit(f"cluster_report: {error}")


if __name__ == "__main__":
    main()
