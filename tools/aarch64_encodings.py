"""Write ``data/aarch64/encodings.tsv``: which 32-bit words of AArch64 code need which feature, as LLVM has it.

    python tools/aarch64_encodings.py LLVM-OBJDUMP LLVM-MC

Words that disassemble with all features but not with the baseline are written as assembly and given to the assembler
of the baseline, which says ``instruction requires: lse``. From some millions of such answers a decision tree over the
bits is learned, and then corrected by random words until it makes no mistake on new ones, or hardly any. Takes ten
minutes. The rows are LLVM 19's; ``MSR``, ``SYS`` and hints are left to ``system.tsv``, since the disassembler knows
their numbers with any features.
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
"""A word that is an instruction, and what it needs above the baseline."""
Row = tuple[int, int, Label]
"""Mask, value, and what the words need that are the value under the mask."""

OUTPUT = ROOT / "data" / "aarch64" / "encodings.tsv"
UNKNOWN = "<unknown>"
BASELINE: Label = frozenset()
SYSTEM = 0xD5
"""The first byte of system instructions."""
_LOWS = (0x041, 0x3FF, 0x000, 0x3E0)
"""For Rn and Rd, beside random ones: most opcodes have no more bits there."""
_REQUIRES = "instruction requires: "
_LLVM_NAMES = {"frint3264": "fptoint", "b16b16": "sve_b16b16"}
_ROUNDS, _NEW_WORDS = 8, 400_000
_SURVEY = 6000
"""Random words by which the first bytes are found that need looking at."""
_SAMPLE = 3000
_LITTLE = 0.02
"""Bits of information; a bit that tells less is chosen in a pair."""


class Llvm:
    """The two programs."""

    def __init__(self, objdump: str, mc: str) -> None:
        self.objdump, self.mc = objdump, mc
        self._requirements: dict[str, Label] = {}

    def labels(self, words: Sequence[int]) -> list[Label | None]:
        """Return what each word needs, None for what is no instruction."""
        texts = self._disassembled(words, "+all")
        basic = self._disassembled(words, "+neon")
        asked = {text for text, base in zip(texts, basic, strict=True) if text != UNKNOWN and base == UNKNOWN}
        self._ask(sorted(asked - self._requirements.keys()))
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

    def _ask(self, texts: Sequence[str]) -> None:
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
    """Return an instruction with its target, if it has one, as the place itself."""
    text = re.sub(r"\s+", " ", line.partition("//")[0].strip())
    return re.sub(r"(0x[0-9a-f]+|#-?\d+)? ?<[^>]+\+0x[^>]+>$", ".", text)


def _needed(message: str) -> Label:
    """Return our names of what LLVM names: ``bf16 sve or sme`` is bf16 and, as code outside of streaming mode, sve."""
    body = re.sub(r"^ssve-\S+ or \((.*)\)$", r"\1", message).replace(" and ", " ")
    body = re.sub(r"(\S+) or (\S+)", _outside_of_streaming_mode, body)
    return frozenset(_our_name(word) for word in body.split())


def _outside_of_streaming_mode(either: re.Match[str]) -> str:
    return either[2] if either[1].startswith("sme") and not either[2].startswith("sme") else either[1]


def _our_name(name: str) -> str:
    try:
        return find("aarch64", _LLVM_NAMES.get(name, name)).name
    except UnknownNameError:
        return "other"


# --- learning


def tree(points: Sequence[Point], bits: tuple[int, ...], mask: int, value: int) -> Iterator[Row]:
    """Yield the rows that tell the points apart by some of the bits, but for those of the baseline."""
    labels = {label for _, label in points}
    if len(labels) == 1:
        (label,) = labels
        if label:
            yield mask, value, label
        return
    bit = _most_telling(points, bits)
    if bit is None:
        raise SystemExit(f"{value:#x} under {mask:#x}: {labels}")
    left = tuple(one for one in bits if one != bit)
    for side in (0, 1):
        half = [point for point in points if point[0] >> bit & 1 == side]
        if half:
            yield from tree(half, left, mask | 1 << bit, value | side << bit)


def _most_telling(points: Sequence[Point], bits: tuple[int, ...]) -> int | None:
    """Return the bit that tells most of the labels; of a pair, where no bit tells anything by itself."""
    sample = random.Random(1).sample(points, _SAMPLE) if len(points) > _SAMPLE else points
    whole = _entropy(Counter(label for _, label in sample).values())
    single = [(_left(sample, (bit,)), bit) for bit in bits if len({word >> bit & 1 for word, _ in points}) == 2]
    if not single:
        return None
    least, best = min(single)
    if whole - least > _LITTLE * whole:
        return best
    candidates = [bit for _, bit in single]
    pairs = [(_left(sample, (a, b)), a) for a in candidates for b in candidates if a < b]
    return min(pairs)[1] if pairs else best


def _left(points: Sequence[Point], bits: tuple[int, ...]) -> float:
    """Return the information, in bits, that the labels still hold where those bits of the words are known."""
    counts: defaultdict[tuple[int, ...], Counter[Label]] = defaultdict(Counter)
    for word, label in points:
        counts[tuple(word >> bit & 1 for bit in bits)][label] += 1
    return sum(sum(one.values()) * _entropy(one.values()) for one in counts.values()) / len(points)


def _entropy(counts: Iterable[int]) -> float:
    listed = list(counts)
    total = sum(listed)
    return -sum(one / total * math.log2(one / total) for one in listed)


def needs(rows: Sequence[Row], word: int) -> Label:
    """Return what the rows of the word's first byte say of it."""
    return next((label for mask, value, label in rows if word & mask == value), BASELINE)


# --- the table


def main() -> None:
    """Learn the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objdump", metavar="LLVM-OBJDUMP")
    parser.add_argument("mc", metavar="LLVM-MC")
    options = parser.parse_args()
    llvm = Llvm(options.objdump, options.mc)
    random.seed(1)
    survey = {first: llvm.labels(_words(first, _SURVEY)) for first in range(256) if first != SYSTEM}
    points = {first: _points(llvm, _systematic(first)) for first, labels in survey.items() if any(labels)}
    rows = {first: _rows(first, some) for first, some in points.items()}
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
    """Return words with every value of the bits that opcodes have, and some of Rn and Rd."""
    lows = [*_LOWS, random.getrandbits(10), random.getrandbits(10)]
    return [first << 24 | middle << 10 | low for middle in range(1 << 14) for low in lows]


def _points(llvm: Llvm, words: Sequence[int]) -> list[Point]:
    return [(word, label) for word, label in zip(words, llvm.labels(words), strict=True) if label is not None]


def _rows(first: int, points: Sequence[Point]) -> list[Row]:
    return list(tree(points, tuple(range(24)), 0xFF << 24, first << 24))


HEADER = """\
# Which 32-bit words of AArch64 code need which features: written by tools/aarch64_encodings.py from LLVM's disassembler and assembler.
#
# value, mask  the words that are this value under this mask, hexadecimal; no word is of two rows
# needs        features, all of them; `other`: something that has no feature of ours. Instructions of the baseline have no row, nor
#              have system instructions, which system.tsv has. Where SVE and SME both have an instruction, SVE is named.
#              `unallocated`: no instruction at all
# example      an instruction of the row
value\tmask\tneeds\texample
"""  # noqa: E501


def _lines(llvm: Llvm, rows: Sequence[Row], points: dict[int, list[Point]]) -> Iterator[str]:
    """Yield the rows as the table writes them, each with an instruction as its example."""
    examples = [
        next(word for word, label in points[value >> 24] if word & mask == value and label) for mask, value, _ in rows
    ]
    for (mask, value, label), text in zip(rows, llvm.texts(examples), strict=True):
        yield f"{value:08x}\t{mask:08x}\t{' '.join(sorted(label))}\t{text}"


if __name__ == "__main__":
    main()
