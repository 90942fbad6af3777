"""64-bit Arm: the tables against LLVM, the kernel's header and Zig; readings against recorded machines."""

from __future__ import annotations

import json
import re
import tarfile

import pytest
from archspec.cpu.schema import TARGETS_JSON
from helpers.corpora import corpora
from helpers.zig import arm_cores, capabilities
from hypothesis import given
from hypothesis import strategies as st

from cpufeat import llvm_tables, tables
from cpufeat.cpus import cpus, find_cpu, stand_in
from cpufeat.detection import dumps, host
from cpufeat.detection.arch import Reading, aarch64
from cpufeat.detection.arch.identity import Model
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.features import FeatureSet, find, table
from cpufeat.levels import level_features, levels
from cpufeat.target import Target

ARCH = "aarch64"
TRIPLE = "aarch64-unknown-linux-gnu"
FEATURES = table(ARCH)
VERSIONS = llvm_tables.versions(ARCH)
MODELS = [Model(*row) for row in tables.rows("aarch64/models.tsv")]
WORDS = {"HWCAP": 16, "HWCAP2": 26, "HWCAP3": 29}

NOT_AS_ZIG = {
    ("0x43", 0x0B0): "OcteonTX2: no name of LLVM's; Zig takes GCC's tuning",
    ("0x43", 0x0B1): "OcteonTX2",
    ("0x43", 0x0B2): "OcteonTX2",
    ("0x43", 0x0B3): "OcteonTX2",
    ("0x43", 0x0B4): "OcteonTX2",
    ("0x43", 0x0B5): "OcteonTX2",
    ("0x50", 0x000): "X-Gene: Zig has names of its own",
    ("0x51", 0x801): "a small core, based on the Cortex-A53",
    ("0x51", 0x803): "a small core, based on the Cortex-A55",
    ("0x51", 0x805): "a small core, based on the Cortex-A55",
    ("0x53", 0x000): "a number that no core is known to have",
    ("0x61", 0x020): "the A14's: the M1 has the same cores under numbers of its own",
    ("0x61", 0x021): "the A14's",
    ("0x68", 0x000): "an emulator's",
}


def cpuinfo(flags: str, *cores: tuple[int, int, int]) -> bytes:
    """What Linux prints of cores, each an implementer, a part, and a variant and revision."""
    return "\n".join(
        f"processor\t: {number}\nBogoMIPS\t: 100.00\nFeatures\t: {flags}\nCPU implementer\t: {implementer:#04x}\n"
        f"CPU architecture: 8\nCPU variant\t: {stepping >> 4:#x}\nCPU part\t: {part:#05x}\n"
        f"CPU revision\t: {stepping & 15}\n"
        for number, (implementer, part, stepping) in enumerate(cores)
    ).encode()


def of_cpuinfo(flags: str, *cores: tuple[int, int, int]) -> Recording:
    return Recording(arch=ARCH, files={"/proc/cpuinfo": cpuinfo(flags, *(cores or [(0x41, 0xD03, 4)]))})


def of_words(*words: int) -> Recording:
    return Recording(arch=ARCH, auxv=dict(zip(WORDS.values(), words, strict=False)))


# --- the tables


def test_every_bit_of_the_kernels_header_is_read_by_its_word_and_by_its_name() -> None:
    listed = capabilities(ARCH)
    assert len(listed) > 100
    conditions = "&".join(feature.bit for feature in FEATURES.values())
    for word, name, bit in listed:
        assert f"{word.lower()}[{bit}]" in conditions, name
        flag = name.lower().replace("_", "")
        (by_word,) = aarch64.read(of_words(*(int(word == other) << bit for other in WORDS)))
        (by_name,) = aarch64.read(of_cpuinfo(flag))
        assert by_word.reported.keys() == by_name.reported.keys(), name


def test_all_bits_report_every_feature_that_has_one() -> None:
    (reading,) = aarch64.read(of_words(*[2**64 - 1] * 3))
    assert reading.reported.keys() == {name for name, feature in FEATURES.items() if feature.bit}
    assert reading.reported["sve_aes"] == "AT_HWCAP2 bit 2 and AT_HWCAP2 bit 3"
    assert detect(of_words(*[2**64 - 1] * 3)).level == "armv9.7-a"


def test_models_have_the_cpus_that_zig_gives_them() -> None:
    cores = {core: name for core, name in arm_cores(64).items() if core not in NOT_AS_ZIG}
    assert len(cores) > 80
    for (vendor, part), name in cores.items():
        reading = Reading("", vendor, None, part, 0)
        cpu = next((row.cpu for row in MODELS if row.cpu and row.fits(reading, frozenset())), None)
        assert cpu == name, (vendor, hex(part))


def test_rows_name_existing_cpus_and_are_the_first_to_match_their_models() -> None:
    known = llvm_tables.load(ARCH).cpus.keys()
    for row in (row for row in MODELS if row.name and row.cpu):
        assert stand_in(ARCH, row.cpu) in known
        for part in re.split("[,-]", row.model):
            reading = Reading("", row.vendor, None, int(part, 0), 0 if row.stepping == "*" else int(row.stepping, 0))
            assert next(other for other in MODELS if other.cpu and other.fits(reading, frozenset())) == row


def test_archspecs_names_and_features_are_known() -> None:
    targets = TARGETS_JSON["microarchitectures"]

    def is_arm(name: str) -> bool:
        return name == "aarch64" or any(map(is_arm, targets[name]["from"]))

    named = [name for name in targets if is_arm(name) and not name.startswith("armv")]
    assert len(named) >= 10
    assert {find_cpu(ARCH, name) for name in named} <= cpus(ARCH).keys()
    for name in named:
        flags = {flag for flag in targets[name]["features"] if flag != "cpuid"}
        assert {find(ARCH, flag).name for flag in flags} <= FEATURES.keys()


# --- levels


@pytest.mark.parametrize("level", levels(ARCH))
def test_a_level_has_no_more_than_llvms(level: str) -> None:
    """LLVM's feature for the version (v8.2a) is without what Armv9-A has by default: SVE2 and what depends on it."""
    bundle = "v" + level.removeprefix("armv").replace("-", "")
    depends_on = next(row for row in tables.rows("aarch64/llvm-22.tsv") if row[:2] == ["feature", bundle])[3].split()
    assert level_features(ARCH, "armv8-a") == FeatureSet(ARCH, ["fp_armv8", "neon"])
    of_llvm = {find(ARCH, name).name for name in depends_on} | {"fp_armv8", "neon"}
    scalable = {"fullfp16", "sve", "sve2", "sve2p1", "sve2p2", "sve2p3", "faminmax", "lut", "fprcvt"}
    assert level_features(ARCH, level).names - scalable <= of_llvm


def test_levels_are_a_partial_order() -> None:
    def holds(level: str, other: str) -> bool:
        return level_features(ARCH, other) <= level_features(ARCH, level)

    assert holds("armv9.2-a", "armv8.7-a")
    assert holds("armv9-a", "armv8.5-a")
    assert not holds("armv9-a", "armv8.6-a")
    assert not holds("armv8.9-a", "armv9-a")


def test_a_level_is_compiled_for() -> None:
    target = Target.parse("armv8.2-a+dotprod", TRIPLE)
    assert "+lse" in target.llvm_features(22).split(",")
    assert "-sve" in target.llvm_features(22).split(",")


# --- readings


def test_cores_are_listed_biggest_first_in_whatever_order_they_are_shown() -> None:
    a510, a710, x2 = (0x41, 0xD46, 0x10), (0x41, 0xD47, 0x20), (0x41, 0xD48, 0x20)
    for cores in ([a510, a510, a710, x2], [x2, a510, a710, a510], [a710, x2, a510, a510]):
        detected = detect(of_cpuinfo("fp asimd crc32", *cores))
        assert detected.cores == (host.Core("cortex-x2", 1), host.Core("cortex-a710", 1), host.Core("cortex-a510", 2))
        assert (detected.cpu, detected.name, detected.stepping) == ("cortex-x2", "Cortex-X2", 0x20)


def test_sysfs_says_which_cores_there_are_before_cpuinfo() -> None:
    path = "/sys/devices/system/cpu/cpu{}/regs/identification/midr_el1"
    files = {path.format(0): b"0x00000000411fd050\n", path.format(1): b"0x00000000481fd400\n"}
    files["/proc/cpuinfo"] = cpuinfo("fp", (0x41, 0xD03, 0))
    detected = detect(Recording(arch=ARCH, auxv={16: 0x3}, files=files, online=(0, 1)))
    assert detected.cores == (host.Core("cortex-a76", 1), host.Core("cortex-a55", 1))
    assert (detected.source, detected.evidence["neon"]) == ("AT_HWCAP", "AT_HWCAP bit 1")


def test_features_without_a_core_are_told_apart_by_level() -> None:
    detected = detect(of_words(0xFFFFFFFF, 0))
    assert (detected.cpu, detected.level) == ("generic", "armv8.4-a")
    assert {"sve", "pauth"} <= detected.features.names
    assert "sve2" not in detected.features


@pytest.mark.parametrize(
    ("core", "cpu", "stands_for", "name"),
    [
        ((0x48, 0xD01, 0x10), "tsv110", "", "TaiShan-v110"),
        ((0x48, 0xD02, 0x10), "tsv110", "hip09", "TaiShan-v120"),
        ((0x48, 0xD03, 0x10), "tsv110", "hip10a", "TaiShan-v130"),
        ((0x48, 0xD22, 0x10), "tsv110", "hip11", "HIP11"),
        ((0x48, 0xD06, 0x10), "tsv110", "hip12", "HIP12"),
    ],
)
def test_kunpengs_are_told_apart(core: tuple[int, int, int], cpu: str, stands_for: str, name: str) -> None:
    detected = detect(of_cpuinfo("fp asimd atomics asimdrdm crc32 asimddp sve", core))
    assert (detected.cpu, detected.stands_for, detected.name) == (cpu, stands_for, name)


def test_a_core_in_no_table_is_generic_with_its_features() -> None:
    detected = detect(of_cpuinfo("fp asimd atomics asimdrdm crc32 asimddp", (0x41, 0xDFF, 0)))
    assert (detected.cpu, detected.name, detected.level) == ("generic", "", "armv8.1-a")
    assert "dotprod" in detected.features
    assert "is in no table" in detected.decisions[0].reason


def test_a_core_without_a_name_in_llvm_is_generic() -> None:
    detected = detect(of_cpuinfo("fp asimd aes pmull sha1 sha2 crc32", (0x70, 0x663, 0x13)))
    assert (detected.cpu, detected.name, detected.level) == ("generic", "FTC663", "armv8-a")


def test_the_big_core_is_told_by_its_class_whichever_vendor_numbers_it() -> None:
    flags = "fp asimd aes pmull sha1 sha2 crc32 atomics asimdrdm"
    a55, a76, a77, silver, exynos = (
        (0x41, 0xD05, 0x10),
        (0x41, 0xD0B, 0x30),
        (0x41, 0xD0D, 0x10),
        (0x51, 0x805, 0xDE),
        (0x53, 3, 0x10),
    )
    for small, big, cpu in ((silver, a77, "cortex-a77"), (a76, exynos, "exynos-m4"), (a55, a76, "cortex-a76")):
        for cores in ([small, big], [big, small]):
            assert detect(of_cpuinfo(flags, *cores)).cpu == cpu


def test_the_exynos_9810_has_only_what_all_its_cores_have() -> None:
    flags = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp"
    detected = detect(of_cpuinfo(flags, (0x41, 0xD05, 0x01), (0x53, 0x002, 0x10)))
    assert detected.cpu == "exynos-m3"
    assert detected.withheld["lse"].reason == "differs between cores"
    assert not {"lse", "fullfp16"} & detected.features.names
    assert "lse" in detect(of_cpuinfo(flags, (0x41, 0xD05, 0x01))).features


def test_lscpu_of_several_kinds_of_core_gives_the_same_as_cpuinfo() -> None:
    tests, name = corpora("raw/util-linux") / "tests", "arm-A510-A710-A715-X3"
    with tarfile.open(tests / "ts" / "lscpu" / "dumps" / f"{name}.tar.gz") as tar:
        (member,) = (member for member in tar if member.name.endswith("proc/cpuinfo"))
        file = tar.extractfile(member)
        assert file
        by_kernel = detect(Recording(arch=ARCH, files={"/proc/cpuinfo": file.read()}))
    text = (tests / "expected" / "lscpu" / f"lscpu-{name}").read_bytes()
    by_lscpu = detect(Recording(arch=ARCH, files={"lscpu": text}))
    assert by_kernel.cores == by_lscpu.cores
    assert [core.cpu for core in by_kernel.cores] == ["cortex-x3", "cortex-a715", "cortex-a710", "cortex-a510"]
    assert by_kernel.features == by_lscpu.features


def test_vector_lengths_of_sve_are_no_features() -> None:
    assert not [name for name in FEATURES if re.search("128|256|512|1024|2048", name) and name.startswith("sv")]


@given(st.tuples(*[st.integers(0, 2**64 - 1)] * 3), st.integers(0, 2), st.integers(0, 63))
def test_a_bit_that_is_cleared_adds_nothing(words: tuple[int, int, int], word: int, bit: int) -> None:
    less = [value & ~(1 << bit) if at == word else value for at, value in enumerate(words)]
    whole, part = (aarch64.read(of_words(*values)) for values in (words, less))
    assert not part or part[0].reported.keys() <= whole[0].reported.keys()


@given(st.binary(max_size=60), st.integers(0, 600))
def test_a_damaged_cpuinfo_adds_nothing(noise: bytes, at: int) -> None:
    content = cpuinfo("fp asimd aes pmull crc32", (0x41, 0xD03, 4), (0x41, 0xD08, 1))
    whole = aarch64.read(Recording(arch=ARCH, files={"/proc/cpuinfo": content}))
    for damaged in (content[:at], content[:at] + b"\xff" + noise.replace(b"a", b"b") + content[at + 60 :]):
        for reading in aarch64.read(Recording(arch=ARCH, files={"/proc/cpuinfo": damaged})):
            assert reading.reported.keys() <= whole[0].reported.keys() | {"fp_armv8", "crc"}


def test_a_silent_machine_has_no_reading() -> None:
    assert aarch64.read(Recording(arch=ARCH)) == []
    assert aarch64.read(Recording(arch=ARCH, files={"/proc/cpuinfo": b"processor: 0\nvendor_id: GenuineIntel\n"})) == []


# --- recorded machines


def test_recorded_machines_are_the_cpus_that_they_are_known_to_be() -> None:
    cases = corpora("cases")
    listed = [line.split("\t") for line in (cases / "truth.tsv").read_text().splitlines()]
    of_arm = [(path, truth) for path, _, arch, truth in listed if arch == ARCH]
    assert len(of_arm) > 80
    for path, truth in of_arm:
        detected = detect(dumps.load(str(cases / path))[1])
        assert detected.name, path
        assert truth in ("-", detected.cpu, "+".join(sorted(core.cpu for core in detected.cores))), path


def test_googles_recordings_have_the_features_that_google_expects() -> None:
    folder = corpora("raw/google-cpu_features") / "aarch64"
    paths = list(folder.glob("*.json"))
    assert paths
    for path in paths:
        expected = json.loads(path.read_text())
        files = {"/proc/cpuinfo": path.with_suffix(".cpuinfo").read_bytes()}
        (reading,) = aarch64.read(Recording(arch=ARCH, files=files))
        shown = {why.rpartition(" ")[2] for whole in reading.reported.values() for why in whole.split(" and ")}
        assert shown == set(expected["present"])
        assert not shown & set(expected["absent"])
        assert {find(ARCH, flag).name for flag in expected["absent"]} <= FEATURES.keys()
        assert dict(expected["equal"]) == {
            "implementer": reading.vendor,
            "part": f"{reading.model:#x}",
            "variant": f"{(reading.stepping or 0) >> 4:#x}",
            "revision": str((reading.stepping or 0) & 15),
        }


def test_auxiliary_vectors_of_rust_have_the_features_that_rust_expects() -> None:
    folder = corpora("raw/stdarch-auxv") / "crates" / "std_detect" / "src" / "detect" / "test_data"
    expected = {"linux-no-hwcap2": None, "linux-empty-hwcap2": 0, "linux-hwcap2": 0x70101}
    for name, second in expected.items():
        content = (folder / f"{name}-aarch64.auxv").read_bytes()
        numbers = [int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content), 8)]
        vector = dict(zip(numbers[::2], numbers[1::2], strict=True))
        assert vector.get(26) == second
        features = detect(Recording(arch=ARCH, auxv=vector)).features
        assert {"dotprod", "rcpc", "lse", "crc", "fullfp16", "ccpp"} <= features.names
        of_second = {"altnzcv", "bti", "ccdp", "fptoint", "mte", "pauth", "rand"}
        assert of_second & features.names == ({"bti", "ccdp", "fptoint", "mte", "pauth", "rand"} if second else set())
