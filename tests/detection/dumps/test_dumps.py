"""Dumps of machines, as each program writes them: each is a machine, or an error that says why."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from helpers.corpora import needs_corpora
from helpers.dumps import CPUID_R, CPUINFO, EXAMPLES, INSTLATX64, LSCPU, LSCPU_JSON
from helpers.paths import CORPUS, PROJECT
from hypothesis import example, given
from hypothesis import strategies as st

from cpufeat.cli import main
from cpufeat.detection import dumps
from cpufeat.detection.dumps.text import MAX_LINES
from cpufeat.detection.machine import LARGEST_FILE
from cpufeat.detection.probe import lscpu, proc_cpuinfo, x86_flags
from cpufeat.detection.probe.x86_flags import X86Processor
from cpufeat.detection.recording import Recording
from cpufeat.errors import DumpError

RECORDING = Recording(leaves={0: {(7, 1): (1, 2, 3, 4)}}, xcr0=7, online=(0,), files={"a": b"b"}).to_json()
EVERY_EXAMPLE = [text for texts in EXAMPLES.values() for text in texts]
EPYC = X86Processor("AuthenticAMD", 23, 1, 2, "AMD EPYC 7451 24-Core Processor", frozenset(["fpu", "lm", "avx2"]))


def parse(text: str) -> tuple[str, Recording]:
    return dumps.parse(text.encode(), "dump")


# --- the table of formats


def test_every_module_of_a_format_is_in_the_table() -> None:
    modules = {path.stem for path in Path(dumps.__file__).parent.glob("*.py")} - {
        "__init__",
        "architecture",
        "foreign",
        "labels",
        "paste",
        "text",
    }
    read = {format_.read.__module__.rpartition(".")[2] for format_ in dumps.FORMATS} - {"recording"}
    assert modules == read, "add a row to FORMATS in cpufeat/detection/dumps/__init__.py"


def test_every_format_has_an_example() -> None:
    names = [format_.name for format_ in dumps.FORMATS]
    assert names == list(EXAMPLES), "add an example to EXAMPLES in tests/helpers/dumps.py"


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in EXAMPLES.items() for text in texts])
def test_an_example_of_a_format_is_recognized_as_such(name: str, text: str) -> None:
    assert parse(text)[0] == name


def test_identify_lists_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["identify", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert [format_.title for format_ in dumps.FORMATS if format_.title not in printed] == []
    assert "cpufeat identify --help" in (PROJECT / "README.md").read_text()


# --- what each holds


def test_cpuid_r_keeps_kinds_of_core_apart() -> None:
    name, machine = parse(CPUID_R)
    assert (name, machine.arch, machine.online_cpus(), machine.xcr0) == ("cpuid", "x86_64", (0, 12), None)
    assert machine.cpuid(7, 1) == (0x00400810, 0, 0, 0)
    assert machine.cpuid(0x1A, cpu=0) is None
    assert machine.cpuid(0x1A, cpu=12) == (0x20000001, 0, 0, 0)


def test_instlatx64_counts_repeated_leaves_and_processors() -> None:
    name, machine = parse(INSTLATX64)
    assert (name, machine.arch, machine.online_cpus(), machine.xcr0) == ("cpuid", "x86_64", (0, 1), 7)
    assert machine.cpuid(4, 1) == (0x1C004122, 0x01C0003F, 0x3F, 0)
    assert machine.cpuid(0xD, 1) == (0xF, 0x3C0, 0x100, 0)
    assert machine.cpuid(4, 1, cpu=1) is None


def test_a_processor_without_a_heading_gets_a_number_that_none_has() -> None:
    first = "CPUID 00000000: 00000016-756E6547-6C65746E-49656E69\n"
    _, machine = parse(f"CPU#003 AffMask: 0x8\n{first}CPU#001 AffMask: 0x2\n{first}{first}{first}")
    assert machine.leaves.keys() == {3, 1, 4, 5}


@pytest.mark.parametrize(
    "written",
    [
        "{}  \t{}-{}-{}-{}",
        "{}  {}-{}-{}-{} ",
        "{} {}-{}-{}-{}",
        "{} :{}-{}-{}-{}",
        "{}: {} {} {} {}",
        "{} : {} {} {} {}",
        "{}: {}-{}-{}-{}\t[SMEP]",
        "{}: {}-{}-{}-{}     [NX]",
        "{}: {}- {} -{}\t{}",
        "{}\t{}-{}-{}-{} [SL 00]",
        "{}: {}-{}-{}-{}[SL 00]",
    ],
)
def test_the_separators_of_every_version_of_instlatx64_are_read(written: str) -> None:
    """InstLatx64, AIDA64 and Everest: those of the 588 files in github.com/InstLatx64/InstLatx64, and a few more."""
    text = "CPUID " + written.format("00000001", "00000590", "00010200", "0000000A", "0000237B")
    for each in (text, text.lower().replace("cpuid", "CPUID").replace("sl", "SL")):
        assert parse(each)[1].cpuid(1) == (0x590, 0x10200, 0xA, 0x237B)
    with pytest.raises(DumpError, match="damaged or cut off"):
        parse(text.replace("0000237B", "0000237"))


def test_numbers_of_sysctl_are_numbers_unless_they_are_too_long() -> None:
    _, machine = parse(
        f"hw.optional.arm64: 1\nhw.cpufamily: -634136515\nhw.memsize: {2**64 - 1}\nhw.serial: {'1' * 21}\n"
    )
    variables = [machine.sysctl(name) for name in ("hw.cpufamily", "hw.memsize", "hw.serial")]
    assert variables == [-634136515, 2**64 - 1, "1" * 21]


def test_a_leaf_said_twice_counts_once() -> None:
    again = "0x00000007 0x00: eax=0xffffffff ebx=0xffffffff ecx=0xffffffff edx=0xffffffff\n"
    _, machine = parse(CPUID_R.replace("CPU 12", again + "CPU 12"))
    assert machine.cpuid(7, 0) == (1, 0x239CA7EB, 0x98C027AC, 0xFC1CC410)


@pytest.mark.parametrize("text", EVERY_EXAMPLE)
def test_encodings_and_line_ends_of_windows_change_nothing(text: str) -> None:
    name, machine = parse(text)
    windows = text.replace("\n", "\r\n")
    encoded = [
        windows.encode(),
        windows.encode("utf-8-sig"),
        windows.encode("utf-16"),
        windows.encode("utf-16-le"),
        b"\xfe\xff" + windows.encode("utf-16-be"),
        windows.encode() + b"\x1a",
        (windows + "\N{REGISTERED SIGN}").encode("latin-1") if text[0] != "{" else windows.encode(),
    ]
    for content in encoded:
        other_name, other = dumps.parse(content, "dump")
        assert (other_name, other.arch, other.leaves, other.xcr0) == (name, machine.arch, machine.leaves, machine.xcr0)
        assert other.files.keys() == machine.files.keys()


def test_cpuinfo_holds_every_processor() -> None:
    name, machine = parse(CPUINFO)
    assert (name, machine.arch) == ("cpuinfo", "x86_64")
    alike = proc_cpuinfo.count_kinds(x86_flags.from_cpuinfo(machine.files["/proc/cpuinfo"]))
    skylake = X86Processor(
        "GenuineIntel", 6, 94, 3, "Intel(R) Core(TM) i5-6600 CPU @ 3.30GHz", frozenset(["fpu", "lm", "avx2"])
    )
    assert alike == {skylake: 2}


@pytest.mark.parametrize(
    ("text", "count", "arch"),
    [
        ("processor : 0\nflags : fpu\nprocessor : 1\nflags : fpu\n", 2, "i686"),
        (
            "Processor : ARMv7 rev 2 (v7l)\nprocessor : 0\n\nprocessor : 1\n\nCPU implementer : 0x41\n",
            3,
            "arm",
        ),
        ("processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\n\n", 1, "aarch64"),
        ("processor : 0\ncpu : POWER9, altivec supported\n\ntimebase : 512000000\nplatform : pSeries\n", 2, "ppc64le"),
        ("vendor_id : IBM/S390\nfeatures : esan3 vx\nprocessor 0: version = FF,  machine = 2964\n\n", 1, "s390x"),
        ("processor : 0\nhart : 2\nisa : rv64imafdc\n", 1, "riscv64"),
        ("system type : generic-loongson-machine\n\nprocessor : 0\nISA : loongarch32 loongarch64\n", 2, "loongarch64"),
    ],
)
def test_cpuinfo_of_every_architecture_is_split_into_processors(text: str, count: int, arch: str) -> None:
    name, machine = parse(text)
    assert (name, machine.arch, len(proc_cpuinfo.blocks(text.encode()))) == ("cpuinfo", arch, count)


@pytest.mark.parametrize("text", [LSCPU, LSCPU_JSON, LSCPU.replace("\n  ", "\n").replace("\n  ", "\n")])
def test_lscpu_is_read_flat_indented_and_as_json(text: str) -> None:
    name, machine = parse(text)
    fields = lscpu.fields(machine.files["lscpu"])
    assert (name, machine.arch) == ("lscpu", "x86_64")
    assert (x86_flags.from_lscpu(fields), lscpu.online(fields)) == (EPYC, 4)


def test_empty_lines_make_no_paragraphs_and_cost_no_memory() -> None:
    content = b"\n" * 500_000 + b"processor: 0\n" + b"\n" * 500_000 + b"processor: 1\n"
    tracemalloc.start()
    try:
        assert len(proc_cpuinfo.blocks(content)) == 2
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_recording_of_cpufeat_is_read_back() -> None:
    _, machine = parse(CPUID_R)
    machine = machine.replace(xcr0=7, files={"/proc/cpuinfo": CPUINFO.encode()}, arch="x86_64")
    assert parse(machine.to_json()) == ("recording", machine)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "dump: empty"),
        (b"\xef\xbb\xbf \n", "dump: empty"),
        (b"CPU 0:\n\x7fELF\x01\x02", "dump:2: binary"),
        (b"\xff\xfeC\x00P", "dump: begins as UTF-16, but byte 4 is not valid"),
        (b"hello\nworld\n", "dump: not in a known format; expected a recording of cpufeat, CPUID leaves"),
        (b"x" * (LARGEST_FILE + 1), "dump: larger than 16 MiB"),
        (b"processor: 0\n" + b"\n" * MAX_LINES, "dump: more than 1,048,576 lines"),
        (b"processor: 0\n" + b"\v\r" * (MAX_LINES // 2), "dump: more than 1,048,576 lines"),
        (CPUID_R.encode()[:200], "dump:4: damaged or cut off; expected a line like '0x00000007 0x00: eax="),
        (INSTLATX64.encode()[:80], "dump:2: damaged or cut off; expected a line like 'CPUID 00000007: "),
        (INSTLATX64.encode().replace(b"[SL 01]", b"[SL xy]"), "dump:4: damaged"),
        (
            INSTLATX64.encode().replace(b"-1C004121", b"-1C0041210").replace(b"1C004122", b"1C0041220"),
            "dump:4: damaged",
        ),
        (CPUID_R.encode().replace(b"0xfc1cc410", b"0xfc1cc4100"), "dump:3: damaged"),
        (CPUID_R.encode().replace(b"0x00000007 0x00", b"0x000000007 0x00"), "dump:3: damaged"),
        (CPUID_R.encode().replace(b"0x00000007 0x00", b"0x00000007 0x000000000"), "dump:3: damaged"),
        (CPUID_R.encode().replace(b"0xfc1cc410", b"0xfc1cc41"), "dump:3: damaged"),
        (CPUID_R.encode().replace(b"0x00000007 0x01", b"0x01"), "dump:4: damaged"),
        (INSTLATX64.encode().replace(b"CPUID 0000000D", b"CPUID 1"), "dump:5: damaged"),
        (b'{"lscpu": [1]}', "dump: not JSON of lscpu"),
        (b'{"lscpu": ', "dump: Expecting value: line 1"),
        (b'{"some": "thing"}', "dump: not a recording of cpufeat"),
        (b'{"cpufeat": 1, "online": [Infinity]}', 'dump: bad "online"'),
        (b'{"a":' * 100_000, "dump: "),
        (b"flags: a\n\n" * 10_000, "dump: 10000 processors, more than any machine has"),
        (b"CPUID 00000000: 00000000-00000000-00000000-00000000\n" * 9_000, "dump: 9000 processors"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_dump(content: bytes, message: str) -> None:
    with pytest.raises(DumpError) as caught:
        dumps.parse(content, "dump")
    assert str(caught.value).startswith(message)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "absent", FileNotFoundError), ("a\0b", DumpError)):
        with pytest.raises(error):
            dumps.load(str(path))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A dump of which a part was lost, doubled or overwritten."""
    text = draw(st.sampled_from([*EVERY_EXAMPLE, RECORDING]))
    start, stop = (draw(st.integers(0, len(text))) for _ in range(2))
    return (text[:start] + draw(st.text(max_size=9)) + text[stop:]).encode("utf-8", "replace")


@given(st.binary() | damaged())
@example(b'{"cpufeat": 1, "cpuid": {"0": {"7.0": "1 2 3"}}}')
@example(b'{"cpufeat": 1, "xcr0": 7, "files": {"a": 1}}')
def test_any_bytes_are_a_machine_or_an_error_that_says_why(content: bytes) -> None:
    try:
        _, machine = dumps.parse(content, "dump")
    except DumpError as error:
        assert str(error).startswith("dump:")
        return
    for file in machine.files.values():
        proc_cpuinfo.count_kinds(x86_flags.from_cpuinfo(file))
    if "lscpu" in machine.files:
        fields = lscpu.fields(machine.files["lscpu"])
        x86_flags.from_lscpu(fields)
        assert lscpu.online(fields) >= 1


@needs_corpora
def test_every_dump_of_every_architecture_is_read() -> None:
    listed = [line.split("\t") for line in (CORPUS / "truth.tsv").read_text().splitlines()]
    assert len(listed) > 2000
    for path, expected, arch, _ in listed:
        name, machine = dumps.load(str(CORPUS / path))
        assert name == expected
        assert machine.arch == arch or arch not in ("x86_64", "i686", "aarch64", "s390x"), path
