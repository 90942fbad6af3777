"""Which functions are cloned, called directly, and dispatched, by the text of small modules."""

from __future__ import annotations

import pytest

from cpufeat.aot.llvm.module_text import parse
from cpufeat.aot.passes.clone_plan import Plan, plan
from cpufeat.errors import CompileError

FUNCTIONS = """
define i32 @exported(i32 %0) {
  %2 = call i32 @called(i32 %0)
  ret i32 %2
}

define internal i32 @called(i32 %0) {
  ret i32 %0
}

define internal i32 @stored(i32 %0) {
  ret i32 %0
}
"""


def planned(text: str) -> Plan:
    return plan(parse(f"; module\n{text}"))


def test_exported_and_stored_functions_are_dispatched_and_called_ones_are_not() -> None:
    made = planned("@pointer = global ptr @stored\n" + FUNCTIONS)
    assert made.cloned.keys() == {"@exported", "@called", "@stored"}
    assert made.dispatched == {"@exported", "@stored"}
    assert made.direct == {name: name for name in made.cloned}
    assert not made.is_program


@pytest.mark.parametrize(
    ("definition", "cloned"),
    [
        ("define void @f() {\n  ret void\n}\n", True),
        ("define available_externally void @f() {\n  ret void\n}\n", False),
        ("define x86_intrcc void @f(ptr byval(i8) %0) {\n  ret void\n}\n", False),
        ("define void @f() #0 {\n  ret void\n}\n\nattributes #0 = { naked }\n", False),
        ("@i = ifunc void (), ptr @f\n\ndefine ptr @f() {\n  ret ptr null\n}\n", False),
    ],
)
def test_only_definitions_with_code_for_any_target_are_cloned(definition: str, cloned: bool) -> None:
    made = planned("\n" + definition)
    assert ("@f" in made.cloned) is cloned
    assert ("@f" in made.dispatched) is cloned


@pytest.mark.parametrize(
    ("head", "flag", "direct"),
    [
        ("define", "", True),
        ("define weak", "", False),
        ("define linkonce", "", False),
        ("define weak_odr", "", True),
        ("define", '!0 = !{i32 1, !"SemanticInterposition", i32 1}\n', False),
        ("define", '!0 = !{i32 1, !"SemanticInterposition", i32 0}\n', True),
        ("define dso_local", '!0 = !{i32 1, !"SemanticInterposition", i32 1}\n', True),
        ("define internal", '!0 = !{i32 1, !"SemanticInterposition", i32 1}\n', True),
    ],
)
def test_an_interposable_function_is_not_called_directly(head: str, flag: str, direct: bool) -> None:
    made = planned(f"\n{head} void @f() {{\n  ret void\n}}\n\n{flag}")
    assert ("@f" in made.direct) is direct


def test_a_call_of_an_alias_goes_to_the_clone_of_its_aliasee() -> None:
    made = planned("@a = alias i32 (i32), ptr @b\n@b = alias i32 (i32), ptr @exported\n" + FUNCTIONS)
    assert (made.direct["@a"], made.direct["@b"]) == ("@exported", "@exported")
    assert "@exported" in made.not_ifunc
    weak = planned("@a = weak alias i32 (i32), ptr @exported\n" + FUNCTIONS)
    assert "@a" not in weak.direct


def test_data_with_addresses_of_labels_is_cloned_with_all_that_refers_to_it() -> None:
    labels = "@labels = internal constant [1 x ptr] [ptr blockaddress(@called, %1)]\n"
    user = "@user = internal global ptr @labels\n@unrelated = internal global ptr @called\n"
    assert planned(labels + user + FUNCTIONS).label_tables == {"@labels", "@user"}
    for text in (labels.replace("internal ", ""), labels + user.replace("@user = internal", "@user =")):
        with pytest.raises(CompileError, match="addresses of labels in data that other objects, or aliases, can reach"):
            planned(text + FUNCTIONS)


def test_main_and_functions_in_used_lists_or_tables_without_cfi_never_become_an_ifunc() -> None:
    made = planned(
        '@llvm.used = appending global [1 x ptr] [ptr @stored], section "llvm.metadata"\n'
        "@table = global ptr no_cfi @called\n" + FUNCTIONS
    )
    assert made.not_ifunc & {"@main", *made.cloned} == {"@main", "@stored", "@called"}


CALLER = """
define {} ptr @caller() {{
  %1 = call i32 @called(i32 3)
  ret ptr null
}}
"""


def test_a_function_without_clones_calls_the_dispatched_symbol_unless_it_is_a_resolver() -> None:
    kept = planned(FUNCTIONS + CALLER.format("available_externally"))
    assert "@called" in kept.dispatched
    resolver = planned("@i = ifunc void (), ptr @caller\n" + FUNCTIONS + CALLER.format("internal"))
    assert "@called" not in resolver.dispatched


def test_a_module_with_main_is_a_program() -> None:
    assert planned("\ndefine i32 @main() {\n  ret i32 0\n}\n").is_program
    assert planned("@main = alias i32 (i32), ptr @exported\n" + FUNCTIONS).is_program
