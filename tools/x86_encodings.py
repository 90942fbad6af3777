"""Generate ``data/x86/encodings.tsv``: the x86 instructions that iced-x86 does not know, according to GNU binutils.

    python tools/x86_encodings.py AS OBJDUMP

AS and OBJDUMP are those of the newest binutils. Of every prefix, map, opcode and kind of operand, ``objdump`` says
whether there is an instruction. Where iced-x86 knows none, the text is passed to ``as``, which must encode it as the
same opcode, and then once with each extension, to find out which it requires. This takes some minutes. Instructions of
extensions that have no row in ``features.tsv`` are left out: nobody could say what runs them.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from iced_x86 import Decoder

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cpufeat.auditing.decoding.apx import plain  # noqa: E402
from cpufeat.auditing.formats.loader import images  # noqa: E402
from cpufeat.errors import UnknownNameError  # noqa: E402
from cpufeat.features import FeatureSet, find  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

OUTPUT = ROOT / "data" / "x86" / "encodings.tsv"
REGISTER, MEMORY = "register", "memory"
_MANDATORY = (b"", b"\x66", b"\xf3", b"\xf2")
_PP = ("-", "66", "f3", "f2")
_ESCAPE = b"\x0f\x38"
_TAIL = b"\x51\x51\x51\x51\x51"
"""SIB after a ModRM with memory, and an immediate operand for which no instruction has another name."""
_SLOT = 16
"""Bytes from one candidate to the next."""
_BAD = re.compile(r"\(bad\)|\{bad|\.byte|^(rep|repz|repnz|data16|addr32|lock|cs|ds|es|fs|gs|ss|rex\S*|notrack|bnd)\b")
_OPTIONAL_OPERANDS = ((0, 0xF), (0, 6), (1, 0xF), (1, 6))
"""Mask register and ``vvvv``."""
_X87 = "8087+287+387+687"
_STORE = "{store} "
"""Asks for the second encoding of an instruction that copies a register."""
_INTEL = ("-mmnemonic=intel", "-msyntax=intel", "-mnaked-reg")
_NAMES = {"user_msr": "usermsr", "apx_f": "egpr"}
"""Names of the assembler that are no spelling of ours."""
_PAIRED = (
    *("amx_avx512", "amx_bf16", "amx_complex", "amx_fp16", "amx_movrs", "amx_tf32", "amx_transpose"),
    *("avx10_2", "egpr", "movrs", "sm4", "usermsr"),
)
"""Features of which an instruction may need two."""


class Key(NamedTuple):
    """What of an encoding selects an instruction."""

    prefix: str
    """``EVEX``, ``VEX`` or ``legacy``."""
    opcode_map: int
    pp: int
    w: int
    opcode: int
    length: int
    """L, the number of the vector length."""
    operand: str
    """``register`` or ``memory``."""
    digit: int
    """ModRM's ``reg``."""


def encodings(key: Key) -> Iterator[bytes]:
    """Yield encodings of a key."""
    modrm = bytes([(0xC1 if key.operand == REGISTER else 0x04) | key.digit << 3])
    rest = bytes([key.opcode]) + modrm + _TAIL
    if key.prefix == "legacy":
        rex = b"\x48" if key.w else b""
        yield _MANDATORY[key.pp] + rex + _ESCAPE + rest
    for mask, vvvv in _OPTIONAL_OPERANDS:
        fields = key.w << 7 | vvvv << 3 | key.pp
        if key.prefix == "EVEX":
            yield bytes([0x62, 0xF0 | key.opcode_map, fields | 4, key.length << 5 | 8 | mask]) + rest
        if key.prefix == "VEX" and not mask:
            yield bytes([0xC4, 0xE0 | key.opcode_map, fields | key.length << 2]) + rest


def keys(opcodes: Iterable[tuple[str, int, int, int, int]] | None = None) -> Iterator[Key]:
    """Yield the keys of some opcodes; None: few keys of every opcode, to find those that have instructions."""
    lengths = {"EVEX": range(3), "VEX": range(2), "legacy": range(1)}
    operands, digits = (REGISTER, MEMORY), range(8)
    if opcodes is None:
        kinds = [("EVEX", number) for number in range(1, 8)] + [("VEX", number) for number in range(1, 8)]
        kinds.append(("legacy", 2))
        opcodes = ((*kind, pp, w, code) for kind in kinds for pp in range(4) for w in (0, 1) for code in range(256))
        lengths, digits = {**lengths, "EVEX": range(0, 3, 2)}, range(0, 8, 3)
    for prefix, opcode_map, pp, w, opcode in opcodes:
        for length, operand, digit in itertools.product(lengths[prefix], operands, digits):
            yield Key(prefix, opcode_map, pp, w, opcode, length, operand, digit)


def is_known(code: bytes) -> bool:
    """Whether the decoder has the first instruction of code without this table."""
    if Decoder(64, code).decode().code:
        return True
    without_apx = plain(code)
    return bool(without_apx and Decoder(64, without_apx.code).decode().code)


def disassembled(objdump: str, codes: list[bytes]) -> list[str]:
    """Return each first instruction of some pieces of code as assembly, empty if it is none."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(code[:_SLOT].ljust(_SLOT, b"\x90") for code in codes))
        file.flush()
        options = ["-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "-w", "--no-show-raw-insn"]
        output = subprocess.run([objdump, *options, file.name], capture_output=True, text=True, check=True).stdout
    texts = [""] * len(codes)
    for address, text in re.findall(r"^ *([0-9a-f]+):\t(.*)$", output, re.MULTILINE):
        if int(address, 16) % _SLOT == 0:
            texts[int(address, 16) // _SLOT] = "" if _BAD.search(text.strip()) else " ".join(text.split())
    return texts


def found(objdump: str, candidates: Iterable[Key]) -> dict[Key, str]:
    """Return the keys of instructions that the decoder does not know, and an example of each."""
    asked = [(key, code) for key in candidates for code in encodings(key) if not is_known(code)]
    texts = disassembled(objdump, [code for _, code in asked])
    examples: dict[Key, str] = {}
    for (key, _), text in zip(asked, texts, strict=True):
        if text:
            examples.setdefault(key, text)
    return examples


# --- what they require


class Assembler:
    """GNU's assembler, whose ``-march`` takes the names of extensions."""

    def __init__(self, path: str) -> None:
        self.path = path
        usage = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout
        listed = re.search(r"EXTENSION is combination of[^:]*:(.*?)-mtune", usage, re.S)
        self.extensions: dict[str, str] = {}
        """Our name of each feature -> the assembler's."""
        for name in re.findall(r"[\w.]+", listed[1]) if listed else ():
            try:
                self.extensions[find("x86_64", _NAMES.get(name, name)).name] = name
            except UnknownNameError:
                continue

    def accepted(self, texts: Sequence[str], features: Iterable[str] | None, output: str = "/dev/null") -> set[str]:
        """Return the texts that are accepted with those features; None: with all there are."""
        names = [self.extensions[feature] for feature in (self.extensions if features is None else features)]
        march = "+".join(["generic64", _X87, *names])
        command = [self.path, "--64", f"-march={march}", *_INTEL, "-o", output, "-"]
        source = "".join(f"{text}; .balign {_SLOT}\n" for text in texts)
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        refused = {int(number) - 1 for number in re.findall(r"^\{standard input\}:(\d+): Error", done.stderr, re.M)}
        return {text for index, text in enumerate(texts) if index not in refused}

    def encodings(self, texts: Iterable[str]) -> dict[str, bytes]:
        """Return the encoding of each text that is accepted with all features, and what follows it."""
        kept = sorted(self.accepted(sorted(texts), None))
        with tempfile.TemporaryDirectory() as folder:
            output = str(Path(folder) / "all.o")
            self.accepted(kept, None, output)
            (image,) = images(output)
        return {text: image.bytes_at(index * _SLOT, _SLOT) for index, text in enumerate(kept)}


def selecting(code: bytes) -> tuple[int, ...]:
    """Return the fields of an encoding that select an instruction: prefix, map, pp, W, L, opcode, and ModRM's reg."""
    if code[0] == 0x62:
        return 0x62, code[1] & 7, code[2] & 0x83, code[3] & 0x60, code[4], code[5] & 0x38
    if code[0] == 0xC5:
        return 0xC4, 1, code[1] & 7, code[2], code[3] & 0x38
    if code[0] == 0xC4:
        return 0xC4, code[1] & 31, code[2] & 0x87, code[3], code[4] & 0x38
    opcode = code.index(0x38) + 1 if 0x38 in code else 4
    return *code[: opcode + 1], code[opcode + 1] & 0x38


def requirements(assembler: Assembler, texts: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return the fewest features that each instruction needs, without those that they imply; the lowest of several."""
    waiting = sorted(set(texts) - assembler.accepted(sorted(texts), ()))
    needs = {}
    for count in (1, 2):
        enough: defaultdict[str, set[frozenset[str]]] = defaultdict(set)
        names = assembler.extensions if count == 1 else _PAIRED
        for features in itertools.combinations(sorted(names), count):
            for text in assembler.accepted(waiting, features):
                enough[text].add(frozenset(features))
        for text, sets in enough.items():
            closed = {features: FeatureSet("x86_64", features).closed().names for features in sets}
            lowest = min(sets, key=lambda features: (len(closed[features]), sorted(features)))
            needs[text] = lowest
        waiting = sorted(set(waiting) - needs.keys())
    return needs


def rows(examples: Mapping[Key, str], needs: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield the lines of the table: the keys of one instruction that differ in little are one row."""
    grouped: defaultdict[tuple[Key, str, str], list[Key]] = defaultdict(list)
    is_general = {}
    for key, text in sorted(examples.items()):
        if text in needs:
            mnemonic, first = text.removeprefix("{evex} ").split()[:2]
            group = key._replace(length=0, digit=0), " ".join(sorted(needs[text])), mnemonic
            grouped[group].append(key)
            is_general[group] = first[0] in "er"
    for group, members in sorted(grouped.items()):
        key, features, mnemonic = group
        lengths = "".join(sorted({str(member.length) for member in members}))
        digits = {str(member.digit) for member in members}
        opcode = (key.prefix, str(key.opcode_map), _PP[key.pp], str(key.w), f"{key.opcode:02x}")
        reg = digits.pop() if len(digits) == 1 else "general" if is_general[group] else "*"
        operands = (lengths, key.operand, reg)
        yield "\t".join((*opcode, *operands, features, mnemonic))


HEADER = """\
# The x86 instructions that iced-x86 does not know: generated by tools/x86_encodings.py with GNU binutils.
#
# prefix     EVEX, VEX or legacy
# map        of opcodes: 1 is 0F, 2 is 0F38, 3 is 0F3A; of the legacy maps, only 0F38 has new ones
# pp         the mandatory prefix, hexadecimal, or `-`
# w          the bit W of the prefix, or of REX
# opcode     hexadecimal
# l          the vector lengths (0: 128 bits, 1: 256, 2: 512) that there are, as digits
# operand    `register` or `memory`: what ModRM's `rm` names
# reg        the value of ModRM's `reg`; `general` where it is a general register, `*` where it is another one
# needs      the features that it needs, without those that they imply
# mnemonic   that of Intel's syntax
prefix\tmap\tpp\tw\topcode\tl\toperand\treg\tneeds\tmnemonic
"""


def main() -> None:
    """Find the instructions and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assembler", metavar="AS")
    parser.add_argument("objdump", metavar="OBJDUMP")
    options = parser.parse_args()
    coarse = found(options.objdump, keys())
    opcodes = sorted({key[:5] for key in coarse})
    sys.stderr.write(f"{len(coarse)} encodings, {len(opcodes)} opcodes\n")
    examples = found(options.objdump, keys(opcodes))
    assembler = Assembler(options.assembler)
    texts = {*examples.values()}
    codes = assembler.encodings(texts | {_STORE + text for text in texts})
    same = {
        key: text
        for key, text in examples.items()
        for other in (text, _STORE + text)
        if other in codes and selecting(codes[other]) in map(selecting, encodings(key))
    }
    lines = rows(same, requirements(assembler, {*same.values()}))
    OUTPUT.write_text("\n".join([HEADER, *lines]) + "\n")


if __name__ == "__main__":
    main()
