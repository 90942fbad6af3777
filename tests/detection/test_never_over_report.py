"""Never over-report: less to read is never more to run, and nothing that a file says crashes or stalls detection.

``CPUFEAT_MUTATIONS`` is the number of mutated dumps, 10,000 where it is not set. The dumps are our own recordings, and
those of the public collections where they are at hand.
"""

from __future__ import annotations

import os
import random
import re
import time
from typing import TYPE_CHECKING

import pytest
from helpers import dumps as written
from helpers.pasting import cut_at_column, pasted
from helpers.paths import CORPORA, CORPUS, PROJECT

from cpufeat.decisions import CLEARED, DIFFERS, ERRATUM
from cpufeat.detection import dumps, host
from cpufeat.detection.arch import x86
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.errors import CpufeatError
from cpufeat.features import family, table
from cpufeat.levels import level_features

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTATIONS = int(os.environ.get("CPUFEAT_MUTATIONS", "10000"))
SECONDS = 0.05
OF_ONE_KIND = 6
"""Dumps of a format and architecture that are cut: there are 1,239 of x86's lscpu, and 1 of some."""
CUTS = 12
WORDS = ("flags", "Features", "features", "isa", "hart isa", "facilities", "Flags", "ISA")
"""Keys whose values are names, the first value line of each."""
JUNK = [
    *b"\0 \xff \xff\xfe \r \x1a : = - & _ , / { } 0x -1 999999999999 99999- 0-4294967295 1e999 NaN null [[[[ [SL".split(
        b" "
    ),
    *(text.encode() for text in ("\n", "\n\n", '"', "CPU 99999:\n")),
    *(text.encode() for text in ("\u2028", "\u0663", "\u00b2")),  # a line's end, and two digits, to some
]


NOT_X86 = ("aarch64", "armv7l", "riscv64", "ppc64le", "s390x", "loongarch64")
HWCAPS = {"hwcap": 16, "hwcap2": 26, "hwcap3": 29}
PROBES = (3, 4, 11, 13, 14, 16)


def of_kernel(arch: str, chosen: random.Random, density: int) -> Recording:
    """A machine whose kernel sets many bits, and spells the same ones out."""

    def random_word() -> int:
        return sum(1 << bit for bit in range(64) if chosen.randrange(density + 1))

    auxv = {kind: random_word() for kind in HWCAPS.values()}
    probes = {key: random_word() for key in PROBES} if family(arch) == "riscv" else {}
    set_bits = {f"{word}[{bit}]" for word, kind in HWCAPS.items() for bit in bits(auxv[kind])}
    spelled = {name for name, bit in _names(arch).items() if bit in set_bits}
    listed = " ".join(sorted(spelled))
    text = f"processor: 0\nFeatures: {listed}\nfeatures: {listed}\nCPU implementer: 0x41\nCPU architecture: 8\n"
    text += f"CPU variant: 0x1\nCPU part: 0xd0b\nCPU revision: 1\nisa: {arch.replace('riscv', 'rv')}i\n"
    stored = tuple(bits(random_word() << 64 | random_word())) if arch == "s390x" else None
    return Recording(arch=arch, auxv=auxv, probes=probes, stored=stored, files={"/proc/cpuinfo": text.encode()})


def bits(word: int) -> list[int]:
    return [bit for bit in range(word.bit_length()) if word >> bit & 1]


def _names(arch: str) -> dict[str, str]:
    """The kernel's words, and the bits that they stand for."""
    names: dict[str, str] = {}
    for feature in table(arch).values():
        alternatives = re.split("[&|]", feature.bit)
        words = feature.spellings.get("kernel", (feature.name,))
        if len(words) == len(alternatives):
            names.update(zip(words, alternatives, strict=True))
    return names


def _dumps() -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """Dumps by format and architecture."""
    dumps: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    truth = CORPUS / "truth.tsv"
    for path, kind, arch, _ in (line.split("\t") for line in truth.read_text().splitlines()) if truth.exists() else ():
        dumps.setdefault((kind, arch), []).append((path, (CORPUS / path).read_bytes()))
    targets = CORPORA / "raw" / "archspec-json" / "tests" / "targets"
    for file in (*sorted(targets.glob("darwin-*")), *sorted((PROJECT / "data" / "machines").glob("*.json"))):
        dumps.setdefault((file.suffix or "sysctl", ""), []).append((file.name, file.read_bytes()))
    made_up = {
        name: getattr(written, name).encode() for name in ("CPUID_R", "INSTLATX64", "CPUINFO", "LSCPU", "LSCPU_JSON")
    }
    made_up |= {arch: of_kernel(arch, random.Random(arch), 3).files["/proc/cpuinfo"] for arch in NOT_X86}
    return {**dumps, **{("made up", name): [(name, content)] for name, content in made_up.items()}}


DUMPS = _dumps()


def detected(content: bytes | Recording) -> host.Host | None:
    """The machine in a dump, None for an error that cpufeat raises on purpose."""
    try:
        return detect(content if isinstance(content, Recording) else dumps.parse(content, "dump")[1])
    except CpufeatError:
        return None


def check_cut(whole: host.Host, cut: host.Host | None, what: str) -> None:
    """A processor that a text shows no longer is not there, so that it takes nothing away from the others either."""
    refused = cut is None or family(cut.arch) != family(whole.arch)
    names = frozenset() if cut is None or refused else cut.features.names
    of_others = {name for name, why in whole.withheld.items() if why.reason == DIFFERS}
    assert names <= whole.features.names | of_others, what


def some(kind: tuple[str, str]) -> Iterator[tuple[str, bytes, host.Host, random.Random]]:
    chosen = random.Random(str(kind))
    for name, content in chosen.sample(DUMPS[kind], min(OF_ONE_KIND, len(DUMPS[kind]))):
        whole = detected(content)
        if whole:
            yield name, content, whole, chosen


@pytest.mark.parametrize("kind", DUMPS, ids=" ".join)
def test_cutting_off_a_file_or_removing_a_line_never_adds_a_feature(kind: tuple[str, str]) -> None:
    for name, content, whole, chosen in some(kind):
        lines = content.splitlines(True)
        for _ in range(CUTS):
            end, at = chosen.randrange(len(content)), chosen.randrange(len(lines))
            check_cut(whole, detected(content[:end]), f"{name} cut off at {end}")
            check_cut(whole, detected(b"".join(lines[:at] + lines[at + 1 :])), f"{name} without line {at + 1}")


LISTED = re.compile(rb"^\s*(?:%s)\s*:(.*)$" % "|".join(WORDS).encode(), re.MULTILINE)
"""A line that names features, one word each."""


def word_spans(content: bytes) -> list[tuple[int, int]]:
    """Where the words begin and end in the lines that name features."""
    return [
        (match.start(1) + word.start(), match.start(1) + word.end())
        for match in LISTED.finditer(content)
        for word in re.finditer(rb"[^\s_]+", match[1])
    ]


IN_WORDS = [
    kind
    for kind, files in DUMPS.items()
    if kind[0] in ("cpuinfo", "lscpu", "made up") and any(word_spans(content) for _, content in files)
]


@pytest.mark.parametrize("kind", IN_WORDS, ids=" ".join)
def test_removing_a_word_never_adds_a_feature(kind: tuple[str, str]) -> None:
    for name, content, whole, chosen in some(kind):
        spans = word_spans(content)
        for start, end in chosen.sample(spans, min(3 * CUTS, len(spans))):
            cut = detected(content[:start] + content[end:])
            check_cut(whole, cut, f"{name} without {content[start:end]!r}")


# --- bits


@pytest.mark.parametrize("kind", [kind for kind in DUMPS if kind[0] in ("cpuid", ".json")], ids=" ".join)
def test_clearing_a_bit_or_removing_a_leaf_of_cpuid_never_adds_a_feature(kind: tuple[str, str]) -> None:
    """Whatever the bit is: also those of vendor, model and sizes, and the one that tells that the cores differ."""
    for name, content, whole, chosen in some(kind):
        machine = dumps.parse(content, name)[1]
        places = [(cpu, leaf) for cpu, leaves in machine.leaves.items() for leaf in leaves]
        bits = [
            (cpu, leaf, register, bit)
            for cpu, leaf in places
            for register, word in enumerate(machine.leaves[cpu][leaf])
            for bit in range(32)
            if word >> bit & 1
        ]
        for cpu, leaf, register, bit in chosen.sample(bits, min(150, len(bits))):
            words = list(machine.leaves[cpu][leaf])
            words[register] &= ~(1 << bit)
            less = {**machine.leaves, cpu: {**machine.leaves[cpu], leaf: (words[0], words[1], words[2], words[3])}}
            check(whole, machine.replace(leaves=less), f"{name} {cpu} {leaf} {register} {bit}")
        for cpu, leaf in places:
            of_cpu = {other: words for other, words in machine.leaves[cpu].items() if other != leaf}
            check(whole, machine.replace(leaves={**machine.leaves, cpu: of_cpu}), f"{name} {cpu} without {leaf}")


def check(whole: host.Host, less: Recording, what: str) -> None:
    """With another model number, an erratum or the kernel's list may be another CPU's; hardware has the feature."""
    distrusted = {name for name, why in whole.withheld_reported.items() if why.reason in (CLEARED, ERRATUM)}
    damaged = detected(less)
    assert damaged is None or damaged.features.names <= whole.features.names | distrusted, what


def test_clearing_a_bit_of_xcr0_never_adds_a_feature() -> None:
    states = sum({1 << bit for state in x86.states().values() for bit in range(64) if state.mask >> bit & 1})
    for name, content in DUMPS[".json", ""]:
        machine = dumps.parse(content, name)[1].replace(xcr0=states)
        whole = detect(machine)
        for bit in range(64):
            check(whole, machine.replace(xcr0=states & ~(1 << bit)), f"{name} without bit {bit}")


@pytest.mark.parametrize("arch", NOT_X86)
def test_clearing_a_bit_or_removing_an_answer_of_the_kernel_never_adds_a_feature(arch: str) -> None:
    """The words that the kernel spells out stay: where the vector answers, they add nothing."""
    chosen = random.Random(arch)
    for density in (0, 1, 3, 63):
        machine = of_kernel(arch, chosen, density)
        whole = detect(machine)
        for kind, word in machine.auxv.items():
            for bit in bits(word):
                less = machine.replace(auxv={**machine.auxv, kind: word & ~(1 << bit)})
                check(whole, less, f"auxiliary vector {kind} bit {bit}")
            rest = {other: value for other, value in machine.auxv.items() if other != kind}
            check(whole, machine.replace(auxv=rest), f"no {kind}")
        for key, word in machine.probes.items():
            for bit in bits(word):
                less = machine.replace(probes={**machine.probes, key: word & ~(1 << bit)})
                check(whole, less, f"hwprobe {key} bit {bit}")
            check(whole, machine.replace(probes={k: v for k, v in machine.probes.items() if k != key}), f"no key {key}")
        for number in machine.stored or ():
            stored = tuple(other for other in machine.stored or () if other != number)
            check(whole, machine.replace(stored=stored), f"facility {number}")
        for less in (machine.replace(auxv={}), machine.replace(probes={}), machine.replace(files={})):
            check(whole, less, "a source less")


# --- texts as people paste them


TEXTS = {kind: files for kind, files in DUMPS.items() if kind[0] in ("cpuinfo", "lscpu", "sysctl", "made up")}


def pasted_dump(number: int) -> tuple[bytes, bytes, str]:
    """Some text of a machine, the same as somebody pasted it, and its name."""
    chosen = random.Random(number)
    kind = chosen.choice(list(TEXTS))
    name, content = chosen.choice(TEXTS[kind])
    text = content.decode("utf-8", "replace")
    more_ways = () if "rv64" in text or "rv32" in text or name in NOT_X86 else (cut_at_column,)
    return content, pasted(text, chosen, *more_ways).encode(), name


def test_no_text_crashes_stalls_or_gains_a_feature_by_being_pasted() -> None:
    """All but RISC-V's cut at a column: ``zfh`` of ``zfhmin`` is a name, more than the whole, and in its place.

    Nor those of machines that do not exist, which have ``flagm2`` without the ``flagm`` that it is more than.
    """
    whole: dict[str, host.Host | None] = {}
    slow, read = [], 0
    for number in range(MUTATIONS):
        content, text, name = pasted_dump(number)
        if name not in whole:
            whole[name] = detected(content)
        began = time.process_time()
        cut = detected(text)
        if time.process_time() - began > SECONDS:
            slow.append(number)
        of_whole = whole[name]
        if of_whole:
            check_cut(of_whole, cut, f"{name}, pasted as {number}")
            read += cut is not None
    assert read > MUTATIONS / 2
    assert not [number for number in slow if min(_seconds(pasted_dump(number)[1]) for _ in range(3)) > SECONDS]


# --- mutated dumps


def mutated(number: int) -> bytes:
    """Some dump with one to sixteen changes, of bytes, pieces, lines, or what another dump has."""
    chosen = random.Random(number)
    kinds = list(DUMPS)
    content, other = (bytearray(chosen.choice(DUMPS[chosen.choice(kinds)])[1]) for _ in range(2))
    for _ in range(chosen.choice((1, 1, 2, 4, 16))):
        if content:
            _change(content, other, chosen)
    return bytes(content)


def _change(content: bytearray, other: bytearray, chosen: random.Random) -> None:
    at, length = chosen.randrange(len(content)), chosen.choice((1, 5, 80, 1000))
    start = content.rfind(b"\n", 0, at) + 1
    end = content.find(b"\n", at) + 1 or len(content)
    whence = chosen.randrange(len(other))
    change = chosen.randrange(9)
    if change == 0:
        content[at] ^= 1 << chosen.randrange(8)
    elif change == 1:
        del content[at : at + length]
    elif change == 2:
        del content[at:]
    elif change == 3:
        content[at:at] = content[start : start + length]
    elif change == 4:
        content[at:at] = other[whence : whence + length]
    elif change == 5:
        content[at:at] = chosen.choice(JUNK)
    elif change == 6:
        del content[start:end]
    elif change == 7:
        content[start:start] = content[start:end]
    else:
        content[:] = content[start:end] + content[:start] + content[end:]


def check_consistent(detected_host: host.Host) -> None:
    """An answer does not contradict itself."""
    assert detected_host.features == detected_host.features.closed()
    assert detected_host.features.names <= detected_host.evidence.keys()
    assert not detected_host.features.names & detected_host.withheld.keys()
    assert not detected_host.level or level_features(detected_host.arch, detected_host.level) <= detected_host.features
    assert detected_host.cpu in {core.cpu for core in detected_host.cores}
    assert all(core.count > 0 for core in detected_host.cores)
    assert detected_host.named in ("", detected_host.cpu) or "identity" in {
        decision.kind for decision in detected_host.decisions
    }


def test_no_mutated_dump_crashes_or_stalls() -> None:
    slow = []
    answers = 0
    for number in range(MUTATIONS):
        content = mutated(number)
        began = time.process_time()
        try:
            host = detected(content)
        except Exception as error:
            raise AssertionError(f"mutation {number}") from error
        if time.process_time() - began > SECONDS:
            slow.append(number)
        if host:
            answers += 1
            check_consistent(host)
    assert answers > MUTATIONS / 4
    assert not [number for number in slow if min(_seconds(mutated(number)) for _ in range(3)) > SECONDS]


def _seconds(content: bytes) -> float:
    began = time.process_time()
    detected(content)
    return time.process_time() - began
