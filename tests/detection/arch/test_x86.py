"""x86: what the kernel cleared, and errata."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.llvm_data import features_of
from helpers.machines import AMD, INTEL, machine

import cpufeat
from cpufeat import tables
from cpufeat.decisions import CLEARED, ERRATUM, NEEDS_PERMISSION, STATE_OFF
from cpufeat.detection.arch import x86
from cpufeat.detection.arch.identity import ANY, Erratum
from cpufeat.detection.cpuid import Cpuid
from cpufeat.detection.detect import detect
from cpufeat.detection.systems import ThisMachine
from cpufeat.features import table
from cpufeat.levels import level_features

if TYPE_CHECKING:
    from collections.abc import Collection

    from cpufeat.detection.recording import Recording

MODALIAS, MICROCODE = "/sys/devices/system/cpu/modalias", "/sys/devices/system/cpu/cpu0/microcode/version"
WORDS = {int(word): register for word, register, _ in tables.rows("x86/modalias.tsv")}
VENDORS = {vendor: int(number) for vendor, number in tables.rows("x86/vendors.tsv")}
ERRATA = [Erratum(*cells) for cells in tables.rows("x86/errata.tsv")]
ZEN_4 = machine(AMD, 25, 17, features_of("znver4"))
ZEN_5 = machine(AMD, 26, 2, features_of("znver5"), stepping=1)


def bits(recording: Recording, words: Collection[int] = WORDS) -> set[int]:
    """The numbers that a kernel with these words lists if it clears nothing, and ones of its own in the last two."""
    cpuid, own = Cpuid(recording), {32 * 20 + 2, 32 * 21 + 2} if 20 in words else set()
    return own | {32 * word + bit for word in words for bit in range(32) if cpuid.holds(f"{WORDS[word]}[{bit}]")}


def number(name: str) -> int:
    """The kernel's number of a feature's bit."""
    (term,) = table("x86_64")[name].condition.terms
    return next(32 * word + term.low for word, register in WORDS.items() if register == term.word)


def head(recording: Recording) -> str:
    family, model, _ = Cpuid(recording).signature()
    return f"cpu:type:x86,ven{VENDORS[Cpuid(recording).vendor()]:04X}fam{family:04X}mod{model:04X}:feature:"


def listing(recording: Recording, numbers: set[int], first: str = "") -> Recording:
    """The machine with such a list of the kernel's, by the form of the kernel's print_cpu_modalias."""
    text = (first or head(recording)) + "".join(f",{number:04X}" for number in sorted(numbers)) + "\n"
    return recording.replace(files={**recording.files, MODALIAS: text.encode()})


def clearing(recording: Recording, *names: str) -> Recording:
    """The machine with a kernel that cleared these features."""
    return listing(recording, bits(recording) - {number(name) for name in names})


@pytest.mark.parametrize("name", ["rdseed", "avx2", "avx512bf16", "clzero", "xsavec", "vaes"])
def test_what_the_kernel_cleared_is_withheld_with_what_depends_on_it_and_nothing_else(name: str) -> None:
    whole, detected = detect(listing(ZEN_4, bits(ZEN_4))), detect(clearing(ZEN_4, name))
    assert name in whole.features
    assert detected.withheld[name].reason == CLEARED
    assert re.search(r"modalias lacks CPUID \S+\[\d+\]", detected.withheld[name].evidence)
    assert detected.features == whole.features.without([name])


def test_a_kernel_that_cleared_nothing_withholds_nothing() -> None:
    for recording in (ZEN_4, machine(INTEL, 6, 60, features_of("haswell"))):
        assert detect(listing(recording, bits(recording))) == detect(recording)


def test_the_reason_for_which_the_kernel_cleared_a_feature_is_told() -> None:
    assert "AMD-SB-7055" in detect(clearing(ZEN_5, "rdseed")).withheld["rdseed"].evidence
    assert "RDRAND" not in detect(clearing(ZEN_4, "rdseed")).withheld["rdseed"].evidence
    assert "gather_data_sampling" in detect(clearing(ZEN_4, "avx")).withheld["avx"].evidence


def test_a_word_that_the_kernel_does_not_know_says_nothing() -> None:
    old = detect(listing(ZEN_4, bits(ZEN_4, [0, 1, 4, 6, 9])))
    assert {"avx512bf16", "vaes", "clzero", "xsavec"} <= old.features.names
    # Linux 4.1 to 5.1 had leaf F in the place of 7.1: occupancy and bandwidth of the L3 cache.
    other = detect(listing(ZEN_4, bits(ZEN_4, [0, 1, 4, 6, 9, 10]) | {32 * 12, 32 * 12 + 1, 32 * 12 + 2}))
    assert "avx512bf16" in other.features


@pytest.mark.parametrize(
    "first",
    [
        "cpu:type:x86,ven0000fam0019mod0011:feature:",
        "cpu:type:x86,ven0002fam0017mod0011:feature:",
        "cpu:type:x86,ven0002fam0019mod0061:feature:",
        "cpu:type:aarch64:feature:",
        "x86cpu:vendor:0002:family:0019:model:0011:feature:",
        "nothing",
    ],
)
def test_a_list_of_another_cpu_says_nothing(first: str) -> None:
    """An emulator of user programs shows the files of its host."""
    assert head(ZEN_4) == "cpu:type:x86,ven0002fam0019mod0011:feature:"
    assert "rdseed" not in detect(clearing(ZEN_4, "rdseed")).features
    assert "rdseed" in detect(listing(ZEN_4, bits(ZEN_4) - {number("rdseed")}, first)).features


@pytest.mark.parametrize(
    "version",
    [
        "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016",
        "Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016",
        "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc version 5.4.0) #1237-Microsoft",
    ],
)
def test_a_list_that_another_program_than_linux_wrote_says_nothing(version: str) -> None:
    cleared = clearing(ZEN_4, "rdseed")
    assert "rdseed" in detect(cleared.replace(files={**cleared.files, "/proc/version": version.encode()})).features
    linux = b"Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c826d3017f) (gcc (GCC) 11.2.0) #1 SMP"
    assert "rdseed" not in detect(cleared.replace(files={**cleared.files, "/proc/version": linux})).features


@pytest.mark.parametrize("numbers", ["", "0", "xyzw", "-001", "0001,,", "99999999999999999999999", ",", "\xff"])
def test_a_damaged_list_neither_crashes_nor_adds_a_feature(numbers: str) -> None:
    damaged = ZEN_4.replace(files={MODALIAS: (head(ZEN_4) + "," + numbers).encode("latin-1")})
    assert detect(damaged).features <= detect(ZEN_4).features
    assert detect(damaged).level.startswith("x86-64")


def test_no_list_says_that_the_running_code_lacks_its_baseline() -> None:
    baseline = level_features("x86_64", "x86-64")
    detected = detect(clearing(ZEN_4, "fxsr", "cx8", "sse2", "rdseed"))
    assert baseline <= detected.features
    assert "rdseed" not in detected.features


def test_a_feature_that_the_kernel_cleared_is_granted_to_who_names_it_as_a_decision() -> None:
    recording = clearing(ZEN_4, "rdseed")
    host = detect(recording)
    resolution = cpufeat.resolve("native+rdseed", host=host)
    assert "rdseed" in resolution.target.features
    (decision,) = resolution.decisions
    assert (decision.kind, decision.subject) == ("added", "rdseed")
    assert "although the kernel cleared it" in str(decision)
    assert "rdseed" not in cpufeat.resolve("native", host=host).target.features
    with pytest.warns(cpufeat.CpufeatWarning, match="rdseed: cleared by the kernel"):
        assert "rdseed" not in cpufeat.resolve("znver4", host=host).target.features
    assert "although rdseed cannot be trusted" in cpufeat.explain("native+rdseed", machine=recording).verdict


# --- errata


def affected(row: Erratum) -> Recording:
    """A machine of the first model and stepping that a row names, with the features that it is about."""
    family, model, stepping = (
        int(re.split("[,-]", cell)[0]) if cell != ANY else other
        for cell, other in ((row.family, 6), (row.model, 170), (row.stepping, 15))
    )
    vendor = INTEL if row.vendor == ANY else row.vendor
    return machine(vendor, family, model, {*row.features.split(), "64bit"}, stepping=stepping)


@pytest.mark.parametrize("row", ERRATA, ids=lambda row: "-".join([row.vendor, row.model, row.features, row.when]))
def test_an_erratum_withholds_its_features_where_it_applies(row: Erratum) -> None:
    recording, names = affected(row), row.features.split()
    (leaf,) = recording.leaves.values()
    condition, _, least = row.when.partition("<")
    if least:
        versions = {int(least, 16) - 1: False, int(least, 16): True, int(least, 16) + 1: True}
        for version, is_usable in versions.items():
            found = detect(recording.replace(files={MICROCODE: f"{version:#x}\n".encode()}))
            assert all((name in found.features) == is_usable for name in names), version
        assert ERRATUM in {detect(recording).withheld[name].reason for name in names}
        assert ERRATUM in {detect(recording.replace(files={MICROCODE: b"?"})).withheld[name].reason for name in names}
    elif condition == "cleared":
        assert set(names) <= detect(recording).features.names
        assert all(row.evidence in detect(clearing(recording, name)).withheld[name].evidence for name in names)
    elif condition:
        assert set(names) <= detect(recording).features.names
        eax, ebx, ecx, edx = leaf[7, 0]
        broken = recording.replace(leaves={0: {**leaf, (7, 0): (eax, ebx, ecx, edx | 1 << 11)}})
        assert {str(detect(broken).withheld[name]) for name in names} == {f"{row.reason} ({row.evidence})"}
    else:
        assert {str(detect(recording).withheld[name]) for name in names} == {f"{row.reason} ({row.evidence})"}


def test_an_erratum_is_not_one_of_the_models_beside_it() -> None:
    rtm, rdseed = {*features_of("skylake"), "rtm"}, features_of("znver5")
    assert "rtm" in detect(machine(INTEL, 6, 85, rtm, stepping=7)).features
    assert "rtm" not in detect(machine(INTEL, 6, 85, rtm, stepping=4)).features
    assert "rtm" in detect(machine(INTEL, 6, 63, rtm, stepping=4)).features
    assert "rdseed" in detect(machine(AMD, 26, 2, rdseed, stepping=2)).features
    assert "sahf" in detect(machine(AMD, 15, 20, {"64bit", "sahf"})).features
    assert "sahf" not in detect(machine(AMD, 15, 19, {"64bit", "sahf"})).features


def test_an_erratum_counts_for_flags_of_the_kernel_too() -> None:
    cpuinfo = b"vendor_id: GenuineIntel\ncpu family: 6\nmodel: 94\nstepping: 3\nflags: lm fpu sse2 rtm adx\n"
    found = detect(ZEN_4.replace(leaves={}, xcr0=None, files={"/proc/cpuinfo": cpuinfo}))
    assert (found.source, found.withheld["rtm"].reason) == ("/proc/cpuinfo", ERRATUM)
    assert "adx" in found.features
    ryzen = "vendor_id: AuthenticAMD\ncpu family: 26\nmodel: 68\nstepping: 0\nmicrocode: {}\nflags: lm sse2 rdseed\n"
    for microcode, is_usable in (("0xb40401a", False), ("0xb404035", True), ("", False)):
        of_ryzen = {"/proc/cpuinfo": ryzen.format(microcode).encode()}
        assert ("rdseed" in detect(ZEN_4.replace(leaves={}, xcr0=None, files=of_ryzen)).features) == is_usable


def test_a_feature_with_an_erratum_is_granted_to_who_names_it() -> None:
    host = detect(ZEN_5)
    (decision,) = cpufeat.resolve("native+rdseed", host=host).decisions
    assert "in spite of an erratum (AMD-SB-7055" in str(decision)
    absent = detect(machine(AMD, 15, 5, features_of("k8-sse3") | {"sahf"}))
    with pytest.warns(cpufeat.CpufeatWarning, match="sahf: not reported"):
        assert "sahf" not in cpufeat.resolve("native+sahf", host=absent).target.features


# --- what the operating system has to enable


HASWELL = machine(INTEL, 6, 60, features_of("haswell"))
OLD_AMD64 = {16: 0xBFEBFBFF}


@pytest.mark.parametrize(
    ("answers", "is_usable"),
    [
        ({"auxv": {**OLD_AMD64, 26: 2}}, True),
        ({"auxv": {**OLD_AMD64, 26: 1}}, False),
        ({"auxv": {**OLD_AMD64, 26: 0}}, False),
        ({"auxv": OLD_AMD64}, False),
        ({}, True),
        ({"system": "darwin", "auxv": {**OLD_AMD64, 26: 0}}, True),
        ({"system": "windows", "processor_features": (22, 23)}, True),
        ({"system": "windows", "processor_features": (23,)}, False),
        ({"system": "windows"}, True),
    ],
    ids=str,
)
def test_fsgsbase_is_usable_where_the_system_enabled_it(answers: dict[str, Any], *, is_usable: bool) -> None:
    """And by CPUID alone where nothing but a processor was recorded."""
    found = detect(HASWELL.replace(**answers))
    assert ("fsgsbase" in found.features) == is_usable
    assert is_usable or found.withheld["fsgsbase"].reason == STATE_OFF
    assert detect(HASWELL).features.names - found.features.names == (set() if is_usable else {"fsgsbase"})


def test_the_kernels_flag_for_fsgsbase_does_not_say_that_it_is_enabled() -> None:
    """Linux 5.4 shows the flag and does not set CR4.FSGSBASE."""
    flags = b"vendor_id: GenuineIntel\ncpu family: 6\nmodel: 60\nstepping: 0\nflags: fpu lm sse2 fsgsbase avx\n"
    old = HASWELL.replace(leaves={}, xcr0=None, files={"/proc/cpuinfo": flags}, auxv={**OLD_AMD64, 26: 0})
    assert str(detect(old).withheld["fsgsbase"]) == "OS state not enabled (fsgsbase: AT_HWCAP2 bit 1 is 0)"
    assert "fsgsbase" in detect(old.replace(auxv={**OLD_AMD64, 26: 2})).features


def test_what_nothing_shows_to_be_enabled_is_no_feature_of_the_host() -> None:
    reported = machine(INTEL, 6, 173, features_of("graniterapids") | {"shstk", "uintr", "usermsr", "pku"})
    found = detect(reported)
    assert {"shstk", "uintr", "usermsr"}.isdisjoint(found.features.names)
    assert [found.withheld[name].reason for name in ("uintr", "usermsr")] == [STATE_OFF, STATE_OFF]
    assert found.withheld["shstk"].reason == NEEDS_PERMISSION
    assert "ARCH_SHSTK_ENABLE" in found.withheld["shstk"].evidence
    assert "shstk" in cpufeat.resolve("native+shstk", host=found).target.features


def test_protection_keys_are_usable_where_the_system_enabled_them() -> None:
    """CPUID itself tells: 7.0:ECX[4] is CR4.PKE, [3] only that the CPU could."""
    (leaf,) = machine(INTEL, 6, 85, {*features_of("skylake-avx512"), "pku"}).leaves.values()
    eax, ebx, ecx, edx = leaf[7, 0]
    enabled = ZEN_4.replace(leaves={0: {**leaf, (7, 0): (eax, ebx, ecx | 0b11000, edx)}})
    not_enabled = ZEN_4.replace(leaves={0: {**leaf, (7, 0): (eax, ebx, ecx & ~0b10000 | 0b1000, edx)}})
    assert "pku" in detect(enabled).features
    assert "pku" not in detect(not_enabled).features


# --- this machine


def test_both_accounts_of_this_kernel_agree() -> None:
    """``/proc/cpuinfo`` has a flag exactly for what the kernel kept of CPUID."""
    live, cpuinfo = ThisMachine(), Path("/proc/cpuinfo")
    content = live.read_file(MODALIAS) or b""
    if not content.startswith(b"cpu:type:x86") or live.cpuid(0) is None or not cpuinfo.exists():
        pytest.skip("needs an x86 Linux with /sys/devices/system/cpu/modalias")
    flags = set(re.findall(r"^flags\s*:(.*)", cpuinfo.read_text(), re.M)[0].split())
    reading, *_ = x86.from_cpuid(live)
    words, compared = set(WORDS.values()), 0
    for name in reading.reported:
        feature = table(live.arch)[name]
        if (
            feature.kind == "isa"
            and feature.kernel_flags
            and all(term.word in words for term in feature.condition.terms)
        ):
            compared += 1
            is_cleared = getattr(reading.withheld.get(name), "reason", "") == CLEARED
            assert is_cleared == flags.isdisjoint(feature.kernel_flags), name
    assert compared > 20
