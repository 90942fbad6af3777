"""Generate ``data/aarch64/encodings.tsv``: which AArch64 instruction words need which features, according to LLVM.

    python tools/aarch64_encodings.py LIBLLVM

LIBLLVM is the shared library of an LLVM (Debian's package libllvm22), whose disassembler says of millions of 32-bit
words whether they are instructions with all features, and with those of the baseline. What the baseline lacks is passed
as assembly to ziglang's assembler, which reports ``instruction requires: lse``. For each first byte, a decision tree
over the other bits is grown: a cell, whose words share some bits, is divided by the bit that tells most until all words
tried in it have the same label. It is grown again with the words that it has wrong, among some with every value of the
bits above Rn and Rd, until there are none. This takes an hour. ``MSR``, ``SYS`` and hints are in ``system.tsv``,
because the disassembler accepts their numbers with any features.
"""

from __future__ import annotations

import argparse
import ctypes
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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Label = frozenset[str]
Point = tuple[int, Label]
"""A word, and the features that it needs above the baseline, or UNALLOCATED."""
Cell = tuple[int, int]
"""A mask and a value: the words that have this value under the mask."""
Row = tuple[int, int, Label, int]
"""A mask, a value, the label of the words that have this value under the mask, and one of these words."""

OUTPUT = ROOT / "data" / "aarch64" / "encodings.tsv"
BASELINE: Label = frozenset()
UNALLOCATED: Label = frozenset({"unallocated"})
SYSTEM = 0xD5
"""The first byte of system instructions."""
_REQUIRES = "instruction requires: "
_LLVM_NAMES = {"frint3264": "fptoint", "b16b16": "sve_b16b16"}
_ROUNDS = 12
_LOW = 0x041
"""A value of the fields Rn and Rd, used beside random ones: most encodings have no opcode bits there."""
_MOST_MISTAKES = 400
"""Words by which a tree is corrected at once."""
_TRIED = 512
"""Words of a cell that are tried."""
_AT_ONCE = 400
"""Cells whose words are passed to the disassembler together."""
_MIN_GAIN = 0.02
"""A fraction of the information; if no single bit yields more, the best pair of bits is searched."""
_TEXT = 256
"""Bytes for the text of an instruction."""
_EXAMPLES = 3
"""Texts of one shape that are passed to the assembler, until it says what it requires."""
_REGISTER = re.compile(r"\b([wxzpvbhsdq]|za|pn|zt)\d+")
_LIST = re.compile(r"\{ z(\d+)\.\w, z(\d+)")
_NUMBER = re.compile(r"#-?[\dx.a-f]+")


class Disassembler:
    """LLVM's disassembler for AArch64 with certain features."""

    def __init__(self, library: ctypes.CDLL, features: str) -> None:
        library.LLVMCreateDisasmCPUFeatures.restype = ctypes.c_void_p
        strings = [text.encode() for text in ("aarch64", "", features)]
        self._context = ctypes.c_void_p(library.LLVMCreateDisasmCPUFeatures(*strings, None, 0, None, None))
        self._disassemble = library.LLVMDisasmInstruction
        pointer, number = ctypes.c_void_p, ctypes.c_uint64
        self._disassemble.argtypes = (pointer, pointer, number, number, ctypes.c_char_p, ctypes.c_size_t)
        self._text = ctypes.create_string_buffer(_TEXT)

    def sizes(self, words: Sequence[int]) -> list[int]:
        """Return 4 for each word that is an instruction, and 0 for every other."""
        buffer, context, text, function = self._buffer(words), self._context, self._text, self._disassemble
        start = ctypes.addressof(buffer)
        return [function(context, at, 4, 0, text, 1) for at in range(start, start + 4 * len(words), 4)]

    def text(self, word: int) -> str:
        """Return a word as assembly, empty if it is no instruction."""
        size = self._disassemble(self._context, ctypes.addressof(self._buffer([word])), 4, 0, self._text, _TEXT)
        return re.sub(r"\s+", " ", self._text.value.decode().partition("//")[0].strip()) if size else ""

    @staticmethod
    def _buffer(words: Sequence[int]) -> ctypes.Array[ctypes.c_char]:
        return ctypes.create_string_buffer(struct.pack(f"<{len(words)}I", *words))


class Llvm:
    """LLVM's disassembler with all features and with the baseline's, and its assembler."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        for part in ("TargetInfo", "Target", "TargetMC", "Disassembler"):
            getattr(library, f"LLVMInitializeAArch64{part}")()
        self.all, self._base = Disassembler(library, "+all"), Disassembler(library, "+neon")
        self._requirements: dict[str, Label] = {}
        """The features that the instructions of each shape require."""

    def points(self, words: Sequence[int]) -> list[Point]:
        """Return the words with the features that each needs.

        The library does not tell unpredictable instructions from those that are none: most have equal registers, so
        such words are left out.
        """
        with_all, with_base = self.all.sizes(words), self._base.sizes(words)
        above = {word for word, size, base in zip(words, with_all, with_base, strict=True) if size and not base}
        shapes = {word: _shape(self.all.text(word)) for word in above}
        examples: defaultdict[str, list[str]] = defaultdict(list)
        for word, shape in shapes.items():
            if shape not in self._requirements and len(examples[shape]) < _EXAMPLES:
                examples[shape].append(self.all.text(word))
        self._ask(examples)
        points = []
        for word, size, base in zip(words, with_all, with_base, strict=True):
            if size:
                points.append((word, BASELINE if base else self._requirements[shapes[word]]))
            elif not _may_be_unpredictable(word):
                points.append((word, UNALLOCATED))
        return points

    def _ask(self, examples: Mapping[str, list[str]]) -> None:
        for number in range(_EXAMPLES):
            texts = {
                texts[number]: shape
                for shape, texts in examples.items()
                if len(texts) > number and not self._requirements.get(shape)
            }
            messages = _refused(list(texts))
            for text, shape in texts.items():
                message = messages.get(text, "")
                if message.startswith(_REQUIRES):
                    self._requirements[shape] = _needed(message.removeprefix(_REQUIRES))
                else:
                    self._requirements.setdefault(shape, BASELINE)


def _refused(texts: Sequence[str]) -> dict[str, str]:
    """Return the first message of the baseline's assembler about each text that it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "lines.s"
        source.write_text("\n".join(texts) + "\n")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu", "-ferror-limit=0"]
        command += ["-c", str(source), "-o", str(source.with_suffix(".o"))]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    messages: dict[str, str] = {}
    for number, message in re.findall(r"lines\.s:(\d+):\d+: error: (.*)$", answer, re.MULTILINE):
        messages.setdefault(texts[int(number) - 1], message)
    return messages


def _shape(text: str) -> str:
    """Return the text of an instruction without the numbers of registers and of immediate operands.

    The distance of the registers in a list is kept: LD1 of distant ones is another instruction.
    """
    distances = [(int(second) - int(first)) % 32 for first, second in _LIST.findall(text)]
    return _NUMBER.sub("#", _REGISTER.sub(r"\1", text)) + "".join(f" {distance}" for distance in distances)


def _may_be_unpredictable(word: int) -> bool:
    """Whether two of the fields that usually hold the numbers of registers are equal."""
    fields = [word >> at & 31 for at in (0, 5, 10, 16)]
    return len({*fields}) < len(fields)


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


def grow(llvm: Llvm, firsts: Iterable[int], known: Mapping[int, Sequence[Point]]) -> dict[int, list[Row]]:
    """Return the rows of the trees for some first bytes, none for the baseline; ``known``: more words of each."""
    rows: dict[int, list[Row]] = {first: [] for first in firsts}
    cells: list[Cell] = [(0xFF << 24, first << 24) for first in rows]
    while cells:
        following: list[Cell] = []
        for at in range(0, len(cells), _AT_ONCE):
            batch = cells[at : at + _AT_ONCE]
            points = llvm.points([word for cell in batch for word in _words_in(cell)])
            by_cell = _divided(points, batch)
            for mask, value in batch:
                inside = by_cell[value]
                inside += [point for point in known.get(value >> 24, ()) if point[0] & mask == value]
                labels = {label for _, label in inside}
                bit = _best_bit(inside, mask) if len(labels) > 1 else None
                if bit is not None:
                    following += [(mask | 1 << bit, value), (mask | 1 << bit, value | 1 << bit)]
                elif labels and BASELINE not in labels:
                    rows[value >> 24].append((mask, value, labels.pop(), inside[0][0]))
        cells = following
    return rows


def _words_in(cell: Cell) -> Iterator[int]:
    """Yield words of a cell: random ones, half of them with fields that are all zeros or ones."""
    mask, value = cell
    for number in range(_TRIED):
        word = random.getrandbits(32)
        for at in (0, 5, 10, 16) if number % 2 else ():
            kind = random.getrandbits(2)
            if kind < 2:
                word = word & ~(31 << at) | (31 << at if kind else 0)
        yield word & ~mask | value


def _divided(points: Iterable[Point], cells: Sequence[Cell]) -> dict[int, list[Point]]:
    """Return the points in each cell, by its value; cells are apart, and no two of the same value."""
    masks = sorted({mask for mask, _ in cells})
    of_mask = {mask: {value for other, value in cells if other == mask} for mask in masks}
    by_cell: dict[int, list[Point]] = {value: [] for _, value in cells}
    for point in points:
        for mask in masks:
            if point[0] & mask in of_mask[mask]:
                by_cell[point[0] & mask].append(point)
                break
    return by_cell


def _best_bit(points: Sequence[Point], mask: int) -> int | None:
    """Return the bit that best separates the labels; if no bit does by itself, the first of the best pair."""
    whole = _entropy(Counter(label for _, label in points).values())
    bits = [bit for bit in range(24) if not mask >> bit & 1]
    varying = [bit for bit in bits if len({word >> bit & 1 for word, _ in points}) == 2]
    if not varying:
        return None
    lowest, best = min((_conditional_entropy(points, (bit,)), bit) for bit in varying)
    if whole - lowest > _MIN_GAIN * whole:
        return best
    pairs = [(_conditional_entropy(points, (a, b)), a) for a in varying for b in varying if a < b]
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


def mistakes(llvm: Llvm, first: int, rows: Sequence[Row]) -> list[Point]:
    """Return words of which the rows of their first byte are wrong, among some with every value of the middle bits."""
    words = [first << 24 | middle << 10 | low for middle in range(1 << 14) for low in (_LOW, random.getrandbits(10))]
    wrong = [(word, label) for word, label in llvm.points(words) if label_of(rows, word) != label]
    return random.sample(wrong, min(len(wrong), _MOST_MISTAKES))


def label_of(rows: Sequence[Row], word: int) -> Label:
    """Return the label of a word according to the rows of its first byte."""
    return next((label for mask, value, label, _ in rows if word & mask == value), BASELINE)


# --- the table


def main() -> None:
    """Learn the rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", metavar="LIBLLVM")
    llvm = Llvm(parser.parse_args().library)
    random.seed(1)
    every = [first for first in range(256) if first != SYSTEM]
    llvm.points([word for first in every for word in _words_in((0xFF << 24, first << 24))])
    rows = grow(llvm, every, {})
    known: defaultdict[int, list[Point]] = defaultdict(list)
    doubtful = set(every)
    for number in range(_ROUNDS):
        wrong = {first: mistakes(llvm, first, rows[first]) for first in sorted(doubtful)}
        doubtful = {first for first, points in wrong.items() if points}
        for first in doubtful:
            known[first] += wrong[first]
        counts = (sum(map(len, rows.values())), sum(map(len, wrong.values())), len(doubtful))
        sys.stderr.write("round {}: {} rows, {} words wrong, of {} first bytes\n".format(number + 1, *counts))
        if not doubtful:
            break
        rows |= grow(llvm, doubtful, known)
    OUTPUT.write_text("\n".join([HEADER, *_lines(llvm, rows)]) + "\n")


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


def _lines(llvm: Llvm, rows: Mapping[int, Sequence[Row]]) -> Iterator[str]:
    """Yield the lines of the table, each with an instruction as an example."""
    for first in sorted(rows):
        for mask, value, label, word in joined(rows[first]):
            example = "-" if label == UNALLOCATED else llvm.all.text(word)
            yield f"{value:08x}\t{mask:08x}\t{' '.join(sorted(label))}\t{example}"


def joined(rows: Iterable[Row]) -> list[Row]:
    """Return fewer rows: two that differ only in one bit of the value become one."""
    by_cell = {(mask, value): (label, word) for mask, value, label, word in rows}
    waiting = sorted(by_cell)
    while waiting:
        mask, value = waiting.pop()
        bits = [1 << bit for bit in range(24) if mask >> bit & 1]
        label, word = by_cell.get((mask, value), (None, 0))
        pair = next((bit for bit in bits if label and by_cell.get((mask, value ^ bit), (None, 0))[0] == label), 0)
        if label and pair:
            del by_cell[mask, value], by_cell[mask, value ^ pair]
            by_cell[mask & ~pair, value & ~pair] = (label, word)
            waiting.append((mask & ~pair, value & ~pair))
    return sorted(((mask, value, *entry) for (mask, value), entry in by_cell.items()), key=lambda row: row[1])


if __name__ == "__main__":
    main()
