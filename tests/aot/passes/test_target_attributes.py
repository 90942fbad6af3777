"""What functions ask for in their own attributes never overrides the target."""

from __future__ import annotations

import pytest
from helpers.llvm_workers import ADD, compile_quietly
from helpers.object_inspection import VEX, encodings, section
from helpers.requirements import needs_opaque_pointers
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding

from cpufeat import CompileError, CpufeatWarning, Target, aot, llvm_tables
from cpufeat.aot.llvm.module_text import parse
from cpufeat.aot.passes import target_attributes


def test_llvm_itself_loses_the_machines_features_to_a_functions_attributes():
    """LLVM itself, told -avx, emits VEX for a function that says +sse4.2: else the tests below would show nothing."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = binding.parse_assembly(ADD.replace("GROUP", '"target-features"="+sse4.2"'))
    machine = binding.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(
        "haswell", "-avx", codemodel="default"
    )
    assert VEX in encodings(machine.emit_object(module))


CPUS = [*llvm_tables.load("x86_64", llvm_tables.installed()).cpus, "no-such-cpu", ""]
FEATURES = [sign + name for name in llvm_tables.load("x86_64", llvm_tables.installed()).implied for sign in "+-"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CPUS), st.lists(st.sampled_from(FEATURES), max_size=8), st.booleans())
def test_code_does_not_depend_on_a_functions_target_attributes(cpu, features, baseline):
    own = f'"target-cpu"="{cpu}" "target-features"="{",".join(features)}" "tune-cpu"="{cpu}"'
    target = Target.parse("x86-64" if baseline else "haswell-avx")
    with_own = compile_quietly(ADD.replace("GROUP", own), target)
    assert section(with_own.object) == section(aot.compile(ADD.replace("GROUP", ""), target).object)


def asking(own: str) -> str:
    return f"""
    define void @quiet() {{ ret void }}
    declare void @elsewhere() #1
    define void @loud() #1 {{ ret void }}
    attributes #1 = {{ {own} }}
    """


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ('"target-features"="+avx512vl"', "avx512vl"),
        ('"target-features"="+avx2,+no-such-feature"', "avx2"),
        ('"target-cpu"="haswell" "target-features"="-avx2,-fma,-f16c,-xsave,-bmi2"', "lzcnt"),
    ],
)
def test_a_function_that_requests_more_than_the_target_is_a_decision(own, named):
    with pytest.warns(CpufeatWarning, match=f"loud: asks for .*{named}") as warned:
        (decision,) = aot.compile(asking(own), Target.parse("x86-64")).decisions
    assert (len(warned), decision.kind, decision.subject) == (1, "function", "loud")
    assert named in decision.reason
    assert "avx512f" not in decision.reason, "what the features named depend on goes without saying"
    with pytest.raises(CompileError, match=f"function loud: asks for .*{named}") as caught:
        aot.compile(asking(own), Target.parse("x86-64"), on_missing="error")
    assert caught.value.function == "loud"


@pytest.mark.parametrize(
    "own",
    [
        '"target-features"="+sse2,+cx8,-avx,+no-such-feature"',
        '"target-cpu"="x86-64" "tune-cpu"="znver5"',
        '"target-features"="+prefer-256-bit,+fast-gather"',
        '"target-cpu"="no-such-cpu"',
        '"target-features"',
    ],
)
def test_a_function_that_requests_no_more_than_the_target_is_no_decision(own):
    assert aot.compile(asking(own), Target.parse("x86-64"), on_missing="error").decisions == ()


def test_many_functions_are_one_decision():
    functions = "\n".join(f"define void @f{index}() #0 {{ ret void }}" for index in range(200))
    module = functions + '\nattributes #0 = { "target-features"="+avx2" }'
    (decision,) = compile_quietly(module, Target.parse("x86-64")).decisions
    assert decision.subject == "f0, f1, f2, f3, f4, f5, f6, f7 and 192 more"


def test_a_module_without_target_attributes_stays_as_it_is():
    printed = str(binding.parse_assembly(asking("nounwind uwtable")))
    assert target_attributes.neutralize(parse(printed)) == parse(printed)
    assert sorted(str(parse(printed)).split()) == sorted(printed.split())


HEADERS = r"""
@data = global i32 1, !note !0
module asm ".ascii \22attributes #0 = { }\22"
module asm "define nothing"
%"a @b() #7" = type { i32 }
declare i32 @"personality #8"(...)
define i32 @plain() { ret i32 1 }
define weak_odr "own"="@no() #9" i32 @"quoted \22 #9 \C3\A9"(i32 %a) unnamed_addr #0 section "s #9" {
  ret i32 %a
}
define internal %"a @b() #7" @returns(ptr byval(%"a @b() #7") %p) #1 { ret %"a @b() #7" zeroinitializer }
define void @0() #2 gc "statepoint-example" { ret void }
define void @last() #1 prefix i32 1 personality ptr @"personality #8" !dbg !1 {
  call void asm "define #0\0A", ""() #0
  ret void
}
attributes #0 = { nounwind "x"="attributes #1 \22 \0Aattributes #2 = {}" "target-cpu"="nehalem" }
attributes #1 = { "target-features"="+avx2" "tune-cpu"="znver5" }
attributes #2 = { noinline "nothing"="\0Adefine void @no() #0" }
!0 = !{!"\0Adefine void @no() #0"}
!llvm.module.flags = !{!3}
!llvm.dbg.cu = !{!2}
!1 = distinct !DISubprogram(name: "last", scope: !4, file: !4, unit: !2)
!2 = distinct !DICompileUnit(language: DW_LANG_C99, file: !4, emissionKind: LineTablesOnly)
!3 = !{i32 2, !"Debug Info Version", i32 3}
!4 = !DIFile(filename: "f.c", directory: "/")
"""


@needs_opaque_pointers
def test_requested_targets_are_read_from_text_as_llvm_reports_them():
    module = binding.parse_assembly(HEADERS)
    defined = [function for function in module.functions if not function.is_declaration]
    theirs = [target_attributes.requested_target(text.decode() for text in function.attributes) for function in defined]
    assert target_attributes.requested_targets(parse(str(module))) == theirs
    assert theirs == [None, ("nehalem", ""), ("", "+avx2"), None, ("", "+avx2")]
    neutralized = binding.parse_assembly(str(target_attributes.neutralize(parse(str(module)))))
    assert target_attributes.requested_targets(parse(str(neutralized))) == [None] * 5
