"""Definitions that reach a step, first uses of an address, and results of calls, in small functions of x86-64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import assemble
from iced_x86 import Register

from cpufeat.auditing.dataflow.def_use import FirstUses, handed_on, reaching_numbers
from cpufeat.auditing.formats.loader import images
from cpufeat.auditing.lifting import x86
from cpufeat.auditing.lifting.semantics import CALL
from cpufeat.auditing.program.cfg import ControlFlowGraph
from cpufeat.auditing.program.functions import Program
from cpufeat.auditing.program.references import References, architecture

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.auditing.lifting.semantics import Step

RESULTS = x86.CONVENTION.results


def graph(text: str, folder: Path) -> tuple[ControlFlowGraph, list[Step]]:
    """The control flow of a function, of which nothing else refers to a part, and its steps."""
    (image,) = images(assemble(folder, f".globl f\n.type f, @function\nf: {text}\n.size f, .-f\n"))
    program = Program(image, x86)
    (function,) = image.functions
    steps = program.steps(function)
    return ControlFlowGraph(steps, [function.start], lambda step: ()), steps


# --- which numbers reach CPUID in EAX

LEAVES: dict[str, tuple[str, set[int | None]]] = {
    "a number": ("mov $7, %eax\ncpuid\nret", {7}),
    "zero": ("xor %eax, %eax\ncpuid\nret", {0}),
    "the last of several": ("mov $7, %eax\nmov $1, %eax\ncpuid\nret", {1}),
    "a copy of a number": ("mov $7, %ecx\nmov %ecx, %eax\ncpuid\nret", {7}),
    "one of two": ("mov $7, %eax\ntest %edi, %edi\njz 1f\nmov $1, %eax\n1: cpuid\nret", {1, 7}),
    "an argument": ("mov %edi, %eax\ncpuid\nret", {None}),
    "what the function began with": ("cpuid\nret", {None}),
    "a number of which a part is replaced": ("mov $7, %eax\nmov $1, %al\ncpuid\nret", {None}),
    "a number that may be replaced": ("mov $7, %eax\ncmovz %edi, %eax\ncpuid\nret", {None}),
    "the result of a call": ("mov $7, %eax\ncall g\ncpuid\nret", {None}),
    "a number that a call preserves": ("mov $7, %ebx\ncall g\nmov %ebx, %eax\ncpuid\nret", {7}),
    "a number in memory": ("mov (%rdi), %eax\ncpuid\nret", {None}),
    "in a loop around the function, either": ("1: cpuid\nmov $7, %eax\njmp 1b", {None, 7}),
    "in a loop, what came before it": ("mov $7, %eax\n1: cpuid\nmov $7, %eax\njmp 1b", {7}),
    "where nothing is seen to lead": ("ret\ncpuid\nret", {None}),
}


@pytest.mark.parametrize("case", LEAVES)
def test_the_possible_leaves_of_a_cpuid_instruction_are_found(case: str, tmp_path: Path) -> None:
    text, numbers = LEAVES[case]
    cfg, steps = graph(text, tmp_path)
    (cpuid,) = (step for step in steps if step.probes)
    assert reaching_numbers(cfg, cpuid.address, Register.RAX, RESULTS) == numbers


def test_no_number_reaches_an_address_at_which_no_step_begins(tmp_path: Path) -> None:
    cfg, _ = graph("mov $7, %eax\ncpuid\nret", tmp_path)
    assert reaching_numbers(cfg, 1, Register.RAX, RESULTS) == set()


# --- where an address that is loaded first is used; the blocks are numbered in order

LOAD = "lea 0(%rip), %rax\n"
USES: dict[str, tuple[str, set[int], set[int | tuple[int, int]]]] = {
    "in its own block": ("mov %rax, (%rdi)\nret", set(), {0}),
    "as a base, in its own block": ("mov (%rax), %ecx\nxor %eax, %eax\nret", set(), {0}),
    "in a block that follows alone": ("jmp 1f\nud2\n1: mov %rax, (%rdi)\nret", set(), {2}),
    "nowhere: it is replaced": ("xor %eax, %eax\nret", set(), set()),
    "by the caller, which it is returned to": ("ret", set(), {0}),
    "nowhere: a call does not preserve it": ("call g\nret", set(), set()),
    "nowhere: a tail call does not preserve it": ("jmp g", set(), set()),
    "where a part is replaced, which leaves it": ("mov $1, %al\nmov %rax, (%rdi)\nret", set(), {0}),
    "before a branch that is no test": ("test %edi, %edi\njz 1f\nmov %rax, (%rdi)\n1: xor %eax, %eax\nret", set(), {0}),
    "before a branch that is no test, with one way to each side": (
        "test %edi, %edi\njz 1f\nret\n1: mov %rax, (%rdi)\nret",
        set(),
        {0},
    ),
    "where the code ends": ("ud2", set(), {0}),
    "behind a test, on the side that uses it": (
        "test %edi, %edi\njz 1f\nmov %rax, (%rdi)\n1: xor %eax, %eax\nret",
        {0},
        {(0, 1)},
    ),
    "behind a test, on both sides": ("test %edi, %edi\njz 1f\nmov %rax, (%rdi)\n1: ret", {0}, {(0, 1), (0, 2)}),
    "behind a test, on no side": ("test %edi, %edi\njz 1f\nnop\n1: xor %eax, %eax\nret", {0}, set()),
    "before a loop, where paths meet": ("1: dec %edi\njnz 1b\nmov %rax, (%rsi)\nret", set(), {0}),
    "before a loop whose branch is a test": ("1: dec %edi\njnz 1b\nmov %rax, (%rsi)\nret", {1}, {0}),
}


@pytest.mark.parametrize("where", USES)
def test_the_first_uses_of_an_address_are_found(where: str, tmp_path: Path) -> None:
    text, tests, places = USES[where]
    cfg, steps = graph(LOAD + text, tmp_path)
    uses = FirstUses(cfg, tests, x86.CONVENTION)
    assert uses.places(steps[0].address, steps[0].following) == places


def test_the_place_of_a_call_is_its_own_block(tmp_path: Path) -> None:
    cfg, steps = graph("test %edi, %edi\njz 1f\ncall g\n1: ret", tmp_path)
    (call,) = (step for step in steps if step.flow == CALL)
    assert FirstUses(cfg, {0}, x86.CONVENTION).places(call.address, call.target or 0) == {1}


def test_the_place_of_a_branch_out_of_the_function_is_its_exit(tmp_path: Path) -> None:
    cfg, steps = graph("test %edi, %edi\njz g\nret", tmp_path)
    branch = steps[1]
    assert branch.target is not None
    (place,) = FirstUses(cfg, {0}, x86.CONVENTION).places(branch.address, branch.target)
    assert isinstance(place, int)
    assert cfg.blocks[place].steps == ()
    assert cfg.blocks[place].start == branch.target


# --- what a caller does with what a call leaves in RCX

RCX = frozenset([Register.RCX])
NONE: frozenset[int] = frozenset()
CALLERS: dict[str, tuple[str, frozenset[int] | None]] = {
    "it reads the register": ("call g\nmov %ecx, %eax\nret", None),
    "it reads memory at it": ("call g\nmov (%rcx), %eax\nret", None),
    "it reads memory with it as an index": ("call g\nmov (%rdi,%rcx), %eax\nret", None),
    "it reads the register on one of two ways": ("call g\ntest %edi, %edi\njz 1f\nxor %ecx, %ecx\n1: push %rcx", None),
    "it reads the register in a loop": ("1: test %ecx, %ecx\ncall g\njmp 1b", None),
    "it jumps to where is not known": ("call g\njmp *%rax", None),
    "it takes the address": ("lea g(%rip), %rax\njmp *%rax", None),
    "it overwrites the register": ("call g\nxor %ecx, %ecx\nmov %ecx, %eax\nret", NONE),
    "it calls something else": ("call g\ncall h\nmov %ecx, %eax\nret", NONE),
    "it does not return": ("call g\nhlt\nmov %ecx, %eax\nret", NONE),
    "it leaves the register as it is": ("call g\nadd $8, %rsp\nret", RCX),
    "it leaves a part of the register": ("call g\nmov $1, %cl\nret", RCX),
    "it leaves the register on one of two ways": ("call g\ntest %edi, %edi\njz 1f\nxor %ecx, %ecx\n1: ret", RCX),
    "it ends with the call": ("jmp g", RCX),
}


@pytest.mark.parametrize("case", CALLERS)
def test_a_caller_reads_a_result_or_hands_it_on(case: str, tmp_path: Path) -> None:
    text, expected = CALLERS[case]
    functions = f".globl f, g, h\n.type f, @function\nf: {text}\n.size f, .-f\ng: ret\nh: ret\n"
    (image,) = images(assemble(tmp_path, functions))
    how = architecture(image.arch)
    assert how
    program = Program(image, how.lifter)
    references = References(program, how.xref_finder(program))
    g = next(symbol.address for symbol in image.symbols if symbol.name == "g")
    (call,) = references.uses(g, g + 1)
    assert handed_on(program, call, RCX) == expected


def test_what_runs_for_long_after_a_call_may_read_its_result(tmp_path: Path) -> None:
    text = ".type f, @function\nf: call g\n.rept 2000\nnop\n.endr\nret\n.size f, .-f\ng: ret\n"
    (image,) = images(assemble(tmp_path, text))
    how = architecture(image.arch)
    assert how
    program = Program(image, how.lifter)
    (call,) = References(program, how.xref_finder(program)).xrefs_to(image.functions[0].end, image.functions[0].end + 1)
    assert handed_on(program, call, RCX) is None
