"""py-cpuinfo as the source: the library itself, run on the machines that its project recorded.

Source: workhorsy/py-cpuinfo, ``tests/test_*.py``, in ../shared/corpora/raw/py-cpuinfo.
"""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from helpers.corpora import corpora
from helpers.paths import CORPORA

from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import CpufeatError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from cpufeat.detection import host

RECORDED = CORPORA / "raw" / "py-cpuinfo"
ASKS = {
    "cat_proc_cpuinfo": "has_proc_cpuinfo",
    "lscpu": "has_lscpu",
    "dmesg_a": "has_dmesg",
    "ibm_pa_features": "has_ibm_pa_features",
}
"""What py-cpuinfo runs, and how it asks whether it can."""
SAYS_ALL = {
    "linux_odroid_c2_aarch64": ("aarch64", "generic"),
    "linux_aarch64_64": ("aarch64", "generic"),
    "linux_odroid_xu3_arm_32": ("armv7l", "generic"),
    "linux_raspberry_pi_model_b_arm": ("armv6l", "generic"),
    "linux_new_world_loongarch64": ("loongarch64", "la464"),
    "linux_old_world_loongarch64": ("loongarch64", "la464"),
    "linux_debian_8_7_1_ppc64le": ("ppc64le", "pwr7"),
    "linux_rhel_7_3_ppc64le": ("ppc64le", "pwr8"),
    "linux_fedora_5_s390x": ("s390x", "generic"),
}
"""Machines, as ``uname -m`` has them, whose features it passes on, and the CPU: it leaves out Arm's and Z's models."""
SAYS_LESS = {
    "linux_ubuntu_21_04_riscv64": ("riscv64", "sifive-u74", "rv64gc"),
    "linux_debian_8_x86_64": ("x86_64", "nehalem", ""),
    "linux_fedora_24_x86_64": ("x86_64", "sandybridge", ""),
    "linux_ubuntu_22_04_x86_64": ("x86_64", "znver1", "x86-64-v3"),
}
"""Machines of which it does not tell all: it reads no ISA string, and knows no register state; what that takes away."""


def answer(monkeypatch: pytest.MonkeyPatch, stem: str, arch: str) -> dict[str, Any]:
    """What py-cpuinfo says on a machine where only the recorded programs can be run."""
    library = pytest.importorskip("cpuinfo.cpuinfo")
    corpora("raw/py-cpuinfo")
    asks = {name: staticmethod(lambda: False) for name in vars(library.DataSource) if name.startswith("has_")}
    programs = {}
    for program, asked in ASKS.items():
        file = RECORDED / f"{stem}.{program}.txt"
        if file.exists():
            asks[asked] = staticmethod(lambda: True)
            programs[program] = staticmethod(partial(tuple, [0, file.read_text()]))
    facts = {"bits": "64bit", "cpu_count": 4, "arch_string_raw": arch, "uname_string_raw": "", "can_cpuid": False}
    monkeypatch.setattr(library, "DataSource", type("Recorded", (library.DataSource,), {**facts, **asks, **programs}))
    told: dict[str, Any] = library._get_cpu_info_internal()
    return told


def detected(monkeypatch: pytest.MonkeyPatch, stem: str, arch: str) -> tuple[host.Host, host.Host]:
    """The host by py-cpuinfo, and by what the kernel says there."""
    by_library = detect(Recording(arch=arch, cpuinfo=answer(monkeypatch, stem, arch)))
    files = {"/proc/cpuinfo": (RECORDED / f"{stem}.cat_proc_cpuinfo.txt").read_bytes()}
    by_kernel = detect(Recording(arch=arch, files=files))
    assert (by_library.source, by_kernel.source) == ("py-cpuinfo", "/proc/cpuinfo")
    return by_library, by_kernel


@pytest.mark.parametrize("stem", SAYS_ALL)
def test_features_are_those_that_the_kernel_names(monkeypatch: pytest.MonkeyPatch, stem: str) -> None:
    arch, cpu = SAYS_ALL[stem]
    by_library, by_kernel = detected(monkeypatch, stem, arch)
    assert by_library.features == by_kernel.features
    assert len(by_library.features) > 2
    assert (by_library.cpu, sum(core.count for core in by_library.cores)) == (cpu, 4)


@pytest.mark.parametrize("stem", SAYS_LESS)
def test_a_feature_that_py_cpuinfo_does_not_tell_is_off(monkeypatch: pytest.MonkeyPatch, stem: str) -> None:
    arch, cpu, level = SAYS_LESS[stem]
    by_library, by_kernel = detected(monkeypatch, stem, arch)
    assert by_library.features <= by_kernel.features
    assert (by_library.cpu, by_kernel.cpu) == (cpu, cpu)
    assert (by_library.level == by_kernel.level) == (level == "")


def test_py_cpuinfo_is_not_asked_where_the_auxiliary_vector_answers() -> None:
    answers = {"flags": ["fp", "asimd", "sve"], "count": 4}
    detected = detect(Recording(arch="aarch64", system="openbsd", auxv={16: 0b11}, cpuinfo=answers))
    assert (detected.source, "sve" in detected.features, "neon" in detected.features) == ("AT_HWCAP", False, True)


@pytest.mark.parametrize(
    ("flags", "features"), [("fp asimd", {"fp_armv8", "neon"}), (["fp", 1, None, ["asimd"]], {"fp_armv8"})]
)
def test_of_an_answer_of_another_shape_what_can_be_read_counts(flags: object, features: set[str]) -> None:
    detected = detect(Recording(arch="aarch64", cpuinfo={"flags": flags, "count": "many", "family": [1]}))
    assert detected.features.names == features


@pytest.mark.parametrize("flags", [None, 7, {"fp": 1}])
def test_an_answer_of_another_shape_that_names_no_feature_is_an_error(flags: object) -> None:
    with pytest.raises(CpufeatError, match="nothing in py-cpuinfo names one"):
        detect(Recording(arch="aarch64", cpuinfo={"flags": flags, "count": "many", "family": [1]}))


def test_the_working_directory_describes_no_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lscpu").write_text("Architecture: aarch64\nFlags: sve\n")
    monkeypatch.chdir(tmp_path)
    assert ThisMachine().read_file("lscpu") is None


def test_py_cpuinfo_gives_no_answer_on_an_architecture_that_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it raises Exception itself there."""

    def refuse(_: str) -> None:
        raise Exception("py-cpuinfo currently only works on X86 and some ARM/PPC/S390X/MIPS/RISCV CPUs.")

    library = ModuleType("cpuinfo")
    library.__getattr__ = refuse  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "cpuinfo", library)
    assert ThisMachine().py_cpuinfo() is None
