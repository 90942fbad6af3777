"""The requirements of x86 opcodes against GNU's assembler: accepted with those features, refused without one."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from helpers.requirements import tool
from helpers.x86_encodings import examples
from iced_x86 import (
    Code,
    CpuidFeature,
    Decoder,
    EncodingKind,
    Formatter,
    FormatterSyntax,
    Instruction,
    Mnemonic,
    OpCodeInfo,
)

from cpufeat import tables
from cpufeat.auditing.decoding.opcodes_x86 import baseline, of_cpuid_feature, requirement
from cpufeat.auditing.formats.loader import images
from cpufeat.errors import UnknownNameError
from cpufeat.features import FeatureSet, find

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpufeat.auditing.decoding.requirements import Requirement

Needs = dict["Requirement | None", list[str]]
BASELINE = FeatureSet("x86_64", baseline("x86_64"))
CODES = {value: name for name, value in vars(Code).items() if name.isupper()}
CPUID_FEATURES = {value: name for name, value in vars(CpuidFeature).items() if name.isupper()}
MNEMONICS = {name.lower() for name in vars(Mnemonic) if name.isupper()}
ENCODINGS = {EncodingKind.VEX: "{vex} ", EncodingKind.EVEX: "{evex} "}
"""Prefixes that make GNU as pick one of two encodings of the same text."""
X87 = ("8087", "287", "387", "687")
NO_NAME = re.compile("fisttp")
"""GNU as accepts it for certain CPUs only, and has no name for its feature."""
SLOT = 32
"""Bytes from one instruction to the next, so that each has a known address."""


@pytest.fixture(scope="module")
def encodings() -> dict[int, bytes]:
    return examples(64)


def decodable(bits: int) -> set[int]:
    """Return the opcodes that iced-x86 decodes without options for rare CPUs."""
    opcodes = ((code, OpCodeInfo(code)) for code in CODES)
    mode = f"mode{bits}"
    return {code for code, info in opcodes if info.is_instruction and getattr(info, mode) and not info.decoder_option}


def cpuid_features(codes: set[int]) -> set[str]:
    features: set[str] = set()
    for code in codes:
        instruction = Instruction()
        instruction.code = code  # type: ignore[assignment]
        features.update(CPUID_FEATURES[feature] for feature in instruction.cpuid_features())
    return features


@pytest.mark.parametrize(("arch", "bits"), [("x86_64", 64), ("i686", 32)])
def test_every_feature_of_the_decoder_is_known(arch: str, bits: int) -> None:
    unknown = set()
    for name in cpuid_features(decodable(bits)):
        try:
            of_cpuid_feature(arch, name)
        except UnknownNameError:
            unknown.add(name)
    assert unknown == set()


def test_every_row_names_something_that_iced_x86_knows() -> None:
    subjects = {row[0] for row in tables.rows("x86/decoder.tsv")} | {row[0] for row in tables.rows("x86/harmless.tsv")}
    spelled = {name for row in tables.rows("x86/features.tsv") for name in re.findall(r"iced=(\w+)", row[5])}
    assert (subjects | spelled) - MNEMONICS <= set(CPUID_FEATURES.values())


# --- GNU as


@pytest.fixture(scope="module")
def gas() -> str:
    return tool("as")


@pytest.fixture(scope="module")
def names(gas: str) -> dict[str, str]:
    """Our names of the features that this assembler knows -> its names."""
    usage = subprocess.run([gas, "--help"], capture_output=True, text=True, check=True).stdout
    listed = re.search(r"EXTENSION is combination of[^:]*:(.*?)-mtune", usage, re.S)
    if not listed:
        pytest.skip("this assembler is not for x86")
    known = {}
    for name in re.findall(r"[\w.]+", listed[1]):
        try:
            known[find("x86_64", name).name] = name
        except UnknownNameError:
            continue
    return known


def assemble(gas: str, lines: list[str], march: str | None, output: str = "/dev/null") -> set[int]:
    """Assemble each line at a known address; return the indices of the lines that are refused."""
    options = [] if march is None else [f"-march={march}"]
    command = [gas, "--64", *options, "-o", output, "-"]
    text = "".join(f"{line}; .balign {SLOT}\n" for line in lines)
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return {int(number) - 1 for number in re.findall(r"^\{standard input\}:(\d+): Error", result.stderr, re.M)}


@pytest.fixture(scope="module")
def by_need(gas: str, encodings: dict[int, bytes], tmp_path_factory: pytest.TempPathFactory) -> Needs:
    """Requirement -> instructions with it, as text that the assembler encodes as the same opcode again."""
    formatter = Formatter(FormatterSyntax.GAS)
    lines = {}
    for code, encoding in encodings.items():
        text = formatter.format(Decoder(64, encoding, ip=0x1000).decode())
        lines[code] = ENCODINGS.get(OpCodeInfo(code).encoding, "") + text  # type: ignore[arg-type]
    wrong = assemble(gas, list(lines.values()), None)
    kept = [code for index, code in enumerate(lines) if index not in wrong]
    built = tmp_path_factory.mktemp("gas") / "all.o"
    assert assemble(gas, [lines[code] for code in kept], None, str(built)) == set()
    (image,) = images(built)
    grouped = defaultdict(list)
    for index, code in enumerate(kept):
        if Decoder(64, image.bytes_at(index * SLOT, SLOT)).decode().code == code:
            grouped[requirement("x86_64", code)].append(lines[code])
    return grouped


def march(names: dict[str, str], features: Iterable[str]) -> str:
    return "+".join(["generic64", *X87, *sorted(names[name] for name in features if name in names)])


def test_gas_accepts_instructions_with_the_features_that_they_require(
    gas: str, names: dict[str, str], by_need: Needs
) -> None:
    wrong, checked = [], 0
    for need, texts in by_need.items():
        features = need.features if need else frozenset()
        if features <= names.keys() and not (need and (need.other or need.harmless)):
            bad = assemble(gas, texts, march(names, FeatureSet("x86_64", features).closed() | BASELINE))
            wrong += [(sorted(features), texts[index]) for index in bad if not NO_NAME.match(texts[index])]
            checked += len(texts)
    assert "\n".join(map(str, wrong)) == ""
    assert checked > 3000


def test_gas_refuses_instructions_without_one_of_those_features(
    gas: str, names: dict[str, str], by_need: Needs
) -> None:
    wrong, checked = [], 0
    for need, texts in by_need.items():
        for name in names.keys() & (need.features if need else ()):
            others = (FeatureSet("x86_64", need.features).closed() | BASELINE).without([name])
            bad = assemble(gas, texts, march(names, others))
            wrong += [(name, text) for index, text in enumerate(texts) if index not in bad]
            checked += len(texts)
    assert "\n".join(map(str, wrong)) == ""
    assert checked > 2000
