"""Build the C libraries that tests link by Zig, so that no test waits for one.

    python tests/helpers/zig_libraries.py

Zig builds the C library of a target when a program is first linked for it, which takes up to a minute on two cores, and
keeps it in its user's cache. ``.ci/run`` runs this beside the type checks, and says what tests had to build themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TARGETS = {
    "x86_64-linux-musl": ["-static", "-O1 -static", "-O2 -pie"],
    "aarch64-linux-musl": ["-static", "-O1 -static", "-pie"],
    "x86-linux-musl": ["-static", "-O1 -static"],
    "riscv64-linux-musl": ["-O2 -static"],
    "x86_64-windows-gnu": ["", "-O2"],
    "x86-windows-gnu": ["-O2"],
    "x86_64-linux-gnu": ["", "-O2"],
    "x86_64-linux-gnu.2.17": [""],
    "aarch64-linux-gnu": ["", "-O2"],
}
"""The options that make a difference to a target's libraries: ``-pie`` and ``-s`` ask for others, and without ``-O``
there is a sanitizer's as well."""


def build(target: str, options: str, folder: Path) -> None:
    """Link a program or a library that does nothing. Raises CalledProcessError with Zig's messages."""
    output = folder / f"{target}{options}".replace(" ", "")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *options.split(), "-o", str(output)]
    subprocess.run([*command, str(folder / "main.c")], cwd=folder, check=True)


def main() -> None:
    """Build all, as many at a time as there are processors."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "main.c").write_text("int main(void) { return 0; }\n")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            builds = [pool.submit(build, target, options, folder) for target, row in TARGETS.items() for options in row]
            for finished in builds:
                finished.result()


if __name__ == "__main__":
    main()
