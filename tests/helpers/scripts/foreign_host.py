"""Print what cpufeat finds on the machine that runs this, and what it read there, as JSON."""

from __future__ import annotations

import ctypes
import json
import mmap
import sys

import cpufeat
from cpufeat.detection.recorder import record
from cpufeat.detection.systems import ThisMachine

AT_HWCAPS = (16, 26, 29)
HWCAP_CPUID = 1 << 11
MRS_X0_MIDR_EL1 = bytes.fromhex("000038d5c0035fd6")
"""``mrs x0, midr_el1; ret``: Linux answers for the CPU (Documentation/arch/arm64/cpu-feature-registers.rst)."""


def midr() -> int:
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(MRS_X0_MIDR_EL1)
    register: int = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return register


class WithoutProc(ThisMachine):
    """This machine as a program in a chroot without /proc sees it."""

    def read_file(self, path: str) -> bytes | None:
        return None if path.startswith("/proc/") else super().read_file(path)

    def py_cpuinfo(self) -> None:
        return None


def account() -> dict[str, object]:
    machine = ThisMachine()
    host = cpufeat.detect(machine)
    target = cpufeat.target_for_host()
    words = [machine.getauxval(kind) or 0 for kind in AT_HWCAPS]
    return {
        "arch": host.arch,
        "source": host.source,
        "cpu": host.cpu,
        "level": host.level,
        "cores": sum(core.count for core in host.cores),
        "features": list(host.features),
        "without_proc": list(cpufeat.detect(WithoutProc()).features),
        "online": len(machine.online_cpus()),
        "words": words,
        "midr": midr() if host.arch == "aarch64" and words[0] & HWCAP_CPUID else None,
        "target": json.loads(target.to_json()),
        "recording": record(machine).to_json(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(account()))
