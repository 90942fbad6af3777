"""Python and cpufeat of other architectures, run here by qemu-user; on aarch64 beside llvmlite, the oracle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from zig import capabilities

from cpufeat.features import find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ROOT = Path(__file__).parent.parent
DETECT = """
import json, sys
sys.path[:0] = sys.argv[1:]
from cpufeat import host, machine
this = machine.ThisMachine()
found = host.detect(this)
answer = {name: getattr(found, name) for name in ("arch", "cpu", "level", "source")}
answer["features"] = list(found.features)
answer["words"] = [this.getauxval(kind) or 0 for kind in (16, 26, 29)]
try:
    from llvmlite import binding
    answer["llvm"] = [binding.get_host_cpu_name(), dict(binding.get_host_cpu_features())]
except ImportError:
    pass
print(json.dumps(answer))
"""
MIDR = {
    "cortex-a53": 0x410FD034,
    "cortex-a72": 0x410FD083,
    "cortex-a76": 0x414FD0B1,
    "neoverse-n1": 0x414FD0C1,
    "a64fx": 0x461F0010,
}
"""What QEMU's cores say of themselves (target/arm/cpu64.c)."""


class Core(NamedTuple):
    """A core that QEMU emulates."""

    debian: str
    arch: str
    emulator: str
    cpu: str
    level: str


CORES = [
    Core("arm64", "aarch64", "qemu-aarch64", "cortex-a53", "armv8-a"),
    Core("arm64", "aarch64", "qemu-aarch64", "cortex-a72", "armv8-a"),
    Core("arm64", "aarch64", "qemu-aarch64", "cortex-a76", "armv8.2-a"),
    Core("arm64", "aarch64", "qemu-aarch64", "neoverse-n1", "armv8.2-a"),
    Core("arm64", "aarch64", "qemu-aarch64", "a64fx", "armv8.2-a"),
    Core("armhf", "armv7l", "qemu-arm", "cortex-a9", "armv7-a"),
    Core("armhf", "armv7l", "qemu-arm", "cortex-a15", "armv7ve"),
    Core("ppc64el", "ppc64le", "qemu-ppc64le", "power8", "power8"),
    Core("ppc64el", "ppc64le", "qemu-ppc64le", "power9", "power9"),
    Core("s390x", "s390x", "qemu-s390x", "max", "z13"),
]


def sysroot(debian: str, emulator: str) -> Path:
    if not shutil.which(emulator):
        pytest.skip(f"needs {emulator}: apt-get install qemu-user")
    folder = Path(os.environ.get("CPUFEAT_SYSROOTS", "/nonexistent")) / debian
    if not list(folder.glob("usr/bin/python3.*")):
        pytest.skip(
            f"needs Debian's Python for {debian}: python tests/sysroots.py FOLDER {debian}; CPUFEAT_SYSROOTS=FOLDER"
        )
    return folder


@pytest.fixture
def cpuinfo(core: Core) -> Iterator[Path]:
    """The file that programs of the architecture find as /proc/cpuinfo, where QEMU would show them that of the host."""
    path = sysroot(core.debian, core.emulator) / "proc" / "cpuinfo"
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    yield path
    path.unlink()


def detect(core: Core) -> dict[str, Any]:
    root = sysroot(core.debian, core.emulator)
    python = next(path for path in root.glob("usr/bin/python3.*") if path.name[-1].isdigit())
    command = [core.emulator, "-L", str(root), "-cpu", core.cpu, str(python), "-S", "-E", "-B", "-c", DETECT]
    run = subprocess.run([*command, str(ROOT), str(root / "wheels")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


@pytest.mark.parametrize("core", CORES, ids=lambda core: f"{core.arch}-{core.cpu}")
@pytest.mark.usefixtures("cpuinfo")
def test_the_auxiliary_vector_tells_the_level(core: Core) -> None:
    answer = detect(core)
    assert (answer["arch"], answer["source"], answer["level"]) == (core.arch, "AT_HWCAP", core.level)


@pytest.mark.parametrize("core", [core for core in CORES if core.debian == "arm64"], ids=lambda core: core.cpu)
def test_the_answer_is_llvms_run_there(core: Core, cpuinfo: Path) -> None:
    words = dict(zip(("HWCAP", "HWCAP2", "HWCAP3"), detect(core)["words"], strict=True))
    flags = [name.lower().replace("_", "") for word, name, bit in capabilities("aarch64") if words[word] >> bit & 1]
    midr = MIDR[core.cpu]
    cpuinfo.write_text(
        f"processor\t: 0\nBogoMIPS\t: 125.00\nFeatures\t: {' '.join(flags)}\nCPU implementer\t: {midr >> 24:#x}\n"
        f"CPU architecture: 8\nCPU variant\t: {midr >> 20 & 15:#x}\nCPU part\t: {midr >> 4 & 0xFFF:#05x}\n"
        f"CPU revision\t: {midr & 15}\n\n"
    )
    answer = detect(core)
    if "llvm" not in answer:
        pytest.skip("needs llvmlite for aarch64: python tests/sysroots.py FOLDER arm64")
    name, features = answer["llvm"]
    assert answer["cpu"] == name == core.cpu
    by_llvm = {find("aarch64", feature).name: has for feature, has in features.items()}
    assert by_llvm == {feature: feature in answer["features"] for feature in by_llvm}
