"""Objects that this process did not make are decoded and examined before they are linked into it."""

from __future__ import annotations

import ctypes
import struct

import pytest

from cpufeat import Target, aot, detect
from cpufeat.aot import provenance
from cpufeat.aot.artifact import Variant
from cpufeat.aot.objects.elf import Elf
from cpufeat.errors import ArtifactError, MissingFeaturesError
from cpufeat.features import FeatureSet

pytest.importorskip("llvmlite")
COUNT = """
declare i64 @llvm.ctpop.i64(i64)
declare i64 @other(i64)
@data = global i64 7
@constants = internal constant [2 x ptr] [ptr @count, ptr @data]
define i64 @count(i64 %word) uwtable { %v = load i64, ptr @data
%sum = add i64 %v, %word
%bits = call i64 @llvm.ctpop.i64(i64 %sum)
ret i64 %bits }
define ptr @table() uwtable { ret ptr @constants }
"""
V2 = Target.parse("x86-64-v2", "x86_64-unknown-linux-gnu")
BASELINE = Target.parse("x86-64", "x86_64-unknown-linux-gnu")


@pytest.fixture(autouse=True)
def strangers(monkeypatch):
    """Forget what this process compiled, as another process does."""
    monkeypatch.setattr(provenance, "_own", {})


def reopened(artifact: aot.Artifact) -> aot.Artifact:
    provenance._own.clear()
    return aot.Artifact.open(artifact.object)


@pytest.mark.parametrize("targets", [["x86-64-v2"], ["x86-64-v3", "x86-64-v2"]], ids=len)
@pytest.mark.parametrize("dispatch", ["ifunc", "pointer"])
def test_the_artifact_of_another_process_is_loaded(targets, dispatch):
    artifact = reopened(aot.compile(COUNT, targets=targets, dispatch=dispatch if len(targets) > 1 else None))
    library = artifact.load()
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library["count"])(8) == 4


def test_code_that_its_note_denies_is_refused():
    artifact = aot.compile(COUNT, V2)
    tampered = artifact.replace(variants=(Variant(V2, FeatureSet("x86_64", ())),))
    with pytest.raises(ArtifactError, match="its code uses popcnt, which its note denies"):
        tampered.load()
    host = detect()
    with pytest.raises(MissingFeaturesError, match=r"whatever its note says, needs .*popcnt"):
        tampered.load(host.replace(features=host.features.without(("popcnt",))))


def test_code_of_other_variants_and_behind_checks_does_not_count():
    artifact = reopened(aot.compile(COUNT, targets=["x86-64-v2", "x86-64"]))
    host = detect()
    assert artifact.load(host.replace(features=BASELINE.features))["count"]


def test_code_that_the_decoder_does_not_know_is_loaded_only_if_this_process_compiled_it():
    module = 'define void @f() { call void asm sideeffect ".byte 0x06", ""()\nret void }'
    artifact = aot.compile(module, BASELINE)
    assert artifact.load()["f"]
    with pytest.raises(ArtifactError, match=r"the decoder does not know its code at \.text"):
        reopened(artifact).load()


def edited(code: bytes, section: bytes, at: int, layout: str, value: int) -> bytes:
    """An object with a number changed, at an offset of a section, or of the header of one if that is negative."""
    elf = Elf(code)
    index = next(i for i, each in enumerate(elf.sections) if elf.names().startswith(section + b"\0", each.name))
    start = elf.header.shoff + index * 64 - at if at < 0 else elf.sections[index].offset + at
    body = bytearray(code)
    struct.pack_into(f"<{layout}", body, start, value)
    return bytes(body)


DAMAGE = [
    (b".text", -48, "Q", 260, "alignment|is aligned to 260"),
    (b".text", -16, "Q", 64, "a section has an address"),
    (b".text", -32, "Q", 1 << 40, "lies outside"),
    (b".rela.text", 0, "Q", 1 << 20, "a relocation lies outside of its section"),
    (b".rela.text", 0, "Q", 0, "a relocation lies outside of its section"),
    (b".rela.text", 8, "I", 99, "a relocation has the type 99"),
    (b".rela.text", 12, "I", 9999, "a symbol that does not exist"),
    (b".rela.text", 12, "I", 0, "a symbol that does not exist"),
    (b".rela.text", -44, "I", 0, "outside of its section|has no content"),
    (b".eh_frame", 0, "I", 7, "no possible length"),
    (b".eh_frame", 4, "I", 9, "of no function"),
    (b".eh_frame", 8, "B", 4, "of an unknown form"),
    (b".eh_frame", 16, "B", 0x55, "of an unknown form"),
]


@pytest.mark.parametrize(("section", "at", "layout", "value", "message"), DAMAGE)
def test_a_damaged_object_is_refused_before_llvm_sees_it(section, at, layout, value, message):
    code = aot.compile(COUNT, V2, guard=False).object
    with pytest.raises(ArtifactError, match=message):
        reopened(aot.Artifact.open(code).replace(object=edited(code, section, at, layout, value))).load()


@pytest.mark.parametrize(
    ("field", "layout", "value", "message"),
    [
        (4, "B", 0x1D, "has the type 13"),
        (4, "B", 0x32, "has the binding 3"),
        (6, "H", 99, "a section that does not exist"),
        (8, "Q", 1 << 30, "lies outside of its section"),
        (16, "Q", 1 << 30, "lies outside of its section"),
        (0, "I", 0, "has no name"),
    ],
)
def test_a_damaged_symbol_is_refused_before_llvm_sees_it(field, layout, value, message):
    code = aot.compile(COUNT, V2, guard=False).object
    symbols = Elf(code).all_symbols()
    body = bytearray(code)
    at = next(symbol.at for symbol in symbols if symbol.name == "count")
    struct.pack_into(f"<{layout}", body, at + field, value)
    with pytest.raises(ArtifactError, match=message):
        reopened(aot.Artifact.open(code).replace(object=bytes(body))).load()
