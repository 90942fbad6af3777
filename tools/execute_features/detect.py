"""Print what cpufeat finds where this runs, as JSON: the usable features, and why the others are not.

With an argument, permission to use AMX is requested first.
"""

from __future__ import annotations

import ctypes
import json
import sys

import cpufeat
from cpufeat.features import table

ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA = 158, 0x1023, 18


def found() -> dict[str, object]:
    """Return what ``compare.Found`` describes."""
    host = cpufeat.detect()
    missing = {name: str(host.why_missing(name)) for name in table(host.arch) if name not in host.features}
    return {"usable": sorted(host.features), "missing": missing}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ctypes.CDLL(None).syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA)
    sys.stdout.write(json.dumps(found()) + "\n")
