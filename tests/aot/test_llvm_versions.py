"""What depends on the version of LLVM, with each in turn: the worker may be another interpreter than the caller."""

from __future__ import annotations

import pytest
from helpers.llvm_workers import ADD, compile_quietly, end_worker, use_llvm_of
from helpers.object_inspection import EVEX, LEGACY, VEX, decoded, encodings, section, symbols

from cpufeat import CompileError, CpufeatWarning, Target, aot

WITHOUT_AVX = Target.parse("haswell-avx")


@pytest.fixture(scope="module", autouse=True)
def worker(llvm_python):
    """A worker with that LLVM."""
    with pytest.MonkeyPatch.context() as patch:
        use_llvm_of(llvm_python, patch)
        yield
    end_worker()


@pytest.mark.parametrize(
    "own",
    [
        '"target-features"="+sse4.2"',
        '"target-features"=""',
        '"target-features"',
        r'"target\2Dfeatures"="+sse4.2"',
        '"target-cpu"="skylake-avx512"',
        '"tune-cpu"="skylake-avx512" "target-features"="+avx512f"',
        'nounwind "x"="\\22target-cpu\\22=" "target-cpu"="znver4" "y"',
        "#7",
        "",
    ],
)
def test_no_spelling_of_target_attributes_brings_instructions_above_the_target(own):
    """Every LLVM, every spelling: not one instruction above the target."""
    group = '\nattributes #7 = { uwtable "target-cpu"="skylake-avx512" "target-features"="+avx512f,+fma" }\n'
    emitted = compile_quietly(ADD.replace("GROUP", own) + (group if own == "#7" else ""), WITHOUT_AVX)
    assert encodings(emitted.object) == {LEGACY}


@pytest.mark.parametrize(("request_", "expected"), [("x86-64-v3", VEX), ("x86-64-v4", EVEX)])
def test_a_function_that_requests_less_is_compiled_for_the_target(request_, expected):
    module = ADD.replace("GROUP", '"target-cpu"="x86-64" "target-features"="+sse2,-avx"')
    assert expected in encodings(aot.compile(module, Target.parse(request_)).object)


def test_text_that_looks_like_target_attributes_is_not_changed():
    """Names, data, metadata, inline assembly and comments that look like the attributes come through."""
    data = r"attributes #0 = { \22target-cpu\22=\22haswell\22 }"
    module = f"""
    ; attributes #0 = {{ "target-cpu"="haswell" }}
    module asm ".globl from_asm_target_cpu"
    module asm ".set from_asm_target_cpu, 7"
    @data = constant [42 x i8] c"{data}"
    define void @"target-cpu"() "target-cpu"="haswell" {{ ret void }}
    !named = !{{!0}}
    !0 = !{{!"target-cpu", !"attributes #0 = {{ \\22target-cpu\\22=\\22haswell\\22 }}"}}
    """
    emitted = compile_quietly(module, WITHOUT_AVX, guard=False).object
    assert section(emitted, ".rodata") == b'attributes #0 = { "target-cpu"="haswell" }'
    assert {"target-cpu", "from_asm_target_cpu"} <= symbols(emitted)


ABORTS = {
    14: ("skylake-avx512", "x86-64-v3", "%r = shl <3 x i1> %a, %b", "<3 x i1>"),
    15: ("skylake-avx512", "x86-64-v3", "%r = shl <3 x i1> %a, %b", "<3 x i1>"),
    20: ("sapphirerapids", "x86-64-v4", "%r = uitofp <3 x i128> %a to <3 x half>", "<3 x i128>"),
    22: ("sapphirerapids", "x86-64-v4", "%r = uitofp <3 x i128> %a to <3 x half>", "<3 x i128>"),
}
"""Faults of each LLVM, found by trying: it aborts for the first CPU, and not for the second."""


def aborting(llvm_version):
    high, low, body, type_ = ABORTS[llvm_version]
    result = "<3 x half>" if "half" in body else type_
    module = f"""
    define i32 @fine(i32 %a) {{ ret i32 %a }}
    define {result} @culprit({type_} %a, {type_} %b) {{ {body}
      ret {result} %r }}
    define void @fine_too() {{ ret void }}
    """
    return module, Target.parse(high), low


def test_code_that_aborts_at_the_target_is_compiled_for_the_level_below(llvm_version):
    module, target, low = aborting(llvm_version)
    with pytest.warns(CpufeatWarning, match=f"{target.cpu}: LLVM failed .* compiled for {low} instead") as warned:
        artifact = aot.compile(module, target, opt=0)
    assert artifact.target.cpu == low
    assert artifact.target <= target
    assert {decision.kind for decision in artifact.decisions} == {"fallback"}
    assert artifact.decisions[0].subject == target.cpu
    assert "SIGABRT: " in artifact.decisions[0].evidence
    assert len(warned) == 1
    assert aot.Artifact.open(artifact.object) == artifact
    assert {"fine", "culprit", "fine_too"} <= symbols(artifact.object)


def test_code_that_aborts_at_every_level_is_an_error_that_names_the_function(llvm_version):
    module, target, _ = aborting(llvm_version)
    with pytest.raises(CompileError, match=f"function culprit: .* SIGABRT: .* \\(for {target.cpu}\\)") as caught:
        aot.compile(module, target, opt=0, on_missing="error")
    assert caught.value.function == "culprit"


def test_the_artifact_names_its_llvm(llvm_version):
    assert aot.compile("", Target.parse("x86-64")).llvm.split(".")[0] == str(llvm_version)


@pytest.mark.parametrize("opt", [0, 1, 2, 3])
def test_the_optimization_level_decides_what_is_inlined(opt):
    """What must be inlined is at every level, what may be from 1 upward."""
    module = """
    define internal i32 @must(i32 %a) alwaysinline { %r = mul i32 %a, 7
      ret i32 %r }
    define internal i32 @may(i32 %a) { %r = mul i32 %a, 11
      ret i32 %r }
    define i32 @caller(i32 %a) { %b = call i32 @must(i32 %a)
      %c = call i32 @may(i32 %b)
      ret i32 %c }
    """
    emitted = aot.compile(module, Target.parse("x86-64"), opt=opt).object
    calls = [instruction for instruction in decoded(emitted) if instruction.is_call_near]
    assert len(calls) == (1 if opt == 0 else 0)
