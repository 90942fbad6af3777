"""Write the recordings of emulated machines in ``data/machines``: ``python tools/record_machines.py``.

Needs qemu-x86_64 (Debian: qemu-user). What ``cpufeat record`` says on each CPU model, less the ``/proc/cpuinfo`` of the
machine outside, which qemu-user lets through: one recording keeps it, as an example of sources that disagree.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MACHINES = Path(__file__).parent.parent / "data" / "machines"
MODELS = {
    "qemu64": "qemu64",
    "penryn": "Penryn",
    "nehalem": "Nehalem",
    "haswell": "Haswell",
    "haswell-without-avx": "Haswell,-avx",
    "epyc-rome": "EPYC-Rome",
    "dhyana": "Dhyana",
    "max": "max",
}
KEEPS_FILES = "nehalem"


def recording(name: str, model: str) -> str:
    """Return what ``cpufeat record`` writes on a CPU model of qemu, with a note of where it comes from."""
    command = ["qemu-x86_64", "-cpu", model, sys.executable, "-m", "cpufeat", "record", "-"]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout  # noqa: S603
    content = json.loads(output)
    if name != KEEPS_FILES:
        content.pop("files", None)
    version = subprocess.run(["qemu-x86_64", "--version"], capture_output=True, check=True, text=True).stdout  # noqa: S607
    note = f"cpufeat record under qemu-x86_64 -cpu {model}; {version.splitlines()[0]}"
    return json.dumps({"cpufeat": content.pop("cpufeat"), "note": note, **content}, indent=1) + "\n"


def main() -> None:
    """Write every file."""
    for name, model in MODELS.items():
        (MACHINES / f"qemu-{name}.json").write_text(recording(name, model), encoding="utf-8")


if __name__ == "__main__":
    main()
