"""Two accounts of one machine, one answer: CPUID and the kernel's flags; ``/proc/cpuinfo`` and lscpu."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from helpers.corpora import corpora
from helpers.machines import INTEL, machine
from helpers.paths import PROJECT

from cpufeat.detection import crosscheck, dumps
from cpufeat.detection.detect import detect
from cpufeat.detection.probe import lscpu
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError
from cpufeat.features import NO_SPELLING, FeatureSet, family, implied, table

if TYPE_CHECKING:
    from collections.abc import Iterator

LSCPU_LEAVES_OUT = {
    "armv7": "printed without a line on the architecture, so that no version of it is known",
    "linux_fedora_5_s390x.lscpu.txt": "without te and edat: not the guest that cpuinfo is of",
}


def shown(arch: str, features: FeatureSet) -> frozenset[str]:
    """Those for which, and for all that they depend on, the kernel has a flag."""
    hidden = {name for name, row in table(arch).items() if NO_SPELLING in row.spellings.get("kernel", ())}
    return frozenset(name for name in features.isa if hidden.isdisjoint(implied(arch, name)))


def check(name: str, by_cpuid: Recording, by_kernel: Recording) -> None:
    """What Linux clears of a CPU's features, here the RDSEED of an early Zen 5, an erratum withholds from CPUID's."""
    cpuid, kernel = detect(by_cpuid), detect(by_kernel)
    assert (cpuid.source, kernel.source) == ("CPUID", "/proc/cpuinfo")
    for key in ("cpu", "level", "vendor", "family", "model"):
        assert getattr(cpuid, key) == getattr(kernel, key), name
    assert shown(cpuid.arch, cpuid.features) == shown(kernel.arch, kernel.features)
    assert kernel.features.isa <= cpuid.features


def test_cpuid_and_the_flags_of_recorded_phones_agree() -> None:
    files = sorted((corpora("cases") / "pytorch-cpuinfo").glob("*.cpuid"))
    assert len(files) == 6
    for path in files:
        by_kernel = dumps.load(str(path.with_suffix(".cpuinfo")))[1]
        check(path.name.removesuffix(".log.cpuid"), dumps.load(str(path))[1], by_kernel)


def test_a_feature_for_which_no_linux_shows_a_flag_is_no_disagreement() -> None:
    known = table("x86_64")
    reported = machine(INTEL, 6, 60, {"avx2", "sha512", "aes"})
    names = detect(reported).features.names
    assert (known["sha512"].kernel_flags, "sha512" in names) == ((), True)
    flags = " ".join(flag for name in names - {"aes"} for flag in known[name].kernel_flags)
    cpuinfo = f"vendor_id : GenuineIntel\ncpu family : 6\nmodel : 60\nstepping : 0\nflags : {flags}\n".encode()
    both = reported.replace(files={"/proc/cpuinfo": cpuinfo})
    assert [decision.subject for decision in crosscheck.disagreements(both, detect(both))] == ["aes"]


def test_cpuid_and_the_flags_of_our_own_recordings_agree() -> None:
    compared = []
    for path in sorted((PROJECT / "data" / "machines").glob("*.json")):
        machine = dumps.load(str(path))[1]
        odd = crosscheck.disagreements(machine, detect(machine))
        describes_another = any("another CPU" in decision.reason for decision in odd)
        if "/proc/cpuinfo" in machine.files and not describes_another:
            check(path.stem, machine, machine.replace(leaves={}, xcr0=None))
            compared.append(path.stem)
    assert "zen5-kvm" in compared


def pairs() -> Iterator[tuple[str, bytes, bytes]]:
    """What the kernel and lscpu printed on the same machine."""
    for path in sorted(corpora("raw/py-cpuinfo").glob("*.lscpu.txt")):
        other = path.with_name(path.name.replace(".lscpu.", ".cat_proc_cpuinfo."))
        if other.exists():
            yield path.name, other.read_bytes(), path.read_bytes()
    tests = corpora("raw/util-linux") / "tests"
    for path in sorted((tests / "ts" / "lscpu" / "dumps").glob("*.tar.gz")):
        name = path.name.removesuffix(".tar.gz")
        printed = tests / "expected" / "lscpu" / f"lscpu-{name}"
        with tarfile.open(path) as tar:
            cpuinfo = next((member for member in tar if member.name.endswith("proc/cpuinfo")), None)
            file = tar.extractfile(cpuinfo) if cpuinfo else None
            if file and printed.exists():
                yield name, file.read(), printed.read_bytes()


def test_lscpu_never_says_more_than_cpuinfo_and_the_same_where_it_shows_flags() -> None:
    compared = 0
    for name, cpuinfo, printed in pairs():
        fields = lscpu.fields(printed)
        arch = fields.get("Architecture", "")
        try:
            arch = arch or dumps.parse(cpuinfo, name)[1].arch
            family(arch)
        except (DumpError, ValueError):
            continue
        lines = [line for line in cpuinfo.splitlines(True) if not line.startswith(b"facilities")]  # lscpu has none
        by_kernel = detect(Recording(arch=arch, files={"/proc/cpuinfo": b"".join(lines)}))
        if "Flags" not in fields and "ISA" not in fields:
            continue
        by_lscpu = detect(Recording(arch=arch, files={"lscpu": printed}))
        assert by_lscpu.features <= by_kernel.features, name
        assert (by_lscpu.features == by_kernel.features) != (name in LSCPU_LEAVES_OUT), name
        compared += 1
    assert compared > 20
