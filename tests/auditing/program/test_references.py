"""What refers to an address: code, pointers in data, and both by a detour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import assemble

from cpufeat.auditing.formats.loader import images
from cpufeat.auditing.program.functions import Program
from cpufeat.auditing.program.references import References, architecture

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
.globl f, g, inner
.type f, @function
f: lea table(%rip), %rax
inner: ret
.size f, .-f
.type g, @function
g: jmp inner
.size g, .-g
.data
.quad 0
table: .quad 0, f
.type sized, @object
sized: .quad 0, 0
.size sized, 16
.section .debug_pointers, "a"
.quad f
"""


@pytest.fixture
def searched(tmp_path: Path) -> tuple[Program, References, dict[str, int]]:
    """A program, its references and the addresses of its symbols."""
    (image,) = images(assemble(tmp_path, TEXT))
    how = architecture(image.arch)
    assert how
    program = Program(image, how.lifter)
    names = {symbol.name: symbol.address for symbol in image.symbols}
    return program, References(program, how.xref_finder(program)), names


Searched = tuple[Program, References, dict[str, int]]


def test_instructions_that_name_an_address_are_found(searched: Searched) -> None:
    _, references, names = searched
    (reference,) = references.xrefs_to(names["table"], names["table"] + 1)
    assert (reference.site, reference.function.name, reference.target) == (names["f"], "f", names["table"])
    assert references.xrefs_to(names["sized"], names["sized"] + 16) == []


def test_the_instructions_of_one_function_can_be_left_out(searched: Searched) -> None:
    program, references, names = searched
    f, g = (program.function_at(names[name]) for name in ("f", "g"))
    inner = names["inner"], names["inner"] + 1
    assert [reference.function for reference in references.xrefs_to(*inner, but=f)] == [g]
    assert references.xrefs_to(*inner, but=g) == []


def test_pointers_are_found_except_in_unwind_and_debug_information(searched: Searched) -> None:
    _, references, names = searched
    assert references.pointers_to(names["f"], names["f"] + 1) == [names["table"] + 8]


def test_a_jump_into_a_function_is_an_entry(searched: Searched) -> None:
    program, references, names = searched
    functions = {function.name: function for function in program.image.functions}
    assert references.entries(functions["f"]) == (names["f"], names["inner"])
    assert references.entries(functions["g"]) == (names["g"],)


def test_an_object_without_a_size_begins_where_code_names_it(searched: Searched) -> None:
    _, references, names = searched
    table, sized = names["table"], names["sized"]
    assert references.object_at(table + 8) == (table, table + 9)
    assert references.object_at(sized + 8) == (sized, sized + 16)
    assert references.object_at(table - 8) is None, "nothing names what lies before it"


def test_users_are_functions_that_name_an_address(searched: Searched) -> None:
    _, references, names = searched
    assert [function.name for function in references.users(names["table"], names["table"] + 1)] == ["f"]
    assert [function.name for function in references.users(names["inner"], names["inner"] + 1)] == ["g"]
