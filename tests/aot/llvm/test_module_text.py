"""The parser of textual IR: LLVM reads what it prints, and each part of a definition is found."""

from __future__ import annotations

import re

import pytest
from helpers.multiversion_ir import MODULE
from helpers.requirements import needs_opaque_pointers
from llvmlite import binding

from cpufeat.aot.llvm.module_text import Function, parse, reachable
from cpufeat.errors import CompileError


def printed(text: str) -> str:
    with binding.create_context() as context, binding.parse_assembly(text, context) as module:
        return str(module)


def words(text: str) -> list[str]:
    """The words of a module, in any order of its parts, on which the numbers of attribute groups depend."""
    return sorted(re.sub(r"#\d+", "#", text).split())


def test_llvm_reads_a_parsed_module_as_the_same_module() -> None:
    original = printed(MODULE)
    module = parse(original)
    assert len(module.functions) > 20
    assert words(printed(str(module))) == words(original)


def test_each_part_of_a_definition_is_found() -> None:
    text = """
    $"a (name" = comdat any
    define weak_odr dso_local hidden fastcc noundef { i32, i8 } @"a (name"(i32 noundef %x, ...) \
        unnamed_addr #0 section "a (section" comdat align 64 { ret { i32, i8 } zeroinitializer }
    attributes #0 = { nounwind "frame-pointer"="all" }
    """
    module = parse(printed(text))
    (function,) = module.functions.values()
    assert function == Function(
        name='@"a (name"',
        linkage="weak_odr",
        dso_local="",  # what is hidden is local to the file anyway: LLVM does not print it
        visibility="hidden",
        storage="",
        convention="fastcc noundef",
        returns="{ i32, i8 }",
        parameters=("i32 noundef %x", "..."),
        tail=' unnamed_addr #0 section "a (section" comdat align 64',
        body=function.body,
    )
    assert function.type == "{ i32, i8 } (i32, ...)"
    assert module.attributes(function) == {"nounwind", '"frame-pointer"="all"'}
    assert (
        str(function.with_attributes("#7"))
        .partition(" {\n")[0]
        .endswith('unnamed_addr #0 #7 section "a (section" comdat align 64')
    )
    local = function.local("@g")
    assert (local.name, local.linkage, local.visibility) == ("@g", "internal", "")
    assert "comdat" not in local.tail


@needs_opaque_pointers
def test_aliases_ifuncs_groups_and_linkages_are_read() -> None:
    module = parse(
        printed("""
        @a = hidden alias i32 (), ptr @f
        @b = alias i32 (), ptr @a
        @i = ifunc i32 (), ptr @r
        @data = internal constant i32 3
        define i32 @f() #3 { ret i32 0 }
        define ptr @r() { ret ptr @f }
        attributes #3 = { cold }
        """)
    )
    assert (module.aliases, module.ifuncs) == ({"@a": "@f", "@b": "@a"}, {"@i": "@r"})
    assert (module.kinds["@data"], module.linkage("@data"), module.linkage("@b")) == ("constant", "internal", "alias")
    assert (module.groups, module.free_group()) == ({"#0": "cold"}, 1)
    assert parse("").free_group() == 0


@pytest.mark.parametrize("text", ["\ndefine void f() {\n}\n", "\ndefine void @f(i32 %a {\n}\n"])
def test_text_that_llvm_would_not_print_is_refused(text: str) -> None:
    with pytest.raises(CompileError, match="cannot parse what LLVM printed"):
        parse(text)


def test_reachable_nodes_include_the_roots_and_end_at_circles() -> None:
    edges = {1: [2], 2: [3, 1], 4: [1]}
    assert reachable([1], lambda node: edges.get(node, ())) == {1, 2, 3}
    assert reachable([], lambda node: edges.get(node, ())) == set()
