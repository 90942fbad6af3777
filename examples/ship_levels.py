"""Ship one object per level, and pick the best one that runs on the user's machine.

    python ship_levels.py build FOLDER MODULE.ll    on the build machine: write FOLDER/x86-64.o, FOLDER/x86-64-v2.o, ...
    python ship_levels.py pick FOLDER               on the user's machine: print the best, and why not a better one

The features that an object needs are read from the object, which records what its instructions use, not from its name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cpufeat
from cpufeat import Target, aot

LEVELS = ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")


def build(folder: Path, module: str) -> None:
    """Compile the module once for each level."""
    for level in LEVELS:
        aot.compile(module, Target.parse(level)).save(folder / f"{level}.o")


def pick(folder: Path) -> None:
    """Print the best object that runs here, and the features that this machine lacks for better ones."""
    host = cpufeat.detect()
    artifacts = {path.name: aot.Artifact.open(path) for path in folder.glob("*.o")}
    for name, artifact in sorted(artifacts.items(), key=lambda item: len(item[1].target.features), reverse=True):
        needs = artifact.variants[0].needs
        if needs.runs_on(host):
            print(name)
            return
        missing = {feature: str(why) for feature, why in host.missing(needs.features.isa).items()}
        print(f"not {name}:", "; ".join(f"{feature} is {why}" for feature, why in missing.items()))
    sys.exit(f"{folder}: no object runs on this machine")


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        build(Path(sys.argv[2]), sys.argv[3])
    else:
        pick(Path(sys.argv[2]))
