"""Guarded or bare uses on 64-bit Arm: checks that only Arm has, and real binaries."""

from __future__ import annotations

import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import foreign_python
from helpers.build_binaries import ZIG, assemble, build
from helpers.known_alarms import alarms, unexplained
from helpers.paths import GUARDS

import cpufeat
from cpufeat import aot
from cpufeat.auditing.formats.loader import images
from cpufeat.features import find

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat.aot.runtime.dispatcher import Mechanism

TRIPLE = "aarch64-linux-gnu"
ANSWERS = {"guarded": True, "bare": False}
USE = ".arch_extension sve\nadd z0.s, z0.s, z1.s"


def answers(audit: cpufeat.Audit) -> dict[str, bool | None]:
    return {
        function.name: function.guarded for function in audit.functions if function.name.partition("_")[0] in ANSWERS
    }


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_each_function_is_guarded_or_bare_as_its_name_says(level: str, tmp_path: Path) -> None:
    options = ("-fno-sanitize=all", level, "-c", GUARDS / "aarch64.c")
    answers_by_name = answers(cpufeat.audit(build(tmp_path / "a.o", *options, triple=TRIPLE)))
    assert answers_by_name.keys() == set(re.findall(r"^USES\((\w+)\)$", (GUARDS / "aarch64.c").read_text(), re.M))
    assert answers_by_name
    assert answers_by_name == {name: ANSWERS[name.partition("_")[0]] for name in answers_by_name}


ASKED = "mov x0, #16\nbl getauxval\n"
WAYS = {
    "each half of a pair is followed by itself": (
        ASKED + "stp x0, x19, [sp, #-16]!\nldp x1, x2, [sp], #16\ntbz x1, #22, 1f\n",
        ASKED + "stp x0, x19, [sp, #-16]!\nldp x1, x2, [sp], #16\ntbz x2, #22, 1f\n",
    ),
    "a base register moves along, and is no answer": (
        ASKED + "str x0, [x20, #8]!\nmov x1, x0\ntbz x1, #22, 1f\n",
        ASKED + "str x0, [x20], #8\ntbz x20, #3, 1f\n",
    ),
    "whether a store was exclusive is no answer": (
        ASKED + "0: ldxr x1, [x20]\nstxr w2, x0, [x20]\ncbnz w2, 0b\ntbz x0, #22, 1f\n",
        ASKED + "0: ldxr x1, [x20]\nstxr w2, x0, [x20]\ncbnz w2, 1f\n",
    ),
    "what replaces an answer in its register is none": (
        ASKED + "and x0, x0, #0x400000\ncbz x0, 1f\n",
        ASKED + "umov w0, v0.s[0]\ncbz w0, 1f\n",
    ),
    "a call keeps answers in registers that are preserved": (
        ASKED + "mov x20, x0\nbl g\ntbz x20, #22, 1f\n",
        ASKED + "mov x9, x0\nbl g\ntbz x9, #22, 1f\n",
    ),
    "flags are what the last comparison made them": (
        ASKED + "tst x0, #0x400000\nb.eq 1f\n",
        ASKED + "tst x0, #0x400000\ncmp x19, #3\nb.eq 1f\n",
    ),
    "comparisons in a row are one": (
        ASKED + "tst x0, #0x400000\nccmp x19, #3, #4, ne\nb.eq 1f\n",
        ASKED + "ccmp x19, #3, #4, ne\nb.eq 1f\n",
    ),
    "AT_HWCAP is asked for, not AT_PAGESZ": (
        "mov w0, #26\nbl getauxval\ncbz x0, 1f\n",
        "mov w0, #6\nbl getauxval\ncbz x0, 1f\n",
    ),
    "hints change nothing": (
        "bti c\npaciasp\n" + ASKED + "autiasp\ntbz x0, #22, 1f\n",
        "chkfeat x16\ncbz x0, 1f\n",
    ),
    "an instruction may ask": (
        "mov x16, #1\nchkfeat x16\ntbnz x16, #0, 1f\n",
        "mrs x16, tpidr_el0\ntbnz x16, #0, 1f\n",
    ),
}
"""A way from a question to a branch that is a check, and one that is not."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("guarded", [True, False])
def test_answers_are_followed_as_the_cpu_moves_them(way: str, guarded: bool, tmp_path: Path) -> None:
    text = f".globl f\n.type f, @function\nf: {WAYS[way][0 if guarded else 1]}{USE}\n1: ret\n.size f, .-f\n"
    (function,) = cpufeat.audit(assemble(tmp_path, text, triple=TRIPLE, cpu="generic+gcs")).functions
    assert function.guarded is guarded


NAMELESS = f"""
.cfi_sections .eh_frame
.Lfinds:
.cfi_startproc
bti c
cmp x0, #NUMBER
b.eq 1f
cmp x0, #26
b.eq 1f
mov w0, #0
ret
1: str x2, [x1]
mov w0, #1
ret
.cfi_endproc
.Lwraps:
.cfi_startproc
paciasp
stp x29, x30, [sp, #-32]!
mov x29, sp
add x1, sp, #24
bl .Lfinds
ldr x0, [sp, #24]
ldp x29, x30, [sp], #32
autiasp
ret
.cfi_endproc
.globl f
.type f, @function
f: mov x0, #16
bl CALLED
tbz x0, #22, 1f
{USE}
1: ret
.size f, .-f
"""
"""getauxval without a symbol, as in glibc's loader: the function that compares its argument, and the one around it."""


@pytest.mark.parametrize(("number", "guarded"), [(16, True), (17, False)])
@pytest.mark.parametrize("called", [".Lfinds", ".Lwraps"])
def test_glibcs_getauxval_is_known_without_its_symbol(number: int, guarded: bool, called: str, tmp_path: Path) -> None:
    text = NAMELESS.replace("NUMBER", str(number)).replace("CALLED", called)
    (function,) = cpufeat.audit(assemble(tmp_path, text, triple=TRIPLE)).functions
    assert function.guarded is guarded


STORED = f"""
.globl f
.type f, @function
f: {ASKED}adrp x1, answer
ADDRESS
.size f, .-f
.globl g
.type g, @function
g: adrp x8, answer
ldr w0, [x8, :lo12:answer]
tbz w0, #22, 1f
{USE}
1: ret
.size g, .-g
.bss
.zero 4080
.type answer, @object
answer: .zero 4
.size answer, 4
.type beside, @object
beside: .zero 4
.size beside, 4
"""
STORES = {
    "str w0, [x1, :lo12:answer]\nret": True,
    "add x1, x1, :lo12:answer\ncbz x19, 1f\nmov x2, x1\nb 2f\n1: ret\n2: str w0, [x2]\nret": True,
    "add x1, x1, :lo12:answer\nstr w0, [x1, #4]\nret": False,
    "str wzr, [x1, :lo12:answer]\nret": False,
}


@pytest.mark.parametrize("store", STORES)
def test_variables_are_found_by_what_is_stored_in_them(store: str, tmp_path: Path) -> None:
    audit = cpufeat.audit(assemble(tmp_path, STORED.replace("ADDRESS", store), triple=TRIPLE))
    assert [function.guarded for function in audit.functions] == [STORES[store]]


LITERAL = f"""
.globl f
.type f, @function
f: stp x29, x30, [sp, #-16]!
{ASKED}EITHER
tbz x0, #22, 1f
ldr x1, =fast
blr x1
1: ldp x29, x30, [sp], #16
ret
.ltorg
.size f, .-f
.type fast, @function
fast: {USE}
ret
.size fast, .-fast
"""


@pytest.mark.parametrize(("before", "guarded"), [("nop", True), ("ldr x9, =fast\nstr x9, [x19]", False)])
def test_an_address_in_a_literal_is_taken_where_the_literal_is_loaded(
    before: str, guarded: bool, tmp_path: Path
) -> None:
    audit = cpufeat.audit(assemble(tmp_path, LITERAL.replace("EITHER", before), triple=TRIPLE))
    assert [function.guarded for function in audit.functions] == [guarded]


SMALL = f"""
.globl f
.type f, @function
f: adrp x9, _GLOBAL_OFFSET_TABLE_
SKIPPED
ldr x9, [x9, #:gotpage_lo15:fast]
CHECK
br x9
1: ret
.size f, .-f
.globl fast
.hidden fast
.type fast, @function
fast: {USE}
ret
.size fast, .-fast
"""


@pytest.mark.parametrize("skipped", [0, 1500])
@pytest.mark.parametrize(("check", "guarded"), [("mrs x0, id_aa64pfr0_el1\ncbz x0, 1f", True), ("", False)])
@pytest.mark.parametrize("linked", [True, False])
def test_pointers_in_the_table_of_small_code_are_followed(
    check: str, guarded: bool, linked: bool, skipped: int, tmp_path: Path
) -> None:
    """What GCC makes with ``-fpic``: one page is named, and pointers further on are loaded."""
    others = "\n".join(f"ldr x2, [x9, #:gotpage_lo15:other{number}]" for number in range(skipped))
    whole = assemble(tmp_path, SMALL.replace("SKIPPED", others).replace("CHECK", check), triple=TRIPLE)
    output = tmp_path / "linked.so" if linked else whole
    if linked:
        subprocess.run([*ZIG, "ld.lld", "-shared", whole, "-o", output], check=True)
    (function,) = cpufeat.audit(output).functions
    assert (function.name, function.guarded) == ("fast", guarded)


PAIR = f"""
.globl f
.type f, @function
f: {ASKED}adrp x8, first
add x8, x8, :lo12:first
ldp x20, x21, [x8]
tbz x0, #22, 1f
blr CHECKED
1: br OTHER
.size f, .-f
.type slow, @function
slow: ret
.size slow, .-slow
.type fast, @function
fast: {USE}
ret
.size fast, .-fast
.section .data.rel.ro, "aw"
first: .quad slow
.quad fast
"""


@pytest.mark.parametrize(("checked", "other", "guarded"), [("x21", "x20", True), ("x20", "x21", False)])
def test_the_halves_of_a_loaded_pair_are_followed_separately(
    checked: str, other: str, guarded: bool, tmp_path: Path
) -> None:
    text = PAIR.replace("CHECKED", checked).replace("OTHER", other)
    audit = cpufeat.audit(assemble(tmp_path, text, triple=TRIPLE))
    assert [function.guarded for function in audit.functions] == [guarded]


CHOSEN = f"""
.globl f
.type f, @function
f: {ASKED}adrp x1, fast
add x1, x1, :lo12:fast
and x0, x0, #0x400000
cmp FIRST, #3
csel x1, x1, x0, eq
br x1
.size f, .-f
.type fast, @function
fast: {USE}
ret
.size fast, .-fast
"""


def test_a_conditional_select_depends_on_the_flags_and_not_on_its_operands(tmp_path: Path) -> None:
    audit = cpufeat.audit(assemble(tmp_path, CHOSEN.replace("FIRST", "x19"), triple=TRIPLE))
    assert [function.guarded for function in audit.functions] == [False]


@pytest.mark.parametrize("options", [(), ("-z", "force-bti", "-z", "pac-plt")])
def test_calls_through_stubs_of_every_kind_are_followed(options: tuple[str, ...], tmp_path: Path) -> None:
    """What the program exports it calls through its PLT."""
    whole = build(tmp_path / "a.o", "-fno-sanitize=all", "-fPIC", "-c", GUARDS / "cases.c", triple=TRIPLE)
    linked = tmp_path / "linked.so"
    subprocess.run([*ZIG, "ld.lld", "-shared", *options, whole, "-o", linked], check=True)
    answers_by_name = answers(cpufeat.audit(linked))
    assert {"guarded_exported", "bare_exported", "guarded_builtin"} <= answers_by_name.keys()
    assert answers_by_name == {name: ANSWERS[name.partition("_")[0]] for name in answers_by_name}


IR = """
target triple = "aarch64-unknown-linux-gnu"
define void @scale(float* %p, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %at = getelementptr float, float* %p, i64 %i
  %old = load float, float* %at
  %new = fmul float %old, 3.0
  store float %new, float* %at
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
define void @count(i64* %p) {
  %old = atomicrmw add i64* %p, i64 1 seq_cst
  ret void
}
define void @both(float* %p, i64 %n, i64* %q) {
  call void @scale(float* %p, i64 %n)
  call void @count(i64* %q)
  ret void
}
"""


@pytest.mark.parametrize("kind", ["object", "shared"])
@pytest.mark.parametrize("dispatch", ["ifunc", "pointer"])
def test_variants_are_guarded(dispatch: Mechanism, kind: str, tmp_path: Path) -> None:
    levels = ("armv9-a", "armv8.2-a", "armv8-a")
    targets = [cpufeat.Target.parse(level, "aarch64-unknown-linux-gnu") for level in levels]
    artifact = aot.compile(IR, targets=targets, dispatch=dispatch)
    output = tmp_path / kind
    if kind == "object":
        artifact.save(output)
    else:
        artifact.link(output, kind="shared")
    audit = cpufeat.audit(output)
    assert {"lse", "sve"} <= set(audit.needs)
    assert list(audit.bare) == []
    assert {function.guarded for function in audit.functions} == {True}


# --- binaries that nobody here wrote

DEBIAN = {
    "libc.so.6": ("glibc on Arm", {"lse", "mops", "sve", "sme"}),
    "ld-linux-aarch64.so.1": ("", {"lse"}),
    "libgcc_s.so.1": ("libgcc on Arm", {"lse", "sme"}),
    "libstdc++.so.6": ("", {"lse"}),
    "libm.so.6": ("", set[str]()),
}
"""What the page of false alarms calls a file; some of what it needs: by ``ifunc``, by setjmp, in outline atomics."""


@pytest.mark.parametrize("name", DEBIAN)
def test_debians_libraries_guard_their_uses(name: str) -> None:
    where, needs = DEBIAN[name]
    root = foreign_python.unpacked(foreign_python.ARM64)
    audit = cpufeat.audit(root / "usr" / "lib" / "aarch64-linux-gnu" / name)
    assert set(audit.needs) >= needs
    assert unexplained(audit, where) == [] if where else not audit.bare


def test_the_page_of_false_alarms_names_only_files_that_are_audited_here() -> None:
    assert {alarm.project for alarm in alarms("aarch64")} == {where for where, _ in DEBIAN.values()} - {""}
    assert all(find("aarch64", name) for alarm in alarms("aarch64") for name in alarm.features)


def test_outline_atomics_of_a_large_library_are_guarded() -> None:
    root = foreign_python.unpacked(foreign_python.ARM64)
    audit = cpufeat.audit(next((root / "wheels" / "llvmlite" / "binding").glob("libllvmlite*.so")))
    assert audit.instructions > 10_000_000
    assert "lse" in audit.needs
    assert list(audit.bare) == []


# --- addresses that code computes


def test_addresses_are_those_that_the_linker_made(tmp_path: Path) -> None:
    """ADRP and what completes it, branches and literals: relocations applied here, and by a linker."""
    source = GUARDS / "cases.c"
    linked = build(tmp_path / "linked", "-O2", "-fno-sanitize=all", "-shared", "-fPIC", source, triple=TRIPLE)
    whole = build(tmp_path / "object", "-O2", "-fno-sanitize=all", "-c", "-fPIC", source, triple=TRIPLE)
    audits = [cpufeat.audit(path) for path in (linked, whole)]
    reasons = [{function.name: (function.guarded, function.why) for function in audit.functions} for audit in audits]
    unused = [reason.pop("unused_code") for reason in reasons]
    assert reasons[0] == reasons[1]
    assert reasons[0]
    assert unused == [(None, "nothing is seen to refer to it"), (None, "nothing refers to it")], "only an object tells"


# --- what is damaged, or has no end


def test_damaged_code_is_audited_without_an_error(tmp_path: Path) -> None:
    options = ("-fno-sanitize=all", "-O2", "-c", GUARDS / "cases.c")
    whole = build(tmp_path / "a.o", *options, triple=TRIPLE).read_bytes()
    (image,) = images(whole)
    start, size = next((section.offset, section.size) for section in image.sections if section.name == ".text")
    chance = random.Random(5496)
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            changed[start + chance.randrange(size)] = chance.randrange(256)
        other = cpufeat.audit(bytes(changed))
        assert other.bare <= other.needs
        assert all(function.guarded in (True, False, None) and function.why for function in other.functions)


@pytest.mark.parametrize(("number", "bare"), [(5_000, []), (60_000, ["sve"])])
def test_a_use_in_endless_code_is_bare(number: int, bare: list[str], tmp_path: Path) -> None:
    branches = "\n".join(f"b.eq {at}f\n{at}: add x1, x1, #1" for at in range(number))
    text = f".globl f\n.type f, @function\nf: {ASKED}tbnz x0, #22, 1f\nret\n1: {branches}\n{USE}\nret\n.size f, .-f\n"
    assert list(cpufeat.audit(assemble(tmp_path, text, triple=TRIPLE)).bare) == bare
