"""Recordings answer every question as the machine did, and hold nothing that identifies it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
from helpers import dumps as written
from helpers.corpora import needs_corpora
from helpers.llvm_data import features_of
from helpers.machines import AMD, EBX, ECX, INTEL, machine
from helpers.paths import CORPUS, MACHINES

import cpufeat
from cpufeat.decisions import CLEARED
from cpufeat.detection import dumps
from cpufeat.detection.detect import detect
from cpufeat.detection.machine import Machine
from cpufeat.detection.recorder import Recorder, record
from cpufeat.detection.recording import FACTS, NOT_RECORDED, QUESTIONS, Recording
from cpufeat.detection.systems import ThisMachine
from cpufeat.tables import has_tables

if TYPE_CHECKING:
    from typing import Any

EXAMPLES: dict[str, list[tuple[tuple[Any, ...], Any]]] = {
    "online_cpus": [((), (0, 3))],
    "xgetbv": [((0,), 0xE7), ((1,), None)],
    "cpuid": [((7, 1, 3), (1, 2, 3, 0xFFFFFFFF)), ((0, 0, 0), (7, 0, 0, 0))],
    "read_file": [(("/proc/cpuinfo",), b"flags : fpu\xff\n"), (("/proc/sysinfo",), b"")],
    "getauxval": [((16,), 1 << 63 | 2), ((26,), 0)],
    "auxv_string": [((15,), "power9")],
    "hwprobe": [(((3, 4),), {3: 1, 4: 1 << 60})],
    "facilities": [((), (0, 2, 129))],
    "sysctl": [(("hw.ncpu",), 8), (("hw.model",), "Mac14,7"), (("hw.packages",), 0)],
    "processor_feature": [((18,), True), ((43,), False)],
    "registry": [(("HARDWARE\\CentralProcessor\\0", "CP 4000"), 0x414FD0B1)],
    "py_cpuinfo": [((), {"count": 4, "flags": ["fpu"]})],
}
"""For each question, arguments and an answer."""


class Answering(Machine):
    """A machine that answers the examples."""

    system, version, arch, libc, emulator = "freebsd", "14.1", "riscv64", "musl", "Something"


def _answer(question: str) -> Any:
    return lambda self, *arguments: dict(EXAMPLES[question])[arguments]


for _question in EXAMPLES:
    setattr(Answering, _question, _answer(_question))


def questions() -> dict[str, Any]:
    return {name: method for name, method in vars(Machine).items() if inspect.isfunction(method)}


def test_every_question_of_a_machine_is_recorded() -> None:
    rows = {question.method for question in QUESTIONS}
    for name in questions():
        assert name in rows | NOT_RECORDED.keys(), (
            f"recordings would lose Machine.{name}: add a row to QUESTIONS and a field to Recording in "
            "cpufeat/detection/recording.py, or say in NOT_RECORDED why not"
        )
    assert rows | NOT_RECORDED.keys() == questions().keys(), "a row asks what no Machine answers"
    assert {question.field for question in QUESTIONS} | {*FACTS, "remarks"} == {*Recording._fields}


def test_every_recorded_question_has_an_example() -> None:
    assert [question.method for question in QUESTIONS] == list(EXAMPLES), "add an example to EXAMPLES in this file"


def test_every_answer_comes_back_from_the_json_of_a_recording() -> None:
    recorder = Recorder(Answering())
    for question, examples in EXAMPLES.items():
        for arguments, answer in examples:
            assert getattr(recorder, question)(*arguments) == answer
    recording = recorder.recording()
    again = Recording.from_json(recording.to_json())
    assert again == recording
    assert [getattr(again, fact) for fact in FACTS] == [getattr(Answering, fact) for fact in FACTS]
    for question, examples in EXAMPLES.items():
        for arguments, answer in examples:
            assert getattr(again, question)(*arguments) == answer, question


def test_a_system_without_a_choice_of_c_libraries_comes_back_from_json() -> None:
    recording = Recording(arch="aarch64", system="darwin", version="14.5.0", libc="")
    assert Recording.from_json(recording.to_json()) == recording


@pytest.mark.parametrize("name", questions())
def test_an_empty_recording_answers_as_a_silent_machine(name: str) -> None:
    arguments = EXAMPLES[name][0][0] if name in EXAMPLES else ()
    assert getattr(Recording(), name)(*arguments) == getattr(Machine(), name)(*arguments)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("sysctl", '{"hw.ncpu": [8]}'),
        ("sysctl", '"hw.ncpu"'),
        ("registry", '{"key": null}'),
        ("processor-features", "7"),
        ("arch", "7"),
        ("cpuid", '{"0": {"7": "0 0 0 0"}}'),
    ],
)
def test_a_damaged_recording_names_its_part(part: str, value: str) -> None:
    with pytest.raises(cpufeat.DumpError, match=f'bad "{part}"'):
        Recording.from_json(f'{{"cpufeat": 1, "{part}": {value}}}')


def test_the_processors_are_recorded_though_detection_did_not_ask_for_them() -> None:
    cpuinfo = b"processor: 0\nvendor_id: GenuineIntel\ncpu family: 6\nmodel: 60\nflags: fpu lm\n"
    assert record(Recording(files={"/proc/cpuinfo": cpuinfo}, online=(0, 2))).online == (0, 2)


def test_a_recording_has_one_block_of_a_kind_and_no_serial_number() -> None:
    block = "processor: {}\nvendor_id: GenuineIntel\ncpu family: 6\nmodel: 60\nflags: fpu lm\nSerial: 0123456789\n\n"
    cpuinfo = "".join(map(block.format, range(64))).encode()
    with_cpuid = record(machine(INTEL, 6, 60, {"sse2"}).replace(files={"/proc/cpuinfo": cpuinfo}))
    without = record(Recording(files={"/proc/cpuinfo": cpuinfo}))
    assert with_cpuid.files["/proc/cpuinfo"].count(b"processor") == 1
    assert without.files["/proc/cpuinfo"].count(b"processor") == 64, "here the blocks are the count"
    assert "0123456789" not in with_cpuid.to_json() + without.to_json()


def test_the_serial_number_of_a_pentium_iii_is_not_recorded() -> None:
    """CPUID leaf 3: the lower 64 bits of the number, in ECX and EDX (Intel AP-485)."""
    pentium = machine(INTEL, 6, 8, {"sse"})
    leaves = {**pentium.leaves[0], (3, 0): (0, 0, 0x12345678, 0x9ABCDEF0)}
    recorded = record(pentium.replace(leaves={0: leaves}))
    assert recorded.leaves[0].keys() == leaves.keys() - {(3, 0)}
    assert "12345678" not in recorded.to_json()


def test_leaves_of_a_hypervisor_count_only_with_the_bit_that_announces_one() -> None:
    """CPUID 1:ECX[31]: without it, Intel's CPUs answer leaf 0x40000000 with their highest basic leaf."""
    haswell = machine(INTEL, 6, 60, {"avx2"})
    words = {**haswell.leaves[0], (0x40000000, 0): (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)}
    assert detect(haswell.replace(leaves={0: words})).hypervisor == ""
    assert (0x40000000, 0) not in record(haswell.replace(leaves={0: words})).leaves[0]
    announced = list(words[1, 0])
    announced[ECX] |= 1 << 31
    words[1, 0] = (announced[0], announced[EBX], announced[ECX], announced[3])
    assert detect(haswell.replace(leaves={0: words})).hypervisor == "KVM"


RECORDINGS = sorted((path.name, path.read_bytes()) for path in MACHINES.glob("*.json"))
DUMPS = [
    (f"{name} {at}", text.encode())
    for name, texts in written.EXAMPLES.items()
    for at, text in enumerate(texts)
    if name != "recording"  # which has one leaf, and no feature
]
OF_OTHERS = [(path.name, path.read_bytes()) for path in sorted(CORPUS.glob("*/*.*"))[::10]]


@pytest.mark.parametrize(("name", "content"), [*RECORDINGS, *DUMPS], ids=[name for name, _ in [*RECORDINGS, *DUMPS]])
def test_a_recording_of_a_machine_replays_to_the_same_host(name: str, content: bytes) -> None:
    check_replay(name, content)


@needs_corpora
def test_recordings_of_the_machines_in_the_collections_replay_to_the_same_hosts() -> None:
    for name, content in OF_OTHERS:
        check_replay(name, content)
    assert len(OF_OTHERS) > 200


def check_replay(name: str, content: bytes) -> None:
    machine = dumps.parse(content, name)[1]
    expected = detect(machine) if has_tables(machine.arch) else None
    if expected:
        recorded = record(machine)
        assert detect(Recording.from_json(recorded.to_json())) == detect(recorded) == expected, name


def test_this_machine_replays_to_the_same_host() -> None:
    assert detect(Recording.from_json(record(ThisMachine()).to_json())) == detect(ThisMachine())


def test_a_recording_keeps_what_the_kernel_cleared_without_the_name_of_who_built_it() -> None:
    files = {
        "/sys/devices/system/cpu/modalias": b"cpu:type:x86,ven0002fam0019mod0011:feature:,0000,0020,0080,00C0,0120\n",
        "/proc/version": b"Linux version 6.1.0 (somebody@somewhere) (gcc (Debian 12.2.0) 12.2.0) #1 SMP\n",
    }
    original = machine(AMD, 25, 17, features_of("znver4")).replace(files=files)
    recorded = record(original)
    assert {"rdseed", "avx2"} <= {name for name, why in detect(recorded).withheld.items() if why.reason == CLEARED}
    assert detect(Recording.from_json(recorded.to_json())) == detect(original)
    assert recorded.files["/proc/version"].startswith(b"Linux version 6.1.0 (")
    assert b"some" not in recorded.files["/proc/version"]
