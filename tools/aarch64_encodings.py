"""Generate ``data/aarch64/encodings.tsv``: which AArch64 instruction encodings need which features, according to LLVM.

    python tools/aarch64_encodings.py LLVM-OBJDUMP LLVM-MC

A 32-bit word that disassembles with all features, but not with the baseline, is passed as assembly to the assembler of
the baseline, which reports ``instruction requires: lse``. A decision tree over the bits is learned from millions of
such words, and then corrected with random words until it makes hardly any mistakes on new ones. This takes ten minutes.
The committed rows are those of LLVM 19. ``MSR``, ``SYS`` and hints are in ``system.tsv``, because the disassembler
accepts their numbers with any features.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cpufeat.errors import UnknownNameError  # noqa: E402
from cpufeat.features import find  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Label = frozenset[str]
Point = tuple[int, Label]
"""A word that is an instruction, and the features that it needs above the baseline."""
Row = tuple[int, int, Label]
"""A mask, a value, and the features that the words need that have this value under the mask."""

OUTPUT = ROOT / "data" / "aarch64" / "encodings.tsv"
UNKNOWN = "<unknown>"
BASELINE: Label = frozenset()
SYSTEM = 0xD5
"""The first byte of system instructions."""
_LOWS = (0x041, 0x3FF, 0x000, 0x3E0)
"""Values of the fields Rn and Rd, used beside random ones: most encodings have no opcode bits there."""
_REQUIRES = "instruction requires: "
_LLVM_NAMES = {"frint3264": "fptoint", "b16b16": "sve_b16b16"}
_ROUNDS, _NEW_WORDS = 8, 400_000
_SURVEY = 6000
"""How many random words decide whether a first byte has instructions above the baseline."""
_SAMPLE = 3000
_MIN_GAIN = 0.02
"""A fraction of the information; if no single bit yields more, the best pair of bits is searched."""


class Llvm:
    """LLVM's disassembler and assembler."""

    def __init__(self, objdump: str, mc: str) -> None:
        self.objdump, self.mc = objdump, mc
        self._requirements: dict[str, Label] = {}

    def labels(self, words: Sequence[int]) -> list[Label | None]:
        """Return the features that each word needs, None for a word that is no instruction."""
        texts = self._disassembled(words, "+all")
        basic = self._disassembled(words, "+neon")
        above = {text for text, base in zip(texts, basic, strict=True) if text != UNKNOWN and base == UNKNOWN}
        self._assemble(sorted(above - self._requirements.keys()))
        return [
            None if text == UNKNOWN else BASELINE if base != UNKNOWN else self._requirements.get(text, BASELINE)
            for text, base in zip(texts, basic, strict=True)
        ]

    def texts(self, words: Sequence[int]) -> list[str]:
        """Return words as assembly."""
        return self._disassembled(words, "+all")

    def _disassembled(self, words: Sequence[int], attributes: str) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "words.o"
            path.write_bytes(_object(words))
            options = ["-d", "-z", "--no-show-raw-insn", "--no-leading-addr", "--no-print-imm-hex", "-M", "no-aliases"]
            command = [self.objdump, *options, f"--mattr={attributes}", str(path)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        lines = [_plain(line) for line in output.splitlines() if line.startswith((" ", "\t"))]
        if len(lines) != len(words):
            raise SystemExit(f"{len(lines)} lines for {len(words)} words")
        return lines

    def _assemble(self, texts: Sequence[str]) -> None:
        command = [self.mc, "-triple", "aarch64", "-filetype=null", "-"]
        source = "\n".join(texts) + "\n"
        answer = subprocess.run(command, input=source, capture_output=True, text=True, check=False).stderr
        for number, message in re.findall(r"^<stdin>:(\d+):\d+: error: (.*)$", answer, re.MULTILINE):
            if message.startswith(_REQUIRES):
                self._requirements.setdefault(texts[int(number) - 1], _needed(message.removeprefix(_REQUIRES)))


def _object(words: Sequence[int]) -> bytes:
    """Return an ELF object whose ``.text`` is the words."""
    text = struct.pack(f"<{len(words)}I", *words)
    names = b"\0.text\0.names\0"
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 183, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    at = 64 + 3 * 64
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 6, 0, at, len(text), 0, 0, 4, 0)
    sections += struct.pack("<IIQQQQIIQQ", 7, 3, 0, 0, at + len(text), len(names), 0, 0, 1, 0)
    return header + sections + text + names


def _plain(line: str) -> str:
    """Return the text of an instruction, with the target of a branch replaced by its own address (``.``)."""
    text = re.sub(r"\s+", " ", line.partition("//")[0].strip())
    return re.sub(r"(0x[0-9a-f]+|#-?\d+)? ?<[^>]+\+0x[^>]+>$", ".", text)


def _needed(message: str) -> Label:
    """Translate LLVM's message: ``bf16 sve or sme`` is bf16 and sve, the alternative outside of streaming mode."""
    body = re.sub(r"^ssve-\S+ or \((.*)\)$", r"\1", message).replace(" and ", " ")
    body = re.sub(r"(\S+) or (\S+)", _outside_of_streaming_mode, body)
    return frozenset(_our_name(word) for word in body.split())


def _outside_of_streaming_mode(alternatives: re.Match[str]) -> str:
    return (
        alternatives[2]
        if alternatives[1].startswith("sme") and not alternatives[2].startswith("sme")
        else alternatives[1]
    )


def _our_name(name: str) -> str:
    try:
        return find("aarch64", _LLVM_NAMES.get(name, name)).name
    except UnknownNameError:
        return "other"


# --- learning


def tree(points: Sequence[Point], bits: tuple[int, ...], mask: int, value: int) -> Iterator[Row]:
    """Yield the rows of a decision tree over some of the bits, without rows for the baseline."""
    labels = {label for _, label in points}
    if len(labels) == 1:
        (label,) = labels
        if label:
            yield mask, value, label
        return
    bit = _best_bit(points, bits)
    if bit is None:
        raise SystemExit(f"{value:#x} under {mask:#x}: {labels}")
    remaining = tuple(candidate for candidate in bits if candidate != bit)
    for side in (0, 1):
        half = [point for point in points if point[0] >> bit & 1 == side]
        if half:
            yield from tree(half, remaining, mask | 1 << bit, value | side << bit)


def _best_bit(points: Sequence[Point], bits: tuple[int, ...]) -> int | None:
    """Return the bit that best separates the labels; if no bit does by itself, the first of the best pair."""
    sample = random.Random(1).sample(points, _SAMPLE) if len(points) > _SAMPLE else points
    whole = _entropy(Counter(label for _, label in sample).values())
    varying = [bit for bit in bits if len({word >> bit & 1 for word, _ in points}) == 2]
    if not varying:
        return None
    lowest, best = min((_conditional_entropy(sample, (bit,)), bit) for bit in varying)
    if whole - lowest > _MIN_GAIN * whole:
        return best
    pairs = [(_conditional_entropy(sample, (a, b)), a) for a in varying for b in varying if a < b]
    return min(pairs)[1] if pairs else best


def _conditional_entropy(points: Sequence[Point], bits: tuple[int, ...]) -> float:
    """Return the conditional entropy of the labels, in bits, given these bits of the words."""
    counts: defaultdict[tuple[int, ...], Counter[Label]] = defaultdict(Counter)
    for word, label in points:
        counts[tuple(word >> bit & 1 for bit in bits)][label] += 1
    return sum(sum(count.values()) * _entropy(count.values()) for count in counts.values()) / len(points)


def _entropy(counts: Iterable[int]) -> float:
    numbers = list(counts)
    total = sum(numbers)
    return -sum(number / total * math.log2(number / total) for number in numbers)


def needs(rows: Sequence[Row], word: int) -> Label:
    """Return the features that a word needs according to the rows of its first byte."""
    return next((label for mask, value, label in rows if word & mask == value), BASELINE)


# --- the table


def main() -> None:
    """Learn the rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objdump", metavar="LLVM-OBJDUMP")
    parser.add_argument("mc", metavar="LLVM-MC")
    options = parser.parse_args()
    llvm = Llvm(options.objdump, options.mc)
    random.seed(1)
    survey = {first: llvm.labels(_words(first, _SURVEY)) for first in range(256) if first != SYSTEM}
    points = {first: _points(llvm, _systematic(first)) for first, labels in survey.items() if any(labels)}
    rows = {first: _rows(first, samples) for first, samples in points.items()}
    doubtful: set[int] = set()
    for number in range(_ROUNDS):
        words = [random.getrandbits(32) for _ in range(_NEW_WORDS)]
        words += [word for first in doubtful for word in _words(first, _NEW_WORDS // 8)]
        fresh = _points(llvm, [word for word in words if word >> 24 != SYSTEM])
        wrong = [(word, label) for word, label in fresh if needs(rows.get(word >> 24, ()), word) != label]
        sys.stderr.write(f"round {number + 1}: {len(wrong)} of {len(fresh)} instructions wrong\n")
        doubtful = {word >> 24 for word, _ in wrong}
        for word, label in fresh:
            if word >> 24 in doubtful:
                points.setdefault(word >> 24, []).append((word, label))
        for first in doubtful:
            rows[first] = _rows(first, points[first])
        if not wrong:
            break
    lines = [HEADER, *_lines(llvm, [row for first in sorted(rows) for row in rows[first]], points)]
    for first, labels in survey.items():
        if not any(label is not None for label in (*labels, *llvm.labels(_systematic(first)))):
            lines.append(f"{first << 24:08x}\tff000000\tunallocated\t-")
    OUTPUT.write_text("\n".join(lines) + "\n")


def _words(first: int, count: int) -> list[int]:
    return [first << 24 | random.getrandbits(24) for _ in range(count)]


def _systematic(first: int) -> list[int]:
    """Return words with every value of the opcode bits, and some values of Rn and Rd."""
    lows = [*_LOWS, random.getrandbits(10), random.getrandbits(10)]
    return [first << 24 | middle << 10 | low for middle in range(1 << 14) for low in lows]


def _points(llvm: Llvm, words: Sequence[int]) -> list[Point]:
    return [(word, label) for word, label in zip(words, llvm.labels(words), strict=True) if label is not None]


def _rows(first: int, points: Sequence[Point]) -> list[Row]:
    return list(tree(points, tuple(range(24)), 0xFF << 24, first << 24))


HEADER = """\
# The features that AArch64 instruction encodings need: generated by tools/aarch64_encodings.py with LLVM's disassembler and assembler.
#
# value, mask  hexadecimal; the row holds for the words with this value under this mask, and no word matches two rows
# needs        all features that the instruction needs; `other`: something that is no feature here; `unallocated`: no instruction.
#              Baseline instructions have no row; system instructions are in system.tsv. If SVE and SME both have an instruction,
#              SVE is named
# example      an instruction that matches the row
value\tmask\tneeds\texample
"""  # noqa: E501


def _lines(llvm: Llvm, rows: Sequence[Row], points: dict[int, list[Point]]) -> Iterator[str]:
    """Yield the lines of the table, each with an instruction as an example."""
    examples = [
        next(word for word, label in points[value >> 24] if word & mask == value and label) for mask, value, _ in rows
    ]
    for (mask, value, label), text in zip(rows, llvm.texts(examples), strict=True):
        yield f"{value:08x}\t{mask:08x}\t{' '.join(sorted(label))}\t{text}"


if __name__ == "__main__":
    main()
