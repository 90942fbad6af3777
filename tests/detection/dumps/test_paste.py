"""What printing, copying and mailing do to a text changes nothing, or is said, and never adds a feature."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from helpers import pasting
from helpers.dumps import CPUID_R, CPUINFO, LSCPU, LSCPU_JSON

from cpufeat import tables
from cpufeat.cli import main
from cpufeat.detection import dumps
from cpufeat.detection.detect import detect
from cpufeat.detection.dumps import paste
from cpufeat.errors import CpufeatError, DumpError
from cpufeat.features import table

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.detection.host import Host

FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx "
    "rdtscp lm constant_tsc rep_good nopl cpuid pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 x2apic movbe popcnt aes "
    "xsave avx f16c rdrand lahf_lm abm sse4a 3dnowprefetch bmi1 avx2 bmi2 avx512f avx512dq rdseed adx avx512bw "
    "avx512vl xsaveopt xsavec avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg avx512_vpopcntdq rdpid"
)
ZEN5 = f"processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nflags\t\t: {FLAGS}\nbugs: l1tf\n"
ZEN5_LSCPU = (
    f"Architecture: x86_64\nVendor ID: AuthenticAMD\nCPU family: 26\nModel: 2\nFlags: {FLAGS}\nNUMA node(s): 1\n"
)
NEOVERSE = (
    "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt "
    "fcma lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 "
    "sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svebf16 i8mm bf16 dgh rng bti\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd4f\nCPU revision\t: 1\n"
)
TEXTS = [ZEN5, ZEN5_LSCPU, NEOVERSE]


def host(text: str | bytes) -> Host:
    return detect(dumps.parse(text.encode() if isinstance(text, str) else text, "dump")[1])


def at_column(text: str, width: int, indent: str = "", *, strips: bool = False) -> str:
    return "".join(
        f"{line}\n" for line in pasting.at_column(text.expandtabs().splitlines(), width, indent, strips=strips)
    )


def at_words(text: str, width: int, indent: str = "") -> str:
    return "".join(f"{line}\n" for line in pasting.at_words(text.expandtabs().splitlines(), width, indent))


# --- what changes nothing


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\x1b[32m", "\x1b[0m"),
        ("\x1b[01;31m\x1b[K", "\x1b[m\x1b[K"),
        ("\x1b]8;;file:///proc/cpuinfo\x1b\\", "\x1b]8;;\x07"),
        ("> ", ""),
        (">> ", ""),
        ("> > ", "\r"),
        ("    ", ""),
        ("", "\n"),
        ("", " "),
    ],
)
@pytest.mark.parametrize("text", [CPUID_R, CPUINFO, LSCPU, *TEXTS])
def test_colours_quoting_and_empty_lines_change_nothing(text: str, before: str, after: str) -> None:
    name, machine = dumps.parse(text.encode(), "dump")
    odd = "".join(f"{before}{line}{after}\n" for line in text.splitlines())
    other_name, other = dumps.parse(odd.encode(), "dump")
    assert (other_name, other.arch, other.leaves, other.remarks) == (name, machine.arch, machine.leaves, ())
    assert detect(other) == detect(machine)


def test_double_spaced_processors_are_still_apart() -> None:
    two = "processor: 0\nflags: fpu lm avx\n\nprocessor: 1\nflags: fpu lm\n"
    for text in (two, two.replace("\n", "\n\n"), two.replace("\n\n", "\n")):
        assert sum(core.count for core in host(text).cores) == 2
        assert "avx" not in host(text).features
    assert "avx" not in host("flags: fpu lm avx\nflags: fpu lm\n").features


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("indent", ["", "    ", "\t"])
@pytest.mark.parametrize("width", [60, 72, 79, 80, 100, 132])
def test_a_list_that_was_broken_between_words_is_joined(text: str, width: int, indent: str) -> None:
    wrapped = at_words(text, width, indent)
    assert wrapped.count("\n") > text.count("\n")
    assert (host(wrapped).features, host(wrapped).decisions) == (host(text).features, host(text).decisions)


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize("indent", ["", " " * 17])
@pytest.mark.parametrize("text", [ZEN5, ZEN5_LSCPU])
def test_a_list_that_was_broken_at_a_column_is_joined_on_x86(text: str, indent: str, *, strips: bool) -> None:
    for width in range(60, 160):
        broken = at_column(text, width, indent, strips=strips)
        assert host(broken).features == host(text).features, width
        assert not host(broken).decisions, width


@pytest.mark.parametrize("strips", [False, True])
def test_what_may_be_one_word_or_two_does_not_count_and_is_said(*, strips: bool) -> None:
    """On Arm ``sve`` and ``bf16`` make up ``svebf16``, and all three are words of the kernel."""
    said = 0
    for width in range(60, 200):
        broken = host(at_column(NEOVERSE, width, strips=strips))
        lost = host(NEOVERSE).features.names - broken.features.names
        assert broken.features.names <= host(NEOVERSE).features.names, width
        assert bool(lost) <= bool(broken.decisions), width
        said += bool(broken.decisions)
    assert 0 < said < 20


def test_no_two_words_of_x86_make_up_a_third() -> None:
    words = paste._words("x86_64")
    assert {"fpu", "avx512f", "x2apic", "lahf_lm"} <= words
    assert [
        (whole, whole[:at]) for whole in words for at in range(1, len(whole)) if {whole[:at], whole[at:]} <= words
    ] == []


def test_the_words_of_the_kernel_are_those_of_the_features_and_more() -> None:
    numbers = paste._numbers("x86_64")
    features = {flag for feature in table("x86_64").values() if feature.bit for flag in feature.kernel_flags}
    assert len(features & numbers.keys()) > 80
    assert len(numbers) > 300
    assert numbers["sse"] < numbers["sse2"] < numbers["lm"] < numbers["pni"] < numbers["lahf_lm"] < numbers["avx512f"]


def test_a_sentence_after_a_list_is_no_part_of_it() -> None:
    text = "flags : fpu vme de pse tsc msr pae mce cx8 apic sep mtrr lm\n{}\n"
    assert "avx512f" in host(text.format("sse2 avx512f")).evidence
    for sentence in ("Does it have avx512f", "it has avx512f.", "> avx512f?", "has: avx512f", "\navx512f", "(avx512f)"):
        assert "avx512f" not in host(text.format(sentence)).evidence, sentence
    assert "avx512f" not in host("flags : fpu lm\navx512f\n").evidence
    assert "avx" not in host("flags : fpu lm avx\n512f\n").evidence


# --- what was cut off


@pytest.mark.parametrize("text", TEXTS)
def test_half_a_word_at_the_end_of_a_text_is_no_feature(text: str) -> None:
    whole = host(text).features.names
    for end in range(text.index("pae") if "pae" in text else text.index("asimd"), len(text)):
        try:
            cut = host(text[:end])
        except CpufeatError:
            continue
        assert cut.features.names <= whole


@pytest.mark.parametrize("text", [ZEN5 + "address sizes\t: 48 bits physical, 48 bits virtual\n", ZEN5_LSCPU])
def test_a_list_that_was_cut_at_a_column_is_said(text: str) -> None:
    for width in range(70, 240):
        cut = host("".join(f"{line[:width]}\n" for line in text.expandtabs().splitlines()))
        assert cut.features.names <= host(text).features.names
        assert [decision.kind for decision in cut.decisions].count("source") == 1, width
    assert "source" not in {decision.kind for decision in host(text).decisions}


def test_avx_of_a_cut_avx512f_does_not_count_and_is_said() -> None:
    cut = host("flags: fpu lm sse sse2 fma")
    assert "fma" not in cut.features
    assert [str(decision) for decision in cut.decisions if decision.kind == "source"] == [
        "flags: the list ends at 'fma', which may be half a word and does not count"
    ]
    assert "sse2" in host("flags: fpu lm sse sse2\n").features
    whole = host("flags: fpu lm sse lahf_lm")
    assert "sahf" in whole.features
    assert "source" not in {decision.kind for decision in whole.decisions}


@pytest.mark.parametrize("rest", ["\nbugs: spectre\n", "\n", "\r\nmodel: 1\r\n"])
def test_half_a_word_before_a_line_end_is_told_by_the_order_of_the_kernel(rest: str) -> None:
    """``cut -c-80`` leaves whole lines; Linux prints ``avx`` before ``lahf_lm``, and ``avx512f`` after ``bmi2``."""
    for words, half in (
        ("rdrand lahf_lm bmi1 bmi2", "avx"),
        ("xsave avx lahf_lm", "fma"),
        ("avx2 rdseed", "xsave"),
        ("lm", "avx51"),
    ):
        cut = host(f"flags: fpu fxsr sse sse2 lm {words} {half}{rest}")
        assert half not in cut.evidence
        assert f"the list stops in the middle of a word, at {half!r}" in str(cut.decisions[0])
    for words in ("fxsr sse sse2 pni xsave avx", "avx512f rdrand avx", "avx2 pni avx"):
        assert "avx" in host(f"flags: fpu lm {words}{rest}").evidence


@pytest.mark.parametrize("mark", ["...", "\u2026", " ...", " \u2026", "[...]", ">", "\\"])
def test_a_list_with_a_mark_where_it_was_cut_off_is_said(mark: str) -> None:
    cut = host(f"processor: 0\nflags: fpu lm fxsr sse sse2 pni avx{mark}\nbugs: spectre\n")
    assert ("avx" in cut.evidence) == mark.startswith(" ")
    assert "sse3" in cut.features
    assert "the list was cut off" in str(next(decision for decision in cut.decisions if decision.kind == "source"))


# --- several machines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CPUINFO + "\n" + CPUINFO.replace("avx2", "avx"), "processor: 0 occurs twice"),
        (LSCPU + LSCPU.replace("avx2", "avx"), "Architecture: x86_64 occurs twice"),
    ],
)
def test_several_machines_in_a_file_are_said_and_what_all_have_counts(text: str, said: str, tmp_path: Path) -> None:
    both = host(text)
    assert not {"avx", "avx2"} & both.features.names
    assert "64bit" in both.features
    (decision,) = (decision for decision in both.decisions if decision.kind == "source")
    assert str(decision).startswith(said)


def test_explain_and_identify_show_what_was_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.cpuinfo"
    path.write_text(ZEN5 + "\n" + ZEN5)
    assert main(["explain", "--machine", str(path)]) == 0, capsys.readouterr().err
    assert "0 occurs twice, as in dumps of several machines" in " ".join(capsys.readouterr().out.split())
    assert main(["identify", str(path)]) == 0
    assert "; processor: 0 occurs twice, as in dumps of several machines" in capsys.readouterr().out
    assert main(["identify", "--json", str(path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"kind": "source", "subject": "processor"}.items() <= answer["decisions"][0].items()


def test_machines_of_two_architectures_are_refused() -> None:
    with pytest.raises(DumpError, match=r"machines of several architectures \(x86_64, aarch64\); give one"):
        host(LSCPU + "Architecture: aarch64\nFlags: fp asimd\n")


# --- lscpu in other languages


LANGUAGES = sorted({name for _, _, names in tables.rows("lscpu_labels.tsv") for name in names.split()})


@pytest.mark.parametrize("language", LANGUAGES)
def test_lscpu_is_read_in_every_language(language: str) -> None:
    into = {label: word for word, label, names in tables.rows("lscpu_labels.tsv") if language in names.split()}
    assert into
    colon = "\uff1a" if language.startswith("zh") else "\u00a0:" if language == "fr" else ":"
    translated = ""
    for line in LSCPU.splitlines():
        label, _, value = line.partition(":")
        word = into.get(label.strip(), label.strip())
        translated += (
            f"{label[: len(label) - len(label.lstrip())]}{word}{colon if word != label.strip() else ':'}{value}\n"
        )
    assert translated != LSCPU
    for written in (translated.encode(), translated.encode("utf-16")):
        assert host(written) == host(LSCPU)
    labelled = LSCPU_JSON
    for label, word in into.items():
        labelled = labelled.replace(f'"{label}:"', f'"{word}{colon}"')
    assert host(labelled) == host(LSCPU_JSON)


def test_every_label_that_is_read_is_translated_to_one_that_lscpu_has() -> None:
    rows = tables.rows("lscpu_labels.tsv")
    assert len({word for word, _, _ in rows}) == len(rows)
    assert len(LANGUAGES) > 20
    labels = {label for _, label, _ in rows}
    assert {"Architecture", "Vendor ID", "Model name", "CPU family", "Model", "Stepping", "Flags", "ISA"} <= labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Architecture: x86_64\nCPU(s): 4\n\u65d7: fpu lm\n",
            "no label of lscpu is Flags: cut, filtered, or in a language",
        ),
        ("Model name: AMD EPYC\nCPU family: 25\n", "no label of lscpu is Flags"),
        ("Architecture: x86_64\nFlags:\n", "no label of lscpu is Flags"),
        ('{"lscpu": [{"field": "Architecture:", "data": "x86_64"}]}', "no label of lscpu is Flags"),
        ("processor: 0\nmodel name: AMD EPYC\n", "no line lists features, such as flags: cut or filtered?"),
        ("model name: AMD EPYC\nmodel name: AMD EPYC\n", "no line lists features"),
        ("processor: 0\nCPU implementer: 0x41\nCPU architecture: 8\nCPU part: 0xd0c\n", "no line lists features"),
        ("processor: 0\nflags:\n", "no line lists features"),
        ("Flags: yes no\nArchitecture: aarch64\n", "no feature can be read of this aarch64 machine: nothing in lscpu"),
        ("flags : some,words\n", "no feature can be read of this i686 machine: nothing in /proc/cpuinfo names one"),
    ],
)
def test_a_machine_of_which_no_feature_is_read_is_an_error(text: str, message: str) -> None:
    with pytest.raises(CpufeatError) as caught:
        host(text)
    assert message in str(caught.value)
