"""The lexical structure of IR: what is a name, a word or a comdat, and what only looks like it."""

from __future__ import annotations

import pytest

from cpufeat.aot.llvm import syntax


@pytest.mark.parametrize(
    ("line", "comdat", "rest"),
    [
        (" #0 comdat align 8", "$f", " #0 align 8"),
        (" comdat($g)", "$g", ""),
        (' comdat($"a b") #1', '$"a b"', " #1"),
        ("@f = internal global i32 0, comdat($f), align 4", "$f", "@f = internal global i32 0, align 4"),
        (' section "x comdat y" #0', "", ' section "x comdat y" #0'),
        (' section "x comdat y" comdat', "$f", ' section "x comdat y"'),
        (" #0", "", " #0"),
    ],
)
def test_a_comdat_is_found_and_removed_but_not_in_strings(line: str, comdat: str, rest: str) -> None:
    assert syntax.comdat(line, "@f") == comdat
    assert syntax.without_comdat(line) == rest


def test_names_in_strings_and_comments_are_not_renamed() -> None:
    text = 'call void @f(ptr @f, ptr blockaddress(@f, %1)), !x !1 ; @f(\n  %2 = c"@f(" @"f"( @f.g'
    names = {"@f(": "@F(", "@f": "@G", "blockaddress(@f": "blockaddress(@B", "!1": "!9"}
    expected = 'call void @F(ptr @G, ptr blockaddress(@B, %1)), !x !9 ; @f(\n  %2 = c"@f(" @"f"( @f.g'
    assert syntax.renamed(text, names) == expected
    assert syntax.callees(text) == ["@f", '@"f"']


def test_words_and_parameters_end_outside_of_brackets() -> None:
    assert syntax.words('void (i32, ptr)* fastcc { i32, i8 } "a b" addrspace(1)') == [
        "void (i32, ptr)*",
        "fastcc",
        "{ i32, i8 }",
        '"a b" addrspace(1)',
    ]
    assert syntax.parameters("i32 %a, { i8, i8 } %b, ...") == ["i32 %a", "{ i8, i8 } %b", "..."]
    assert [syntax.type_of(each) for each in ("i32 noundef %a", "<4 x i32> %b", "...")] == ["i32", "<4 x i32>", "..."]


@pytest.mark.parametrize(
    ("name", "suffixed", "plain"), [("@f", "@f.x", "f"), ('@"a b"', '@"a b.x"', "a b"), ("@f.g", "@f.g.x", "f.g")]
)
def test_a_suffix_goes_inside_of_quotes_and_messages_show_none(name: str, suffixed: str, plain: str) -> None:
    assert syntax.suffixed(name, "x") == suffixed
    assert syntax.plain(name) == plain
