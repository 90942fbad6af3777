"""Fail if a library in a wheel may use more than a level permits without a run-time check of the CPU.

    python gate_wheels.py LEVEL WHEEL... [--allow FILE] [--triple TRIPLE]

Each line of FILE permits a feature to files whose WHEEL/MEMBER matches a pattern, because the check is one that an
audit cannot see::

    zstandard-*/*.so  bmi2      # ZSTD_DCtx_s keeps the answer of CPUID on the heap

The exit status is 0 if all is well, 1 if a file needs more, and 2 for what cannot be read.
"""

from __future__ import annotations

import argparse
import zipfile
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import cpufeat

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = {".so", ".pyd", ".dll", ".dylib"}


def allowances(file: Path, arch: str) -> list[tuple[str, cpufeat.FeatureSet]]:
    """Return the patterns and features of an allow list. Raises UnknownNameError for a misspelled feature."""
    words = (line.partition("#")[0].split() for line in file.read_text(encoding="utf-8").splitlines())
    return [(pattern, cpufeat.FeatureSet(arch, features).closed()) for pattern, *features in filter(None, words)]


def libraries(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Yield ``WHEEL/MEMBER`` and the content of each library in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if LIBRARIES & set(PurePosixPath(member).suffixes):
                yield f"{wheel.name}/{member}", archive.read(member)


def complaints(content: bytes, permitted: cpufeat.FeatureSet) -> Iterator[str]:
    """Yield a sentence for each feature beyond the permitted ones, with its first use. Raises CpufeatError."""
    audit = cpufeat.audit(content)
    beyond = audit.beyond(permitted)
    for code in audit.reached_unknown(permitted.arch):
        yield f"unknown code: {code.bytes} at {code.place} in {code.function} ({code.reason})"
    for feature in dict.fromkeys(name for function in beyond for name in function.bare - permitted):
        users = [function for function in beyond if feature in function.bare]
        first = users[0]
        use = first.uses[feature][0]
        yield (
            f"{feature} without a check: {use.instruction} at {use.place} in {first.name} ({first.why}); "
            f"functions that use it: {len(users)}"
        )


def main() -> int:
    """Audit every library of the wheels, print what each needs too much, and return the exit status."""
    parser = argparse.ArgumentParser(description="Fail if a library in a wheel needs more than a level.")
    parser.add_argument("level")
    parser.add_argument("wheels", metavar="WHEEL", type=Path, nargs="+")
    parser.add_argument("--allow", metavar="FILE", type=Path)
    parser.add_argument("--triple", default="x86_64-linux-gnu")
    options = parser.parse_args()
    name = ""
    try:
        promise = cpufeat.Target.parse(options.level, options.triple).features
        allowed = allowances(options.allow, promise.arch) if options.allow else []
        failed, used = 0, set()
        for name, content in (library for wheel in options.wheels for library in libraries(wheel)):
            permitted = promise
            for pattern, features in allowed:
                if fnmatch(name, pattern):
                    permitted |= features
                    used.add(pattern)
            found = list(complaints(content, permitted))
            print(f"{'FAIL' if found else 'ok'} {name}", *found, sep="\n    ")
            failed += bool(found)
    except (cpufeat.CpufeatError, OSError, zipfile.BadZipFile) as error:
        parser.error(f"{name}: {error}" if name else str(error))
    for pattern in {pattern for pattern, _ in allowed} - used:
        print(f"{options.allow}: {pattern} matches no file any more")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
