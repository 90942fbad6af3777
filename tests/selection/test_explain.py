"""The account of a machine: what it says, that it says it in 80 columns, and that its text and its JSON agree."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

import pytest
from helpers.corpora import needs_corpora
from helpers.llvm_data import features_of
from helpers.machines import leaves, machine
from helpers.paths import CORPUS, PROJECT
from hypothesis import given
from hypothesis import strategies as st

import cpufeat
from cpufeat import llvm_tables
from cpufeat.cli.explain_page import page
from cpufeat.cli.layout import lay_out
from cpufeat.cli.streams import printable
from cpufeat.decisions import NOT_REPORTED, UNSEEN
from cpufeat.detection.crosscheck import disagreements
from cpufeat.detection.detect import detect
from cpufeat.detection.dumps import load
from cpufeat.detection.recorder import record
from cpufeat.detection.recording import Recording
from cpufeat.detection.unreported import evidence
from cpufeat.errors import CpufeatError
from cpufeat.explanation import Explanation, to_json, verdict
from cpufeat.features import FeatureSet, table

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine

pytestmark = pytest.mark.filterwarnings("ignore::cpufeat.errors.CpufeatWarning")

RECORDED = sorted((PROJECT / "data" / "machines").glob("*.json"))
INTEL = "GenuineIntel"
WIDTH = 80


def explained(machine: Machine, request: str | None, origin: str = "") -> Explanation:
    return cpufeat.explain(request, machine=machine, origin=origin)


def hybrid() -> Recording:
    """Alder Lake with AVX-512 left on in its performance cores."""
    big = leaves(INTEL, 6, 151, 2, features_of("alderlake") | {"avx512f"}, core_type=0x40)
    small = leaves(INTEL, 6, 151, 2, features_of("gracemont"), core_type=0x20)
    kinds = {"/sys/devices/cpu_core/cpus": b"0-15\n", "/sys/devices/cpu_atom/cpus": b"16-23\n"}
    return Recording(leaves={0: big, 16: small}, xcr0=0xE7, online=tuple(range(24)), files=kinds)


SKYLAKE_SP, SAPPHIRE_RAPIDS = features_of("skylake-avx512"), features_of("sapphirerapids")
LSCPU = b"""Architecture: x86_64
Vendor ID: GenuineIntel
CPU family: 6
Model: 60
Flags: fpu cx8 cmov mmx fxsr sse sse2 nopl lm
Model name: """
MADE_UP: dict[str, tuple[Machine, str | None]] = {
    "hybrid": (hybrid(), None),
    "contradicted": (machine(INTEL, 6, 167, SAPPHIRE_RAPIDS), None),
    "unknown model": (machine(INTEL, 6, 250, SAPPHIRE_RAPIDS), None),
    "AMX for permission": (machine(INTEL, 6, 143, SAPPHIRE_RAPIDS), None),
    "AMX granted": (machine(INTEL, 6, 143, SAPPHIRE_RAPIDS), "native,+amx_int8,+prefer_256_bit"),
    "no AVX-512 state": (machine(INTEL, 6, 85, SKYLAKE_SP, stepping=4, xcr0=7), None),
    "no AVX state": (machine(INTEL, 6, 85, SKYLAKE_SP, stepping=4, xcr0=3), None),
    "dropped": (machine(INTEL, 6, 60, features_of("haswell")), "skylake-avx512,+amx_int8,-fma"),
    "granted": (machine(INTEL, 6, 60, features_of("haswell")), "x86-64-v2"),
    "trusted": (machine(INTEL, 6, 60, features_of("haswell")), None),
    "lscpu": (Recording(files={"lscpu": LSCPU + b"Haswell"}), None),
    "a level for a name": (machine("CentaurHauls", 7, 59, features_of("x86-64-v3")), None),
}
ACCOUNTS = [pytest.param(*case, id=name) for name, case in MADE_UP.items()] + [
    pytest.param(load(str(path))[1], request, id=f"{path.stem} {request or ''}")
    for path in RECORDED
    for request in (None, "skylake-avx512,+amx_int8")
]


def text_of(account: Explanation, width: int = WIDTH) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lay_out(page(account), width))


@pytest.mark.parametrize(("recorded", "request_"), ACCOUNTS)
def test_a_page_has_80_columns_and_says_what_the_json_says(recorded: Machine, request_: str | None) -> None:
    account = explained(recorded, request_, origin="somewhere/" * 20)
    text, facts = text_of(account), json.loads(json.dumps(to_json(account)))
    assert max(map(len, text.splitlines())) <= WIDTH
    words = set(text.replace(",", " ").split())
    dropped = {one["subject"] for one in facts["decisions"] if one["kind"] == "dropped"}
    trusting = facts["trusting_the_name"]
    about_the_name = {*trusting["faults"], *trusting["unseen"], *trusting["unused"]}
    assert {*facts["features"], *facts["withheld"], *dropped, *about_the_name} <= words
    assert " ".join(facts["verdict"].split()) in " ".join(text.split())
    assert facts["target"]["cpu"] in words


@pytest.mark.parametrize(
    ("name", "style", "says"),
    [
        ("hybrid", "good", "all that the name implies"),
        ("contradicted", "bad", "says rocketlake: compile for sapphirerapids"),
        ("unknown model", "warn", "Its model is not known"),
        ("AMX for permission", "warn", "less amx_tile, amx_int8 and 1 more: by name alone, code may die"),
        ("AMX granted", "warn", "has to ask the system for a permission"),
        ("no AVX-512 state", "bad", "less avx512f, avx512cd and 4 more: by name alone, code dies"),
        ("dropped", "warn", "granted, less amx_tile, xsavec and 9 more"),
        ("granted", "good", "x86-64-v2: runs here, as asked."),
        ("trusted", "good", "Compile for haswell: all that the name implies runs here."),
        ("a level for a name", "good", "Compile for x86-64-v3"),
    ],
)
def test_the_verdict_is_one_sentence_on_top(name: str, style: str, says: str) -> None:
    account = explained(*MADE_UP[name])
    sentence, found = verdict(account)
    assert found == style
    assert says in sentence
    assert " ".join(text_of(account).split("\n\n")[0].split("\n")[1:]) == sentence


def test_a_masked_haswell_faults_at_what_its_name_implies() -> None:
    account = explained(load(str(PROJECT / "data" / "machines" / "qemu-haswell-without-avx.json"))[1], None)
    assert {"avx", "avx2", "fma"} <= account.faults.keys()
    assert account.host.features.isa.names.isdisjoint(account.faults)
    assert "aes" in account.unused, "LLVM's haswell lacks AES, which this one has"
    assert verdict(account)[1] == "bad"


def test_the_verdict_distrusts_the_model_number_not_the_features() -> None:
    account = explained(*MADE_UP["contradicted"])
    assert (account.host.named, account.host.cpu) == ("rocketlake", "sapphirerapids")
    assert "avxvnni" in account.unused


def test_a_feature_that_the_kernel_never_shows_is_no_fault() -> None:
    """Linux has no flag for PTWRITE, older ones none for AVX-IFMA: from its account alone nobody knows."""
    flags = " ".join(flag for name in features_of("arrowlake") for flag in table("x86_64")[name].kernel_flags)
    told = f"processor: 0\nvendor_id: GenuineIntel\ncpu family: 6\nmodel: 197\nflags: {flags}\n"
    account = explained(Recording(files={"/proc/cpuinfo": told.encode()}), None)
    assert {"avxifma", "ptwrite"} <= account.unseen.keys()
    assert not account.faults
    assert verdict(account)[1] != "bad"
    assert "/proc/cpuinfo never shows it" in " ".join(text_of(account).split())


def test_what_the_user_disabled_is_withheld_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPUFEAT_DISABLE", "avx2")
    account = explained(*MADE_UP["trusted"])
    assert not account.faults
    assert to_json(account)["withheld"]["avx2"] == {"reason": "disabled by the user", "evidence": "CPUFEAT_DISABLE"}


def test_the_picture_in_the_docs_is_up_to_date() -> None:
    svg = (PROJECT / "docs" / "explain.svg").read_text(encoding="utf-8")
    drawn = set(html.unescape(re.sub(r"<[^>]*>", " ", svg)).split())
    account = explained(load(str(PROJECT / "data" / "machines" / "qemu-haswell-without-avx.json"))[1], None)
    assert set(text_of(account).split()) <= drawn, "python tools/explain_picture.py draws it anew"


@given(st.text(st.characters(exclude_characters="\n\r"), max_size=300))
def test_any_brand_fits_and_carries_no_control_characters(brand: str) -> None:
    account = explained(Recording(files={"lscpu": LSCPU + brand.encode("utf-8", "surrogatepass")}), None)
    lines = [printable("".join(text for text, _ in line)) for line in lay_out(page(account), WIDTH)]
    assert max(map(len, lines)) <= WIDTH
    assert all(line.isprintable() for line in lines)


@needs_corpora
def test_pages_of_collected_machines_fit() -> None:
    names = [line.split("\t")[0] for line in (CORPUS / "truth.tsv").read_text().splitlines()]
    refused = []
    for name in names:
        try:
            text = text_of(explained(load(str(CORPUS / name))[1], None, origin=name))
        except CpufeatError as error:
            refused.append(str(error))
            continue
        assert max(map(len, text.splitlines())) <= WIDTH, name
        assert "None" not in text.split(), name
    assert len(names) > 2000
    assert all("mips" in error for error in refused), "of all others there are tables"


IN_THEIR_WORDS = {
    "pytorch-cpuinfo/pixel-2-xl.log.cpuinfo": "implementer 0x51, part 0x800, r10p1",
    "ansible/armv6-rev7-1cpu-cpuinfo.cpuinfo": "implementer 0x41, part 0xb76, r0p7",
    "archspec-json/linux-asahi-m1.cpuinfo": "implementer 0x61, part 0x022, r1p1",
    "archspec-json/linux-spacemit-x60.cpuinfo": "vendor 0x710, marchid 0x8000000058000001, mimpid 0x1000000049772200",
    "archspec-json/linux-sifive-u74mc.cpuinfo": "vendor sifive",
    "archspec-json/linux-centos7-power8le.cpuinfo": "IBM PVR 004c 0100",
    "ansible/s390x-z14-64cpu-cpuinfo.cpuinfo": "IBM/S390 machine type 3906",
    "procfs/cpuinfoLoong64.cpuinfo.cpuinfo": "Loongson-3A5000 revision 0x10",
    "archspec-json/linux-rhel7-haswell.cpuinfo": "GenuineIntel family 6 model 63 stepping 2",
}


@needs_corpora
@pytest.mark.parametrize(("name", "words"), IN_THEIR_WORDS.items(), ids=str)
def test_cores_are_described_in_the_words_of_their_architecture(name: str, words: str) -> None:
    account = explained(load(str(CORPUS / name))[1], None)
    assert words in " ".join(text_of(account).split())
    assert FeatureSet(account.host.arch, account.host.withheld).isa.names == account.host.withheld.keys()


def core(implementer: str, part: str, flags: str) -> Recording:
    told = f"processor: 0\nFeatures: {flags}\nCPU implementer: {implementer}\nCPU part: {part}\n"
    return Recording(arch="aarch64", files={"/proc/cpuinfo": told.encode()})


def test_reached_levels_are_shown_and_what_the_next_one_lacks() -> None:
    """A Cortex-A75 has the dot products of Armv8.4, and not all of Armv8.3."""
    flags = "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
    lines = [line.split() for line in text_of(explained(core("0x41", "0xd0a", flags), None)).splitlines()]
    first = {words[0]: words[1:] for words in lines if words}
    assert [name for name in first if name.startswith("armv")] == ["armv8-a", "armv8.1-a", "armv8.2-a", "armv8.3-a"]
    assert ["lacks", "jsconv", "complxnum", "pauth"] in lines
    assert {"fullfp16", "dotprod"} <= {*first["floating"]}
    assert first["cryptography"] == ["aes", "sha2", "crypto"]


def test_unseen_features_are_no_faults_and_combined_features_are_not_unused() -> None:
    """LLVM's apple-m1 has PREDRES, of which Linux never tells, and no ``crypto``, which is its AES and SHA-2."""
    named = llvm_tables.cpu_features("aarch64", "apple-m1")
    assert named is not None
    known = table("aarch64")
    flags = " ".join(word for name in named if known[name].bit for word in known[name].kernel_flags)
    account = explained(core("0x61", "0x022", flags), None)
    assert (list(account.faults), list(account.unseen), list(account.unused)) == ([], ["predres"], [])
    assert verdict(account) == ("Compile for apple-m1, less predres, which /proc/cpuinfo does not show.", "good")


def test_single_bits_of_a_word_are_grouped_and_pairs_of_bits_are_not() -> None:
    """A Neoverse V1 without what AT_HWCAP bits 17, 21, 22 and 24 stand for, but with SSBS, which has 28."""
    text = text_of(explained(core("0x41", "0xd40", "fp").replace(auxv={16: 0x10119FFF, 26: 0}), None))
    assert re.search(r"AT_HWCAP\[[0-9,]*22[0-9,]*\]", text)
    assert re.search(r" sha3 +AT_HWCAP bit 17 and AT_HWCAP bit 21 is 0", text)


@pytest.mark.parametrize(
    ("arch", "source", "name", "says"),
    [
        ("x86_64", "CPUID", "avx2", "CPUID 7.0:EBX[5] is 0"),
        ("x86_64", "/proc/cpuinfo", "ptwrite", ""),
        ("aarch64", "AT_HWCAP", "bti", "AT_HWCAP2 bit 17 is 0"),
        ("aarch64", "/proc/cpuinfo", "dotprod", "/proc/cpuinfo has no flag asimddp"),
        ("aarch64", "sysctl", "dotprod", "sysctl FEAT_DotProd is 0"),
        ("aarch64", "IsProcessorFeaturePresent", "sha3", "IsProcessorFeaturePresent 64, 65 is 0"),
        ("x86_64", "sysctl", "bmi", "sysctl has no flag BMI1"),
        ("aarch64", "sysctl", "rand", ""),
        ("arm", "AT_HWCAP", "mp", ""),
        ("riscv64", "riscv_hwprobe", "zba", "riscv_hwprobe key 4 bit 3 is 0"),
        ("riscv64", "riscv_hwprobe", "xtheadba", "riscv_hwprobe has no flag xtheadba"),
        ("ppc64le", "AT_HWCAP", "vsx", "AT_HWCAP bit 7 is 0"),
        ("ppc64le", "/proc/cpuinfo", "vsx", ""),
        ("s390x", "/proc/cpuinfo", "distinct_ops", "/proc/cpuinfo has no facility 45"),
        ("loongarch64", "AT_HWCAP", "frecipe", ""),
    ],
)
def test_an_absence_is_evidence_only_where_the_source_could_tell(arch: str, source: str, name: str, says: str) -> None:
    assert evidence(arch, source, name) == says


MAC = {"hw.optional.arm.FEAT_DotProd": 1, "hw.optional.arm.FEAT_BF16": 0}
HART = "processor: 0\nisa: rv64imac_zba\n"
Z = "features: zarch stfle te\nprocessor 0: machine = 8561\n"


@pytest.mark.parametrize(
    ("recorded", "denied", "untold"),
    [
        (Recording(arch="aarch64", auxv={16: 0b111 | 1 << 10, 26: 0}), "crc", "rdm"),
        (Recording(arch="aarch64", auxv={16: 0b111 | 1 << 10, 26: 1 << 3}), "rdm", "mte"),
        (Recording(arch="aarch64", auxv={16: 0b111, 26: 1 << 62}), "mte", "cmpbr"),
        (core("0x41", "0xd0a", "fp asimd asimdrdm"), "aes", "dotprod"),
        (Recording(arch="aarch64", system="darwin", sysctls={**MAC}), "bf16", "i8mm"),
        (Recording(arch="aarch64", system="windows", processor_features=(18, 19, 43, 45)), "jsconv", "sve"),
        (Recording(arch="riscv64", files={"/proc/cpuinfo": HART.encode()}), "d", "zbb"),
        (Recording(arch="riscv64", files={"/proc/cpuinfo": HART.encode()}, probes={3: 1, 4: 3}), "zbb", "xtheadba"),
        (Recording(arch="s390x", files={"/proc/cpuinfo": Z.encode()}), "vector", "distinct_ops"),
    ],
)
def test_a_system_older_than_a_feature_cannot_rule_it_out(recorded: Recording, denied: str, untold: str) -> None:
    """Linux and Windows number what they know as they learn of it; macOS has a name, Linux a word for each."""
    found = detect(recorded)
    assert not {denied, untold} & found.features.names
    assert found.why_missing(denied).reason == NOT_REPORTED
    assert (found.why_missing(untold).reason, found.why_missing(untold).evidence) == (
        UNSEEN,
        f"{found.source} may be too old to show it",
    )


def test_a_state_that_was_not_read_is_unseen() -> None:
    """Whether Linux opens CBO.CLEAN to programs, riscv_hwprobe says, and no file."""
    isa = b"processor: 0\nisa: rv64imafdc_zicbom\n"
    of_a_file = detect(Recording(arch="riscv64", files={"/proc/cpuinfo": isa})).withheld["zicbom"]
    asked = detect(Recording(arch="riscv64", files={"/proc/cpuinfo": isa}, probes={3: 1, 4: 3})).withheld["zicbom"]
    assert str(of_a_file) == "cannot be seen (needs riscv_hwprobe key 4 bit 55)"
    assert str(asked) == "OS state not enabled (riscv_hwprobe key 4 bit 55 not set)"


def test_a_kernel_that_hides_a_feature_is_a_disagreement() -> None:
    """Unless it tells in full what it kept of CPUID: then what it cleared is withheld."""
    flags = b"processor: 0\nvendor_id: GenuineIntel\ncpu family: 6\nmodel: 60\nflags: "
    flags += " ".join(features_of("haswell") - {"movbe"}).encode()
    recorded = machine(INTEL, 6, 60, features_of("haswell")).replace(files={"/proc/cpuinfo": flags})
    found = disagreements(recorded, detect(recorded))
    assert ("movbe", "CPUID alone has it") in {(one.subject, one.reason) for one in found}


def test_a_feature_that_the_kernel_alone_reports_is_a_disagreement() -> None:
    flags = b"processor: 0\nvendor_id: GenuineIntel\ncpu family: 6\nmodel: 60\nflags: avx512f "
    flags += " ".join(features_of("haswell")).encode()
    recorded = machine(INTEL, 6, 60, features_of("haswell")).replace(files={"/proc/cpuinfo": flags})
    found = disagreements(recorded, detect(recorded))
    assert {one.subject for one in found if one.reason == "the kernel alone has it"} == {"avx512f", "evex512"}


def test_a_kernel_of_another_cpu_is_one_disagreement() -> None:
    recorded = load(str(PROJECT / "data" / "machines" / "qemu-nehalem.json"))[1]
    (found,) = disagreements(recorded, detect(recorded))
    assert found.subject == "/proc/cpuinfo"
    assert "another CPU (AuthenticAMD family 26 model 2)" in found.reason


@pytest.mark.parametrize(("recorded", "request_"), ACCOUNTS)
def test_a_recording_of_a_recording_is_the_same_host(recorded: Machine, request_: str | None) -> None:
    again = Recording.from_json(record(recorded).to_json())
    assert detect(again) == detect(recorded)
    assert to_json(explained(again, request_)) == to_json(explained(recorded, request_))
