"""Run an instruction of each feature, here and on emulated CPUs, and hold cpufeat's answers against it.

    python -m tools.execute_features WORK                                   this machine, twice: AMX needs permission
    python -m tools.execute_features WORK --random 100 --seed 7             models with some features more, some less
    python -m tools.execute_features WORK --arch aarch64 --qemu qemu-aarch64 --root FOLDER --cpu cortex-a53 --cpu max

FOLDER has Debian's Python of the architecture, as ``tests/helpers/foreign_python.py`` unpacks it. Printed are each
place and how many differences it has, those for which ``explained.tsv`` has no reason, and how often there was each.
The exit status is 1 if something is without a reason. ``system.py`` does the same under other kernels.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tools.execute_features.places import Place, compared, emulated, here, random_cpus
from tools.execute_features.program import TRIPLES, build

if TYPE_CHECKING:
    from tools.execute_features.compare import Difference


def main() -> int:
    """Compare in every place that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="a folder for the program")
    parser.add_argument("--arch", choices=TRIPLES, default="x86_64")
    parser.add_argument("--qemu", default="qemu-x86_64")
    parser.add_argument("--root", type=Path, help="of another architecture's Python")
    parser.add_argument("--cpu", action="append", default=[], help="a CPU as qemu's -cpu takes it")
    parser.add_argument("--random", type=int, default=0, metavar="COUNT", help="so many random CPUs")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    program = build(options.arch, options.work)
    cpus = [*options.cpu, *itertools.islice(random_cpus(options.qemu, options.seed), options.random)]
    places = {cpu: emulated(options.arch, options.qemu, cpu, options.root) for cpu in cpus}
    places = places or {"here": here(options.arch), "here, permitted": here(options.arch, "permission")}
    reasons: collections.Counter[tuple[str, ...]] = collections.Counter()
    unexplained = cannot = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        every = pool.map(lambda place: _tried(place, program), places.values())
        for name, differences in zip(places, every, strict=True):
            if isinstance(differences, LookupError):
                cannot += 1
                print(f"{name}: not compared: {differences}", flush=True)
                continue
            print(f"{name}: {len(differences)} differences", flush=True)
            for difference in differences:
                if difference.reason:
                    reasons[difference.kind, difference.feature, difference.reason] += 1
                else:
                    unexplained += 1
                    print("   ", *difference, sep="  ", flush=True)
    print(f"{len(places) - cannot} of {len(places)} places; {unexplained} differences without a reason, and with one:")
    for reason, count in sorted(reasons.items()):
        print(f"{count:5}", *reason, sep="  ")
    return bool(unexplained)


def _tried(place: Place, program: Path) -> list[Difference] | LookupError:
    try:
        return compared(place, program)
    except LookupError as error:
        return error


if __name__ == "__main__":
    sys.exit(main())
