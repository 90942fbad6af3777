"""What a machine is taken to be, and what of it may be used."""

from __future__ import annotations

import json

import pytest
from helpers.corpora import needs_corpora
from helpers.llvm_data import features_of
from helpers.machines import AMD, INTEL, leaves, machine
from helpers.paths import CORPUS

import cpufeat
from cpufeat.cpus import cpu_features
from cpufeat.detection import dumps, host
from cpufeat.detection.detect import detect
from cpufeat.detection.machine import Machine
from cpufeat.detection.recording import Recording
from cpufeat.features import FeatureSet
from cpufeat.levels import baseline, level_features, level_of, levels


def test_a_plain_machine_is_its_model_and_all_that_it_reports() -> None:
    detected = detect(machine(INTEL, 6, 60, features_of("haswell")))
    assert (detected.cpu, detected.level, detected.cores) == ("haswell", "x86-64-v3", (host.Core("haswell", 1),))
    assert features_of("haswell") <= detected.features.names
    assert not detected.decisions


@pytest.mark.parametrize(
    ("xcr0", "lost", "level"),
    [
        (0x7, "avx512f", "x86-64-v3"),
        (0x3, "avx", "x86-64-v2"),
        (0x67, "avx512f", "x86-64-v3"),
        (0xE7, None, "x86-64-v4"),
    ],
)
def test_a_state_that_is_not_enabled_withholds_what_needs_it(xcr0: int, lost: str | None, level: str) -> None:
    detected = detect(machine(INTEL, 6, 85, features_of("skylake-avx512"), xcr0=xcr0))
    assert detected.level == level
    if lost:
        assert lost not in detected.features
        assert detected.withheld[lost].reason == "OS state not enabled"
        assert f"XCR0 is {xcr0:#x}" in detected.withheld[lost].evidence
    else:
        assert "avx512f" in detected.features


@pytest.mark.parametrize("xcr0", [0x3, 0x1B, 0xE7, None])
def test_xsave_needs_what_the_system_does_with_it_and_not_avx(xcr0: int | None) -> None:
    """SDM volume 1, 13.3: CR4.OSXSAVE alone. Goldmont and Tremont have XSAVE and no AVX."""
    names = {"xsave", "xsaveopt", "xsavec", "xsaves"}
    recorded = machine(INTEL, 6, 134, features_of("tremont") | names).replace(xcr0=xcr0)
    detected = detect(recorded)
    assert detected.cpu == "tremont"
    assert names <= detected.features.names
    words = dict(recorded.leaves[0])
    eax, ebx, ecx, edx = words[1, 0]
    words[1, 0] = (eax, ebx, ecx & ~(1 << 27), edx)
    without = detect(recorded.replace(leaves={0: words}))
    assert not names & without.features.names
    assert without.withheld["xsave"].evidence == "xsave: CPUID 1:ECX[27] (OSXSAVE) is 0, needs 0x1"


@pytest.mark.parametrize(("family", "model", "cpu"), [(5, 8, "k6-2"), (6, 4, "athlon"), (15, 5, "k8")])
def test_prefetchw_is_a_part_of_3dnow(family: int, model: int, cpu: str) -> None:
    """AMD APM volume 3, PREFETCH: 3DNow! or long mode; the bit of its own is younger than the K8."""
    recorded = machine(AMD, family, model, {"x87", "cx8", "mmx", "3dnow"})
    detected = detect(recorded)
    assert (detected.cpu, detected.evidence["prfchw"]) == (cpu, "CPUID 80000001.0:EDX[31]")
    assert "prfchw" in detected.features
    assert "prfchw" not in detect(machine(AMD, family, model, {"x87", "cx8", "mmx"})).features


def test_nothing_is_wrong_with_a_feature_that_is_usable() -> None:
    found = detect(machine(INTEL, 6, 85, features_of("skylake-avx512"), xcr0=0x7))
    for usable in ("avx2", "AVX2", "sse4.1"):
        assert found.why_missing(usable) is None
    for withheld in ("avx512f", "AVX512F"):
        assert found.why_missing(withheld) == found.withheld["avx512f"]
    assert found.why_missing("amx_tile").reason == "not reported"
    with pytest.raises(cpufeat.UnknownNameError, match="unknown x86 feature 'avx512ff'"):
        found.why_missing("avx512ff")


def test_the_missing_ones_of_several_features_are_named_with_the_reason() -> None:
    found = detect(machine(INTEL, 6, 85, features_of("skylake-avx512"), xcr0=0x7))
    asked = FeatureSet("x86_64", ["avx2", "avx512f", "amx_tile"])
    assert found.missing(asked) == {name: found.why_missing(name) for name in ("avx512f", "amx_tile")}
    with pytest.raises(cpufeat.TargetError, match="cannot be compared"):
        found.missing(FeatureSet("aarch64", ["neon"]))


def test_without_osxsave_xgetbv_is_not_run() -> None:
    class Faulting(Recording):
        def xgetbv(self, index: int = 0) -> int:
            raise AssertionError("XGETBV faults where OSXSAVE is 0")

    words = leaves(INTEL, 6, 60, 3, features_of("haswell"))
    eax, ebx, ecx, edx = words[1, 0]
    words[1, 0] = (eax, ebx, ecx & ~(1 << 27), edx)
    detected = detect(Faulting(leaves={0: words}))
    assert detected.level == "x86-64-v2"
    assert "OSXSAVE" in detected.withheld["avx2"].evidence


def test_amx_needs_a_permission() -> None:
    detected = detect(machine(INTEL, 6, 143, features_of("sapphirerapids")))
    assert detected.cpu == "sapphirerapids"
    assert "amx_tile" not in detected.features
    assert detected.withheld["amx_int8"].reason == "needs a permission"


def test_amx_is_usable_with_the_permission() -> None:
    class Permitted(Recording):
        def permitted_states(self) -> int:
            return 1 << 17 | 1 << 18

    recording = machine(INTEL, 6, 143, features_of("sapphirerapids"))
    assert "amx_int8" in detect(Permitted(leaves=recording.leaves, xcr0=recording.xcr0)).features


def test_features_outweigh_a_model_number_that_they_contradict() -> None:
    """Seen on a KVM guest of Sapphire Rapids: model 167, Rocket Lake, with AMX."""
    detected = detect(machine(INTEL, 6, 167, features_of("sapphirerapids")))
    assert detected.cpu == "sapphirerapids"
    (decision,) = detected.decisions
    assert decision.kind == "identity"
    assert "Rocket Lake" in decision.reason
    assert "amx_tile" in decision.reason


def test_a_masked_guest_keeps_its_model() -> None:
    masked = FeatureSet("x86_64", features_of("znver4")).without(["avx512f"]).names
    detected = detect(machine(AMD, 25, 0x11, set(masked)))
    assert (detected.cpu, detected.level) == ("znver4", "x86-64-v3")
    assert detected.withheld["avx512vnni"].reason == "not reported"
    assert "7.0:ECX[11]" in detected.withheld["avx512vnni"].evidence


@pytest.mark.parametrize(
    ("vendor", "family", "model", "cpu", "listed"),
    [
        (INTEL, 6, 26, "sandybridge", "xsave, xsaveopt, avx, pclmul"),
        (AMD, 21, 1, "bdver2", "bmi, f16c, fma, tbm"),
        (INTEL, 6, 190, "sierraforest", "avxifma, avxneconvert, avxvnniint8, cldemote and 2 more"),
    ],
)
def test_at_most_four_features_that_contradict_a_model_are_listed(
    vendor: str, family: int, model: int, cpu: str, listed: str
) -> None:
    detected = detect(machine(vendor, family, model, features_of(cpu)))
    assert detected.cpu == cpu
    assert f"which has no {listed};" in detected.decisions[0].reason


@pytest.mark.parametrize(
    ("model", "cpu", "extra"),
    [
        (60, "haswell", {"rdseed"}),  # Valgrind 3.19 where the processor has it
        (60, "haswell", {"rdseed", "adx", "prfchw"}),  # LLVM's Broadwell, tuned as its Haswell
        (26, "nehalem", {"pclmul"}),
        (85, "skylake-avx512", {"rdpid", "sha"}),
    ],
)
def test_a_feature_on_which_no_tuning_depends_never_outweighs_a_model_number(
    model: int, cpu: str, extra: set[str]
) -> None:
    detected = detect(machine(INTEL, 6, model, features_of(cpu) | extra))
    assert (detected.cpu, detected.decisions) == (cpu, ())
    assert extra <= detected.features.names
    for lacking in extra | {"popcnt"}:
        masked = FeatureSet("x86_64", features_of(cpu) | extra).without([lacking])
        assert detect(machine(INTEL, 6, model, set(masked))).cpu == cpu


@pytest.mark.parametrize("hint", ["cldemote", "prfchw", "movdiri", "ptwrite"])
def test_a_hint_never_outweighs_a_model_number_that_the_best_fit_contradicts_as_well(hint: str) -> None:
    """Bartlett Lake, Raptor Lake's performance cores alone, reports CLDEMOTE, which no client CPU of LLVM has."""
    detected = detect(machine(INTEL, 6, 215, features_of("raptorlake") | {hint}))
    assert (detected.cpu, detected.name, detected.decisions) == ("raptorlake", "Raptor Lake", ())


def test_a_cpu_that_no_llvm_has_yet_is_tuned_for_as_a_stand_in_that_says_so() -> None:
    recording = machine(AMD, 26, 0x50, set(cpu_features("x86_64", "znver6")))
    detected = detect(recording)
    assert (detected.cpu, detected.stands_for, detected.named, detected.name) == ("znver5", "znver6", "znver5", "Zen 6")
    assert detected.cores == (host.Core("znver5", 1, "znver6"),)
    (decision,) = detected.decisions
    assert (decision.kind, decision.subject) == ("stand-in", "znver5")
    assert "stands in for znver6 (Zen 6), which LLVM 22 does not have" in decision.reason
    assert {"avx512fp16", "avxneconvert"} <= detected.features.names
    explanation = cpufeat.explain(machine=recording)
    assert "a stand-in for znver6" in explanation.verdict
    assert json.loads(explanation.to_json())["stands_for"] == "znver6"


@pytest.mark.parametrize("model", [0x00, 0x44, 0x4F, 0x60, 0x77, 0xD0, 0xD7])
def test_zen_5_is_no_stand_in(model: int) -> None:
    detected = detect(machine(AMD, 26, model, features_of("znver5")))
    assert (detected.cpu, detected.stands_for, detected.name) == ("znver5", "", "Zen 5")


def test_a_contradiction_that_the_best_fit_does_not_resolve_leaves_the_model_number() -> None:
    detected = detect(machine(INTEL, 6, 167, features_of("rocketlake") | {"amx_tile"}))
    assert (detected.cpu, detected.name, detected.decisions) == ("rocketlake", "Rocket Lake", ())


@pytest.mark.parametrize("vendor", [INTEL, AMD, "NobodysCPU!!"])
def test_a_model_in_no_table_is_generic_with_its_features(vendor: str) -> None:
    detected = detect(machine(vendor, 99, 254, features_of("haswell")))
    assert (detected.cpu, detected.name, detected.level) == ("generic", "", "x86-64-v3")
    assert features_of("haswell") <= detected.features.names
    assert "in no table" in detected.decisions[0].reason
    assert not detected.withheld


def test_a_reported_feature_depends_on_what_is_not_reported() -> None:
    """A hypervisor that masks AVX-512F but forgets the rest: never over-report."""
    words = leaves(INTEL, 6, 85, 4, features_of("skylake-avx512"))
    eax, ebx, ecx, edx = words[7, 0]
    words[7, 0] = (eax, ebx & ~(1 << 16), ecx, edx)
    detected = detect(Recording(leaves={0: words}, xcr0=0xE7))
    assert not [name for name in detected.features if name.startswith("avx512")]
    assert "7.0:EBX[16]" in detected.withheld["avx512f"].evidence


def test_cores_that_differ_share_what_all_of_them_run() -> None:
    """Alder Lake with AVX-512 on its performance cores, which no efficiency core has."""
    big = leaves(INTEL, 6, 151, 2, features_of("alderlake") | features_of("rocketlake"), core_type=0x40)
    small = leaves(INTEL, 6, 151, 2, features_of("gracemont"), core_type=0x20)
    detected = detect(Recording(leaves={0: big, 1: big, 2: small}, xcr0=0xE7))
    assert detected.withheld["avx512f"].reason == "differs between cores"
    assert {core.cpu: core.count for core in detected.cores} == {"alderlake": 2, "gracemont": 1}
    assert detected.cpu == "alderlake"


def test_a_hybrid_is_tuned_for_its_performance_cores_whichever_comes_first() -> None:
    big = leaves(INTEL, 6, 151, 2, features_of("alderlake"), core_type=0x40)
    small = leaves(INTEL, 6, 151, 2, features_of("gracemont"), core_type=0x20)
    for cores in ({0: big, 1: small}, {0: small, 1: big}):
        detected = detect(Recording(leaves=cores, xcr0=0xE7))
        assert detected.cpu == "alderlake"
        assert set(detected.cores) == {host.Core("alderlake", 1), host.Core("gracemont", 1)}


@pytest.mark.parametrize(("with_it", "without_it"), [("alderlake", "gracemont"), ("gracemont", "alderlake")])
def test_a_feature_that_differs_between_cores_names_those_without_it(with_it: str, without_it: str) -> None:
    types = {"alderlake": 0x40, "gracemont": 0x20}
    cores = [
        leaves(INTEL, 6, 151, 2, features_of(cpu) | ({"avx512f"} if cpu == with_it else set()), core_type=types[cpu])
        for cpu in (with_it, with_it, without_it)
    ]
    withheld = detect(Recording(leaves=dict(enumerate(cores)), xcr0=0xE7)).withheld["avx512f"]
    assert (withheld.reason, withheld.evidence) == ("differs between cores", f"not on {without_it}")


def test_a_brand_is_read_from_all_three_leaves() -> None:
    brand = "Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz"
    words = leaves(INTEL, 6, 143, 8, features_of("haswell"))
    parts = [int.from_bytes(brand.encode().ljust(48, b"\0")[at : at + 4], "little") for at in range(0, 48, 4)]
    for index in range(3):
        eax, ebx, ecx, edx = parts[4 * index : 4 * index + 4]
        words[0x80000002 + index, 0] = (eax, ebx, ecx, edx)
    assert detect(Recording(leaves={0: words}, xcr0=0xE7)).brand == brand


def test_clearing_any_bit_never_adds_a_feature() -> None:
    recording = machine(INTEL, 6, 143, features_of("sapphirerapids"))
    before = detect(recording).features
    for key, words in recording.leaves[0].items():
        for register in range(4):
            if (*key, register) == (1, 0, 0):  # the model number is no set of bits
                continue
            for bit in range(32):
                if words[register] >> bit & 1:
                    changed = list(recording.leaves[0][key])
                    changed[register] &= ~(1 << bit)
                    cut = {0: {**recording.leaves[0], key: tuple(changed)}}
                    assert detect(recording.replace(leaves=cut)).features <= before


def test_the_kernels_flags_are_read_where_cpuid_is_refused() -> None:
    flags = "fpu cx8 cmov mmx fxsr sse sse2 lm pni cx16 lahf_lm ssse3 sse4_1 sse4_2 popcnt avx xsave avx2 nopl"
    text = f"vendor_id : GenuineIntel\ncpu family : 6\nmodel : 60\nmodel name : A CPU\nstepping : 3\nflags : {flags}\n"
    detected = detect(Recording(files={"/proc/cpuinfo": text.encode()}))
    assert (detected.source, detected.cpu) == ("/proc/cpuinfo", "haswell")
    assert {"sse3", "avx2", "crc32", "64bit"} <= detected.features.names
    assert detected.withheld["fma"].evidence == "/proc/cpuinfo has no flag fma"


def test_a_machine_that_answers_nothing_is_an_error() -> None:
    silent = Machine()
    silent.arch = "x86_64"
    with pytest.raises(cpufeat.CpufeatError, match="nothing can be read"):
        detect(silent)


def test_an_architecture_without_tables_is_an_error() -> None:
    with pytest.raises(cpufeat.UnknownNameError, match="architecture 'sparc64'"):
        detect(Recording(arch="sparc64"))


def test_a_level_is_of_the_code_and_not_of_the_cpu() -> None:
    """The psABI's levels are of 64-bit code: a 32-bit process on a Haswell has the level of its own kind."""
    detected = detect(machine(INTEL, 6, 60, features_of("haswell")).replace(arch="i686"))
    assert (detected.cpu, detected.level, cpufeat.resolve("native", host=detected).target.level) == (
        "haswell",
        "i686",
        "i686",
    )
    assert features_of("haswell") <= detected.features.names


@pytest.mark.parametrize(
    ("arch", "names"),
    [("i686", ["i686"]), ("riscv32", ["rv32gc"]), ("riscv64", ["rv64gc", "rva20u64", "rva22u64", "rva23u64"])],
)
def test_the_levels_of_one_architecture_are_no_other_ones(arch: str, names: list[str]) -> None:
    assert (list(levels(arch)), baseline(arch)) == (names, names[0])


def test_levels_are_the_psabis() -> None:
    """x86-64 psABI, table 3.1, in our names: what each level's row there lists beyond the one before."""
    v2 = {"cx16", "sahf", "popcnt", "sse3", "sse4_1", "sse4_2", "ssse3"}
    v3 = {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}
    v4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    assert v2 <= level_features("x86_64", "x86-64-v2").names
    assert v2 | v3 <= level_features("x86_64", "x86-64-v3").names
    assert v2 | v3 | v4 <= level_features("x86_64", "x86-64-v4").names
    for level, needed in (("x86-64", v2), ("x86-64-v2", v3), ("x86-64-v3", v4)):
        full = level_features("x86_64", level) | FeatureSet("x86_64", needed)
        assert level_of(full.without([min(needed)])) == level


@needs_corpora
def test_long_nops_of_32_bit_cpus_are_those_that_llvm_knows() -> None:
    """Those of AMD's K7 are left out: nothing but AMD's name tells it from VIA's, which lack them."""
    machines = [dumps.load(str(path))[1] for path in sorted(CORPUS.glob("*/*.cpuid"))]
    hosts = [detected for detected in map(detect, machines) if detected.arch == "i686"]
    theirs = {detected.cpu: "nopl" in features_of(detected.cpu) for detected in hosts}
    assert {detected.cpu for detected in hosts if "nopl" in detected.features} == {
        cpu for cpu, has in theirs.items() if has and not cpu.startswith(("athlon", "k8"))
    }
    assert {"pentium4", "pentium3", "c3-2", "athlon", "k6-2"} <= theirs.keys()
    assert not theirs["c3-2"]
