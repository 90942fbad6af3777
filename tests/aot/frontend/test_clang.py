"""C is compiled to IR by ziglang's clang, and then for any target; errors are the compiler's own."""

from __future__ import annotations

import importlib.util
import os
import re

import pytest
from helpers.linked_programs import BASELINE, HERE, looked_at, needs_clang, run

from cpufeat import CompileError, CpufeatError, CpufeatWarning, Target, TargetError, aot, llvm_tables

pytestmark = pytest.mark.usefixtures("temporary")


@needs_clang
def test_c_is_compiled_for_the_lowest_cpu_and_optimized_for_the_target(tmp_path):
    (tmp_path / "sum.c").write_text(
        """#include <assert.h>
        #if defined __AVX__ || defined __SSE3__ || defined NDEBUG || !defined __SSE2__
        #error
        #endif
        int sum(const int *numbers) { int all = 0; for (int i = 0; i < 64; i++) all += numbers[i]; return all; }"""
    )
    source = aot.from_c(tmp_path / "sum.c", HERE)
    for request, registers in (("x86-64", "xmm"), ("x86-64-v3", "ymm")):
        aot.compile(source, Target.parse(request)).save(tmp_path / "sum.o")
        shown = "\n".join(looked_at(tmp_path / "sum.o", "-d", "--no-show-raw-insn", "--x86-asm-syntax=intel"))
        assert set(re.findall(r"\b[xyz]mm", shown)) >= {registers}
    assert "ubsan" not in source.content.decode(), "zig cc has it on by default"


@needs_clang
def test_c_takes_include_folders_and_macros(tmp_path, monkeypatch):
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "number.h").write_text("enum { NUMBER = 40 };\n")
    (tmp_path / "-main.c").write_text('#include "number.h"\nint main(void) { return NUMBER + MORE; }\n')
    monkeypatch.chdir(tmp_path)
    source = aot.from_c("-main.c", HERE, ["-Iinclude", "-DMORE=2"])
    aot.compile(source, BASELINE).link("main")
    assert run(tmp_path / "main").returncode == 42


@needs_clang
@pytest.mark.parametrize("name", ["@main.c", os.fsdecode(b"\xff.c"), "a b.c"])
def test_a_c_file_may_have_any_name(name, tmp_path, monkeypatch):
    (tmp_path / name).write_text("int main(void) { return 42; }\n")
    monkeypatch.chdir(tmp_path)
    aot.compile(aot.from_c(name, HERE), BASELINE).link("main")
    assert run(tmp_path / "main").returncode == 42


@needs_clang
def test_a_c_function_that_requests_more_than_the_target_is_a_decision(tmp_path):
    (tmp_path / "asks.c").write_text(
        'int plain(int a) { return a; }\n__attribute__((target("avx2"))) int asks(int a) { return a; }\n'
    )
    source = aot.from_c(tmp_path / "asks.c", HERE)
    with pytest.warns(CpufeatWarning, match=f"{tmp_path}/asks.c: asks: asks for .*avx2"):
        artifact = aot.compile(source, BASELINE)
    assert [decision.subject for decision in artifact.decisions] == ["asks"]
    assert aot.compile(source, Target.parse("x86-64-v3")).decisions == ()


@needs_clang
@pytest.mark.parametrize(
    "triple", ["riscv64-unknown-linux-musl", "aarch64-unknown-linux-musl", "arm64-apple-macosx14.0"]
)
def test_ir_from_c_requests_no_target(triple, tmp_path):
    (tmp_path / "one.c").write_text("int one(void) { return 1; }\n")
    source = aot.from_c(tmp_path / "one.c", triple)
    assert aot.compile(source, Target.parse({"r": "rv64gc", "a": "armv8-a"}[triple[0]], triple)).decisions == ()


@pytest.mark.parametrize("triple", ["x86_64-linuz-gnu", "x86_64-linuz", "x86_64-pc-linuz", "x86_64-unknown-gnu"])
def test_c_for_an_unknown_system_is_refused(triple, tmp_path):
    (tmp_path / "one.c").write_text("int f(void) { return 1; }")
    with pytest.raises(TargetError, match=f"'{triple}' names no system known to LLVM"):
        aot.from_c(tmp_path / "one.c", triple)


@pytest.mark.parametrize("triple", ["x86_64", "x86_64-none", "x86_64-elf", "x86_64-foo-none-elf", "aarch64-none-elf"])
def test_c_for_no_system_is_freestanding(triple, tmp_path):
    (tmp_path / "one.c").write_text("#if __STDC_HOSTED__ || __linux__\n#error\n#endif\nint f(void) { return 1; }")
    source = aot.from_c(tmp_path / "one.c", triple)
    lowest = "armv8-a" if triple.startswith("aarch64") else "x86-64"
    assert aot.compile(source, Target.parse(lowest, triple)).object.startswith(b"\x7fELF")


def test_c_for_32_bit_x86_is_for_its_lowest_cpu(tmp_path):
    """Zig's own choice is Pentium 4."""
    source = tmp_path / "one.c"
    source.write_text("#ifdef __SSE__\n#error more than i686\n#endif\ndouble twice(double x) { return x + x; }\n")
    target = Target.parse("i686", "i686-linux-musl")
    artifact = aot.compile(aot.from_c(source, target.triple), target)
    assert artifact.decisions == ()
    assert not set(artifact.variants[0].used)


def test_errors_in_c_are_the_compilers_own(tmp_path):
    bad = tmp_path / "bad.c"
    bad.write_text("int f(void) {\n    return a;\n}\n")
    with pytest.raises(CompileError, match=rf"{bad}:2:12: error: use of undeclared identifier 'a'\n.*return a;"):
        aot.from_c(bad, HERE)
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: .*absent\.c"):
        aot.from_c(tmp_path / "absent.c", HERE)


@needs_clang
def test_warnings_of_c_are_shown(tmp_path):
    (tmp_path / "odd.c").write_text("int f(void) {\n}\n")
    with pytest.warns(CpufeatWarning, match=r"odd\.c:2:\d+: warning: non-void function does not return"):
        aot.from_c(tmp_path / "odd.c", HERE)


def test_an_older_llvmlite_cannot_read_what_clang_writes(tmp_path, monkeypatch):
    (tmp_path / "one.c").write_text("int one(void) { return 1; }\n")
    monkeypatch.setattr(llvm_tables, "installed", lambda: 20)
    with pytest.raises(CompileError, match=r"one\.c: .* IR of LLVM 2\d, .*newer than the LLVM 20 .*pip install -U"):
        aot.from_c(tmp_path / "one.c", HERE)


def test_c_needs_zig(tmp_path, monkeypatch):
    (tmp_path / "one.c").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CpufeatError, match=r"pip install 'cpufeat\[c\]'"):
        aot.from_c(tmp_path / "one.c", HERE)


def test_a_c_compiler_that_hangs_is_ended(tmp_path):
    os.mkfifo(tmp_path / "never.h")
    (tmp_path / "one.c").write_text('#include "never.h"\n')
    with pytest.raises(CompileError, match=r"exceeded the time limit of 0\.5 s"):
        aot.from_c(tmp_path / "one.c", HERE, time_limit=0.5)


@pytest.mark.parametrize(
    "variables", [{"HOME": "/dev/null/home"}, {}, {"HOME": "/", "XDG_CACHE_HOME": "/dev/null/caches"}], ids=str
)
def test_c_is_compiled_where_the_folder_for_caches_cannot_be_written(variables, tmp_path, monkeypatch):
    (tmp_path / "one.c").write_text("int one(void) { return 1; }\n")
    for name in ("HOME", "XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert b"@one" in aot.from_c(tmp_path / "one.c", HERE).content
