"""Variants do what the module compiled once does; emulated CPUs tell which variant runs, nm what is exported.

The module of ``helpers/multiversion_ir.py`` is linked by cc and by zig, called from C, Rust and ctypes, and loaded.
"""

from __future__ import annotations

import ctypes
import functools
import io
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import iced_x86
import pytest
from elftools.elf.elffile import ELFFile
from helpers.foreign_python import ARM64, unpacked
from helpers.llvm_workers import compile_quietly, end_worker, use_llvm_of
from helpers.multiversion_ir import MODULE, PROGRAM
from helpers.object_inspection import EVEX, LEGACY, VEX
from helpers.paths import KERNELS
from helpers.qemu import run
from helpers.requirements import tool
from hypothesis import given, settings
from hypothesis import strategies as st

from cpufeat import (
    ArtifactError,
    CompileError,
    CpufeatWarning,
    MissingFeaturesError,
    OptionError,
    Target,
    TargetError,
    aot,
    audit,
    check,
    detect,
)
from cpufeat.aot.llvm.llvmlite_setup import llvm_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cpufeat.aot.runtime.dispatcher import Mechanism

LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64")
LINUX = "x86_64-unknown-linux-gnu"
BASELINE = Target.parse("x86-64")
MECHANISMS: tuple[Mechanism, ...] = ("ifunc", "pointer")
ENCODINGS = {"x86-64-v4": {LEGACY, VEX, EVEX}, "x86-64-v3": {LEGACY, VEX}, "x86-64": {LEGACY}}
ZIG = (sys.executable, "-m", "ziglang", "cc")
OLDEST, NO_AVX, HASWELL = "Opteron_G1,-pni", "Haswell,-avx", "Haswell"
UNARY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


def cc() -> str:
    return tool("cc")


def command(*arguments: object, folder: Path) -> str:
    run = subprocess.run([*map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def symbols(path: Path, table: str = ".symtab") -> dict[str, tuple[int, int]]:
    """The address and size of each defined symbol, as pyelftools reads them."""
    rows = ELFFile(io.BytesIO(path.read_bytes())).get_section_by_name(table).iter_symbols()
    return {row.name: (row["st_value"], row["st_size"]) for row in rows if row["st_shndx"] != "SHN_UNDEF"}


def picked_beside(path: Path, other: str) -> int:
    """How far from another symbol's address a program or library keeps which variant it picked."""
    table = symbols(path)
    return table["__cpufeat_picked"][0] - table[other][0]


class Build:
    """The module compiled with variants, and once: as objects, and a C program to link with."""

    def __init__(self, folder: Path, mechanism: Mechanism) -> None:
        self.folder, self.mechanism = folder, mechanism
        self.artifact = aot.compile(MODULE, targets=LEVELS, dispatch=mechanism)
        self.artifact.save(folder / "variants.o")
        aot.compile(MODULE, BASELINE).save(folder / "once.o")
        (folder / "program.c").write_text(PROGRAM)

    def program(self, *linker: str, objects: str = "variants.o") -> Path:
        """Link a program, by cc if no other linker is given."""
        path = self.folder / f"{len(list(self.folder.iterdir()))}-program"
        command(*(linker or (cc(),)), "-O1", "program.c", objects, "-o", path, folder=self.folder)
        return path

    def library(self, objects: str = "variants.o") -> Path:
        """Link a library, by cc."""
        path = self.folder / f"lib{objects.removesuffix('.o')}.so"
        if not path.exists():
            command(cc(), "-shared", objects, "-o", path, folder=self.folder)
        return path


@pytest.fixture(scope="module", params=MECHANISMS)
def build(request, tmp_path_factory) -> Build:
    return Build(tmp_path_factory.mktemp("variants"), request.param)


@pytest.fixture(scope="module")
def expected(build) -> str:
    """What the program prints, linked with the module compiled once."""
    return command(build.program(objects="once.o"), folder=build.folder)


@pytest.fixture(scope="module", params=MECHANISMS)
def build_of_any_llvm(request, llvm_python, tmp_path_factory) -> Iterator[Build]:
    with pytest.MonkeyPatch.context() as patch:
        use_llvm_of(llvm_python, patch)
        yield Build(tmp_path_factory.mktemp("variants"), request.param)
    end_worker()


LINKERS = {
    "cc": lambda: (cc(),),
    "cc, at a fixed address": lambda: (cc(), "-no-pie"),
    "cc, static": lambda: (cc(), "-static"),
    "cc, static at any address": lambda: (cc(), "-static-pie"),
    "zig": lambda: (*ZIG, "-target", "x86_64-linux-gnu"),
}


@pytest.mark.parametrize("linker", LINKERS)
def test_a_program_with_variants_does_the_same_however_it_is_linked(build, expected, linker):
    assert command(build.program(*LINKERS[linker]()), folder=build.folder) == expected
    assert "one address 1 1 1 1\n" in expected


def test_a_library_with_variants_does_the_same(build, expected):
    for options in ((), ("-no-pie",), ("-Wl,-z,now",)):
        library = build.library()
        program = build.program(cc(), *options, f"-Wl,-rpath,{library.parent}", objects=str(library))
        assert command(program, folder=build.folder) == expected


def test_variants_compiled_by_every_llvm_do_the_same(build_of_any_llvm):
    built = build_of_any_llvm
    once = command(built.program(objects="once.o"), folder=built.folder)
    assert command(built.program(), folder=built.folder) == once
    assert "many 2039\n" in once


@pytest.mark.parametrize(("cpu", "picked"), [(OLDEST, 2), ("Nehalem", 2), (NO_AVX, 2), (HASWELL, 1), ("EPYC", 1)])
def test_an_emulated_cpu_runs_the_best_variant_that_it_supports(build, expected, qemu, cpu, picked):
    program = build.program()
    ran = run(qemu, cpu, [str(program), str(picked_beside(program, "shared"))])
    assert (ran.returncode, ran.stdout) == (0, f"{expected}fused {int(picked < 2)} picked {picked}\n")


def test_this_machine_runs_the_best_variant_that_it_supports(build, expected):
    program = build.program()
    host = detect()
    best = next(index for index, level in enumerate(LEVELS) if Target.parse(level).runs_on(host))
    printed = command(program, picked_beside(program, "shared"), folder=build.folder)
    assert printed == f"{expected}fused {int(best < 2)} picked {best}\n"


def test_a_variant_is_selected_before_anything_is_called(build, qemu):
    library = build.library()
    loaded = ctypes.CDLL(str(library))
    shared = ctypes.addressof(ctypes.c_int.in_dll(loaded, "shared"))
    host = detect()
    best = next(index for index, level in enumerate(LEVELS) if Target.parse(level).runs_on(host))
    assert ctypes.c_int.from_address(shared + picked_beside(library, "shared")).value == best


def test_a_library_exports_its_functions_and_nothing_of_cpufeat(build):
    """The kinds of the symbols aside, an ``ifunc`` being one of its own."""
    names = {
        path.name: {line.split()[-1] for line in exported(path)} for path in (build.library(), build.library("once.o"))
    }
    assert names["libvariants.so"] == names["libonce.so"]
    assert "hidden" not in names["libvariants.so"]


def exported(path: Path) -> list[str]:
    program = tool("nm")
    return command(program, "-D", "--defined-only", path, folder=path.parent).splitlines()


def test_no_variant_uses_instructions_beyond_its_target(build):
    code = ELFFile(io.BytesIO(build.library().read_bytes())).get_section_by_name(".text")
    features_of_level: dict[str, set[int]] = {level: set() for level in LEVELS}
    for name, (start, size) in symbols(build.library()).items():
        level = next((level for level in LEVELS if name.endswith(f".{level}")), "x86-64")
        if code["sh_addr"] <= start < code["sh_addr"] + code["sh_size"]:
            content = code.data()[start - code["sh_addr"] :][:size]
            features_of_level[level] |= {instruction.encoding for instruction in iced_x86.Decoder(64, content)}
    assert {level: kinds <= ENCODINGS[level] for level, kinds in features_of_level.items()} == dict.fromkeys(
        LEVELS, True
    )
    assert VEX in features_of_level["x86-64-v3"]


def functions(content: bytes) -> dict[str, list[tuple[object, ...]]]:
    """Each function's instructions in an object: what they do with which registers, whatever addresses they have."""
    elf = ELFFile(io.BytesIO(content))
    operations: dict[str, list[tuple[object, ...]]] = {}
    for row in elf.get_section_by_name(".symtab").iter_symbols():
        if row["st_info"]["type"] == "STT_FUNC":
            code = elf.get_section(row["st_shndx"]).data()[row["st_value"] :][: row["st_size"]]
            decoded = iced_x86.Decoder(64, code)
            operations[row.name] = [
                (instruction.code, instruction.op0_register, instruction.op1_register, instruction.op2_register)
                for instruction in decoded
            ]
    return operations


@pytest.mark.parametrize("kernel", ["base64", "dot", "matrix", "population", "scan"])
def test_a_variant_has_the_same_code_as_compiling_for_its_target_alone(kernel, tmp_path):
    """Neither what else is in the module nor how it is dispatched makes the code any worse."""
    if llvm_version()[0] < 22:
        pytest.skip("the IR that ziglang writes is of LLVM 22: pip install 'llvmlite>=0.48'")
    ir = ("-O2", "-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm", "-g0")
    command(*ZIG, "-target", "x86_64-linux-gnu", *ir, KERNELS / f"{kernel}.c", "-o", "kernel.ll", folder=tmp_path)
    for mechanism in MECHANISMS:
        variants = functions(aot.compile(tmp_path / "kernel.ll", targets=LEVELS, dispatch=mechanism).object)
        for level in LEVELS:
            once = functions(aot.compile(tmp_path / "kernel.ll", Target.parse(level), guard=False).object)
            assert {name: variants[f"{name}.{level}"] for name in once} == once


def calls(path: Path) -> dict[str, set[str]]:
    """Which functions each function of a library calls or jumps to, other than by an address in memory."""
    elf = ELFFile(io.BytesIO(path.read_bytes()))
    code, addresses = elf.get_section_by_name(".text"), symbols(path)
    at = {address: name for name, (address, _) in addresses.items()}
    called: dict[str, set[str]] = {}
    for name, (start, size) in addresses.items():
        if code["sh_addr"] <= start < code["sh_addr"] + code["sh_size"]:
            content = code.data()[start - code["sh_addr"] :][:size]
            for instruction in iced_x86.Decoder(64, content, ip=start):
                if instruction.op_count and instruction.op0_kind == iced_x86.OpKind.NEAR_BRANCH64:
                    called.setdefault(name, set()).add(at.get(instruction.near_branch_target, ""))
    return called


def test_a_variant_begins_at_a_cache_line(llvm_python, monkeypatch, tmp_path):
    """Unless the function says how it is to be aligned, or is to be small."""
    use_llvm_of(llvm_python, monkeypatch)
    attributes = {"plain": ("", 64), "own": ("align 128", 128), "less": ("align 32", 32), "small": ("optsize", 2)}
    parts = [
        f"define i32 @first_{name}() {{ ret i32 1 }}\ndefine i32 @{name}() {text} {{ ret i32 {len(name)} }}"
        for name, (text, _) in attributes.items()
    ]
    path = tmp_path / "f.o"
    aot.compile("\n".join(parts), targets=LEVELS).save(path)
    places = symbols(path)
    for name, (_, least) in attributes.items():
        starts = [places[f"{name}.{level}"][0] for level in LEVELS]
        assert [place % least for place in starts] == [0] * len(LEVELS)
        assert least >= 64 or any(place % 64 for place in starts), (name, starts)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_variants_call_each_other_directly(mechanism, tmp_path):
    """Unoptimized, so that nothing is inlined."""
    aot.compile(MODULE, targets=LEVELS, dispatch=mechanism, opt=0).save(tmp_path / "variants.o")
    command(cc(), "-shared", "variants.o", "-o", "variants.so", folder=tmp_path)
    called = calls(tmp_path / "variants.so")
    for level in LEVELS:
        for caller, callees in {
            "exported": {"triple", "inline", "exported"},
            "triple": {"helper"},
            "call.hidden": {"hidden"},
            "is.even": {"is.odd"},
            "is.odd": {"is.even"},
            "construct": {"triple"},
            "call.quoted": {'a name, with: quotes "; f("'},
        }.items():
            assert called[f"{caller}.{level}"] >= {f"{name}.{level}" for name in callees}
        own = [names for name, names in called.items() if name.endswith(f".{level}")]
        foreign = {name for names in own for name in names if name.endswith(LEVELS) and not name.endswith(f".{level}")}
        assert foreign - {name for name in foreign if level == "x86-64" and name.endswith("x86-64")} == set()
        assert f"replaceable.{level}" not in called[f"call.replaceable.{level}"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_a_variant_calls_is_inlined_into_it(mechanism, tmp_path):
    """LLVM does not see by itself that what only an ifunc leads to is called."""
    text = """
    define internal i32 @small(i32 %a) { %r = mul i32 %a, 3
    ret i32 %r }
    define i32 @large(i32 %a) { %b = call i32 @small(i32 %a)
    %r = call i32 @small(i32 %b)
    ret i32 %r }"""
    aot.compile(text, targets=LEVELS, dispatch=mechanism).save(tmp_path / "variants.o")
    command(cc(), "-shared", "variants.o", "-o", "variants.so", folder=tmp_path)
    addresses = symbols(tmp_path / "variants.so")
    assert {f"large.{level}" for level in LEVELS} <= addresses.keys()
    assert [name for name in addresses if name.startswith("small")] == []


RUST = """
use std::os::raw::{c_double, c_int};
extern "C" {
    fn exported(x: c_int) -> c_int;
    fn fused(a: c_double, b: c_double, c: c_double) -> c_double;
    static mut shared: c_int;
}
fn main() {
    let function: unsafe extern "C" fn(c_int) -> c_int = exported;
    unsafe { println!("{} {} {} {}", exported(4), function(4), fused(1.0, 2.0, 3.0), shared) }
}
"""


def test_rust_calls_a_library_with_variants(build):
    rustc = tool("rustc")
    (build.folder / "main.rs").write_text(RUST)
    command(rustc, "main.rs", "-C", "link-arg=variants.o", "-o", "rust", folder=build.folder)
    assert command(build.folder / "rust", folder=build.folder) == "-2972 -2972 8 18\n"


def test_ctypes_calls_a_library_with_variants(build):
    loaded = ctypes.CDLL(str(build.library()))
    loaded.fused.restype, loaded.fused.argtypes = ctypes.c_double, [ctypes.c_double] * 3
    assert (loaded.exported(4), loaded.sum(4, 1, 2, 3, 4), loaded.fused(1.0, 2.0, 3.0)) == (-2972, 10, 8.0)
    assert ctypes.c_int.in_dll(loaded, "shared").value == 18


# --- what a definition elsewhere replaces


def test_a_weak_function_is_replaced_everywhere(build):
    (build.folder / "replacement.c").write_text("int replaceable(int x) { return 1000 + x; }")
    program = build.program(cc(), "replacement.c")
    assert "inner -5 1008 1008 2\n" in command(program, folder=build.folder)


INLINE = """
$f = comdat any
$f.state = comdat any
@f.state = linkonce_odr global i32 0, comdat
define linkonce_odr VISIBLE i32 @f(i32 %x) noinline comdat {{
  %old = load i32, i32* @f.state
  %new = add i32 %old, %x
  store i32 %new, i32* @f.state
  ret i32 %new
}}
define i32 @call_{0}(i32 %x) {{ %r = call i32 @f(i32 %x)
  ret i32 %r }}
define i32 (i32)* @address_{0}() {{ ret i32 (i32)* @f }}
"""
USES_INLINE = """
#include <stdio.h>
int call_a(int), call_b(int);
void *address_a(void), *address_b(void);
int main(void) { int a = call_a(1), b = call_b(2); printf("%d %d %d\\n", a, b, address_a() == address_b()); }
"""


@pytest.mark.parametrize("visible", ["", "hidden"])
@pytest.mark.parametrize("b_has_variants", [True, False])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_function_in_several_objects_has_one_address(mechanism, b_has_variants, visible, tmp_path):
    """As C++ does with inline functions; whichever object the linker sees first."""
    for name in "ab":
        text = INLINE.format(name).replace("VISIBLE", visible)
        how = {"targets": LEVELS, "dispatch": mechanism} if name == "a" or b_has_variants else {"target": BASELINE}
        aot.compile(text, **how).save(tmp_path / f"{name}.o")
    (tmp_path / "main.c").write_text(USES_INLINE)
    for objects in (("a.o", "b.o"), ("b.o", "a.o")):
        for linker in ((cc(),), (cc(), "-static"), (*ZIG, "-target", "x86_64-linux-gnu")):
            command(*linker, "main.c", *objects, "-o", "main", folder=tmp_path)
            assert command(tmp_path / "main", folder=tmp_path) == "1 3 1\n"


EARLY = """
%entry = type { i32, void ()*, i8* }
@found = global i32 0
@llvm.global_ctors = appending global [1 x %entry] [%entry { i32 0, void ()* @first, i8* null }]
define i32 @f(i32 %x) noinline { %r = mul i32 %x, 7
  ret i32 %r }
define internal void @first() { %r = call i32 @through(i32 (i32)* @f, i32 6)
  store i32 %r, i32* @found
  ret void }
define internal i32 @through(i32 (i32)* %f, i32 %x) noinline { %r = call i32 %f(i32 %x)
  ret i32 %r }
define internal i32 ()* @resolve() { %r = call i32 @f(i32 1)
  %is = icmp eq i32 %r, 7
  %answer = select i1 %is, i32 ()* @good, i32 ()* @bad
  ret i32 ()* %answer }
define internal i32 @good() { ret i32 1 }
define internal i32 @bad() { ret i32 2 }
@own = ifunc i32 (), i32 ()* ()* @resolve
"""


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_dispatched_function_can_be_called_before_anything_is_initialized(mechanism, tmp_path):
    """By a constructor of the earliest priority, from a section that runs before any, and by an ifunc's resolver."""
    aot.compile(EARLY, targets=LEVELS, dispatch=mechanism).save(tmp_path / "early.o")
    (tmp_path / "main.c").write_text(
        """
        #include <stdio.h>
        extern int found;
        int f(int), own(void);
        static int before;
        static void earliest(void) { before = f(3); }
        __attribute__((section(".preinit_array"), used)) static void (*pointer)(void) = earliest;
        int main(void) { printf("%d %d %d\\n", before, found, own()); }
        """
    )
    for options in ((), ("-static",), ("-no-pie",)):
        command(cc(), *options, "main.c", "early.o", "-o", "main", folder=tmp_path)
        assert command(tmp_path / "main", folder=tmp_path) == "21 42 1\n"


CALLED_BACK = """
@pool = internal global [1048576 x i8] zeroinitializer, align 16
@used = internal global i64 0
declare i32 @run()
define i32 @callback(i32 %x) noinline { %r = add i32 %x, 1
  ret i32 %r }
define i8* @malloc(i64 %size) { %at = load i64, i64* @used
  %more = add i64 %size, 15
  %whole = and i64 %more, -16
  %next = add i64 %at, %whole
  store i64 %next, i64* @used
  %place = getelementptr [1048576 x i8], [1048576 x i8]* @pool, i64 0, i64 %at
  ret i8* %place }
define void @free(i8* %place) { ret void }
define i32 @main() { %r = call i32 @run()
  ret i32 %r }
"""
CALLS_BACK = """
#include <stdlib.h>
int callback(int);
int (*volatile pointer)(int) = callback;
int run(void) {
    int *number = malloc(sizeof *number), given;
    *number = 40;
    given = callback(*number) + (pointer == callback);
    free(number);
    return given;
}
"""


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_libraries_can_call_back_into_a_program_with_variants(mechanism, tmp_path):
    """They are relocated before it. The C library calls back as well, where a program has a malloc of its own."""
    aot.compile(CALLED_BACK, targets=LEVELS, dispatch=mechanism).save(tmp_path / "main.o")
    (tmp_path / "library.c").write_text(CALLS_BACK)
    for lazy in ("now", "lazy"):
        command(cc(), "-shared", "-fPIC", f"-Wl,-z,{lazy}", "library.c", "-o", "library.so", folder=tmp_path)
        for options in ((), ("-no-pie",), ("-rdynamic",)):
            command(cc(), *options, "main.o", "./library.so", "-o", "main", folder=tmp_path)
            for environment in ({}, {"LD_BIND_NOW": "1"}):
                ran = subprocess.run(
                    [tmp_path / "main"], cwd=tmp_path, env=environment, capture_output=True, check=False
                )
                assert (ran.returncode, ran.stderr) == (42, b"")


def test_a_program_that_exports_an_ifunc_is_refused(tmp_path):
    """Of a module that does not show that it is for a program."""
    library, main, path = (tmp_path / name for name in ("library.so", "main.o", "main"))
    (tmp_path / "f.c").write_text("int f(int);\nint run(void) { return f(41); }")
    (tmp_path / "main.c").write_text("int run(void);\nint main(void) { return run(); }")
    command(cc(), "-shared", "-fPIC", "-Wl,-z,now", "f.c", "-o", library, folder=tmp_path)
    command(cc(), "-c", "main.c", "-o", main, folder=tmp_path)
    text = "define i32 @f(i32 %x) { %r = add i32 %x, 1\nret i32 %r }"
    arguments = [str(main), str(library)]
    with pytest.raises(ArtifactError, match=r'libraries see f, and .*: compile for dispatch="pointer"'):
        aot.compile(text, targets=LEVELS, dispatch="ifunc").link(path, arguments=arguments)
    aot.compile(text, targets=LEVELS, dispatch="pointer").link(path, arguments=arguments)
    assert subprocess.run([path], check=False).returncode == 42


# --- the environment, and machines that can run none


def test_cpufeat_disable_skips_variants(tmp_path, qemu):
    aot.compile(MODULE, targets=LEVELS, runtime_override=True).save(tmp_path / "variants.o")
    (tmp_path / "program.c").write_text(PROGRAM)
    command(cc(), "program.c", "variants.o", "-o", "program", folder=tmp_path)
    where = str(picked_beside(tmp_path / "program", "shared"))
    for disabled, picked in (("", 1), ("avx512f", 1), ("FMA avx512f", 2), ("sse2", 2), ("no_such", 1)):
        ran = run(qemu, HASWELL, [str(tmp_path / "program"), where], {"CPUFEAT_DISABLE": disabled})
        assert ran.stdout.endswith(f"picked {picked}\n")


NEEDS_FMA = """
@one = global double 1.0
declare double @llvm.fma.f64(double, double, double)
define i32 @main() {
  %a = load double, double* @one
  %f = call double @llvm.fma.f64(double %a, double 41.0, double %a)
  %r = fptosi double %f to i32
  ret i32 %r
}
"""


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_program_without_a_variant_that_runs_says_so(mechanism, tmp_path, qemu):
    aot.compile(NEEDS_FMA, targets=LEVELS[:2], dispatch=mechanism).save(tmp_path / "main.o")
    command(cc(), "main.o", "-o", "main", folder=tmp_path)
    assert run(qemu, HASWELL, [str(tmp_path / "main")]).returncode == 42
    refused = run(qemu, NO_AVX, [str(tmp_path / "main")])
    assert refused.returncode == 126
    assert (
        "program: this CPU lacks: avx, fma (needed by this program, built for x86-64-v4, x86-64-v3)\n" in refused.stderr
    )


# --- loaded into this process


def loadable(text: str) -> str:
    """The module without what LLVM does not link into a process: thread-local variables and constructors."""
    dropped = ("@each.thread", "@llvm.global_ctors")
    whole = re.sub(r"define i32 @thread\(\).*?\n}\n", "", text, flags=re.S)
    return "".join(line for line in whole.splitlines(keepends=True) if not line.startswith(dropped))


@pytest.mark.parametrize(("lacks", "picked"), [((), 0), (("avx512f",), 1), (("fma",), 2)])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_loading_selects_the_variant_that_emitted_code_would(mechanism, lacks, picked):
    host = detect()
    if not Target.parse("x86-64-v4").runs_on(host):
        pytest.skip("needs a CPU with AVX-512, which qemu-user cannot emulate")
    artifact = aot.compile(loadable(MODULE), targets=LEVELS, dispatch=mechanism)
    loaded = artifact.load(host.replace(features=host.features.without(lacks)))
    assert UNARY(loaded["exported"])(4) == -2972
    fused = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * 3)(loaded["fused"])
    assert (fused(1 + 2**-30, 1 - 2**-30, -0.5) != 0) == (picked < 2)
    assert "hidden" not in loaded
    for name in ("triple", "exported", "hidden"):
        address = ctypes.CFUNCTYPE(ctypes.c_void_p)(loaded[f"address.of.{name}"])()
        assert UNARY(address)(-1) == {"triple": 0, "exported": 0, "hidden": -8}[name]
    assert ctypes.CFUNCTYPE(ctypes.c_void_p)(loaded["address.of.exported"])() == loaded["exported"] == loaded["alias"]


def test_loading_refuses_a_host_that_runs_no_variant():
    artifact = aot.compile(NEEDS_FMA, targets=LEVELS[:2])
    host = detect()
    with pytest.raises(MissingFeaturesError, match=r"compiled for x86-64-v3, needs .*fma: not reported") as caught:
        artifact.load(host.replace(features=host.features.without(["fma"])))
    assert "avx512f" not in caught.value.missing


def test_loading_honours_cpufeat_disable_with_runtime_override(monkeypatch):
    monkeypatch.setenv("CPUFEAT_DISABLE", "fma")
    v4 = detect().replace(features=Target.parse("x86-64-v4").features)
    for override, picked in ((False, 0), (True, 2)):
        artifact = aot.compile("define void @f() { ret void }", targets=LEVELS, runtime_override=override)
        assert (artifact.runtime_override, artifact.selected_on(v4)) == (override, picked)
        assert aot.Artifact.open(artifact.object) == artifact


def test_loading_needs_the_names_of_the_variants(tmp_path):
    strip = tool("strip")
    aot.compile("define i32 @f() { ret i32 1 }", targets=LEVELS, dispatch="ifunc").save(tmp_path / "f.o")
    command(strip, "--strip-unneeded", tmp_path / "f.o", folder=tmp_path)
    with pytest.raises(ArtifactError, match="the names of its variants were stripped"):
        aot.Artifact.open(tmp_path / "f.o").load()


# --- debug information


DEBUG = """
define i32 @outer(i32 %x) !dbg !5 {
  %y = call i32 @inner(i32 %x), !dbg !12
  ret i32 %y, !dbg !13
}
define internal i32 @inner(i32 %x) !dbg !8 {
  call void @llvm.dbg.value(metadata i32 %x, metadata !10, metadata !DIExpression()), !dbg !14
  %y = mul i32 %x, 7, !dbg !14
  ret i32 %y, !dbg !14
}
declare void @llvm.dbg.value(metadata, metadata, metadata)
!llvm.dbg.cu = !{!0}
!llvm.module.flags = !{!3, !4}
!0 = distinct !DICompileUnit(language: DW_LANG_C99, file: !1, isOptimized: true, emissionKind: FullDebug)
!1 = !DIFile(filename: "twice !8.c", directory: "/")
!2 = !{}
!3 = !{i32 7, !"Dwarf Version", i32 4}
!4 = !{i32 2, !"Debug Info Version", i32 3}
!5 = distinct !DISubprogram(name: "outer", scope: !1, file: !1, line: 3, type: !6, unit: !0,
                            spFlags: DISPFlagDefinition, retainedNodes: !2)
!6 = !DISubroutineType(types: !7)
!7 = !{!11, !11}
!8 = distinct !DISubprogram(name: "inner", scope: !1, file: !1, line: 7, type: !6, unit: !0,
                            spFlags: DISPFlagLocalToUnit | DISPFlagDefinition, retainedNodes: !9)
!9 = !{!10}
!10 = !DILocalVariable(name: "given", arg: 1, scope: !8, file: !1, line: 7, type: !11)
!11 = !DIBasicType(name: "int", size: 32, encoding: DW_ATE_signed)
!12 = !DILocation(line: 4, scope: !5)
!13 = !DILocation(line: 5, scope: !5)
!14 = !DILocation(line: 8, scope: !8)
"""


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_variant_has_its_debug_information(mechanism, tmp_path):
    aot.compile(DEBUG.replace(",\n", ","), targets=LEVELS, dispatch=mechanism, opt=0).save(tmp_path / "f.o")
    command(cc(), "-shared", "f.o", "-o", "f.so", folder=tmp_path)
    (unit,) = ELFFile(io.BytesIO((tmp_path / "f.so").read_bytes())).get_dwarf_info().iter_CUs()
    described = [die for die in unit.iter_DIEs() if die.tag == "DW_TAG_subprogram"]
    at = {address: name for name, (address, _) in symbols(tmp_path / "f.so").items()}
    named = {at[die.attributes["DW_AT_low_pc"].value]: die.attributes["DW_AT_name"].value for die in described}
    assert named == {f"{name}.{level}": name.encode() for name in ("outer", "inner") for level in LEVELS}
    variables = [child.attributes["DW_AT_name"].value for die in described for child in die.iter_children()]
    assert variables == [b"given"] * len(LEVELS)


# --- without symbols


FUSES = """
declare i32 @abs(i32)
define i32 @exported(i32 %x) uwtable { %r = call i32 @fuse(i32 %x)
  ret i32 %r }
define internal i32 @fuse(i32 %x) noinline uwtable {
  %d = sitofp i32 %x to double
  %p = fmul contract double %d, %d
  %f = fadd contract double %p, %d
  %i = fptosi double %f to i32
  %r = call i32 @abs(i32 %i)
  ret i32 %r }
define i32 @main() uwtable { %r = call i32 @exported(i32 2)
  ret i32 %r }
"""


@pytest.mark.parametrize("kind", ["executable", "shared"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_stripped_file_shows_that_variants_are_chosen(mechanism, kind, tmp_path):
    """What chooses them has unwind information, as C has, so that it is not taken for a part of what is beside it."""
    targets = [Target.parse(level, LINUX) for level in ("x86-64-v3", "x86-64")]
    path = tmp_path / "f"
    aot.compile(FUSES, targets=targets, dispatch=mechanism).link(path, kind=kind)
    command(tool("llvm-strip"), path, folder=tmp_path)
    bare_by_start = {
        function.start: function.bare.names for function in audit(path).functions if "fma" in function.uses
    }
    assert bare_by_start
    assert not any({"avx", "fma"} & bare for bare in bare_by_start.values())
    assert check(path, "core2").verdict == "runs"


# --- kinds of functions and of what they take


KINDS = {
    "personality": """
        declare i32 @abs(i32)
        define i32 @pers(...) { ret i32 8 }
        define i32 @f(i32 %x) personality i8* bitcast (i32 (...)* @pers to i8*) {
          %r = invoke i32 @abs(i32 %x) to label %ok unwind label %bad
        ok:
          ret i32 %r
        bad:
          %l = landingpad { i8*, i32 } cleanup
          ret i32 -1
        }""",
    "naked, with a symbol in its assembly": """
        define i32 @n(i32 %x) naked noinline {
          call void asm sideeffect "inner_symbol: leal 1(%rdi), %eax; ret", ""()
          unreachable
        }
        define i32 @f(i32 %x) { %r = call i32 @n(i32 %x)
          ret i32 %r }""",
    "only to be inlined": """
        define available_externally i32 @elsewhere(i32 %x) alwaysinline { %r = mul i32 %x, 3
          ret i32 %r }
        define i32 @f(i32 %x) { %r = call i32 @elsewhere(i32 %x)
          ret i32 %r }""",
    "named only by assembly": """
        module asm ".globl from_asm"
        module asm "from_asm: jmp helper"
        @llvm.used = appending global [1 x i8*] [i8* bitcast (i32 (i32)* @helper to i8*)], section "llvm.metadata"
        define internal i32 @helper(i32 %x) { %r = add i32 %x, 3
          ret i32 %r }
        declare i32 @from_asm(i32)
        define i32 @f(i32 %x) { %r = call i32 @from_asm(i32 %x)
          ret i32 %r }""",
    "data before its code": """
        define internal i32 @g(i32 %x) prefix i32 123 { ret i32 %x }
        @p = global i32 (i32)* @g
        define i32 @f(i32 %x) {
          %p = load i32 (i32)*, i32 (i32)** @p
          %i = bitcast i32 (i32)* %p to i32*
          %before = getelementptr i32, i32* %i, i64 -1
          %r = load i32, i32* %before
          ret i32 %r
        }""",
    "no names": """
        define internal i32 @0(i32 %x) { %r = add i32 %x, 5
          ret i32 %r }
        @1 = private global i32 (i32)* @0
        @2 = private global i32 8
        define i32 @f(i32 %x) {
          %p = load i32 (i32)*, i32 (i32)** @1
          %q = call i32 %p(i32 %x)
          %r = call i32 @0(i32 %q)
          %s = load i32, i32* @2
          %t = add i32 %r, %s
          ret i32 %t
        }""",
    "labels of another function": """
        define internal i8* @place() { br label %here
        here:
          ret i8* blockaddress(@place, %here) }
        define i32 @f(i32 %x) {
          %a = call i8* @place()
          %is = icmp eq i8* %a, blockaddress(@place, %here)
          %r = select i1 %is, i32 %x, i32 0
          ret i32 %r
        }""",
}


@pytest.mark.parametrize("opt", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_functions_of_every_kind_can_be_dispatched(mechanism, kind, opt):
    once = aot.compile(KINDS[kind], BASELINE, opt=opt).load()
    variants = aot.compile(KINDS[kind], targets=LEVELS, dispatch=mechanism, opt=opt).load()
    for number in (7, -7):
        assert UNARY(variants["f"])(number) == UNARY(once["f"])(number)


TYPES = [
    *(("i64", "i8", "i128", "double", "float", "i32*")),
    *(("{ i64, i64 }", "{ double, double }", "[2 x i32]", "<4 x i32>", "<2 x double>")),
    *(("i256", "[4 x i64]", "{ i32, i64, i8 }", "{ float, float, float }", "%named", "<{ i8, i32 }>")),
]
CONVENTIONS = ["", "fastcc", "preserve_mostcc", "swiftcc", "tailcc", "win64cc"]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_arguments_and_results_of_every_kind_are_forwarded(convention, llvm_version, llvm_python, monkeypatch):
    """Handed on through the dispatched symbol of each: in registers, on the stack and in memory of the caller."""
    if convention == "preserve_mostcc" and llvm_version < 20:
        pytest.skip("LLVM before 16 restores what such a function returns in RAX")
    use_llvm_of(llvm_python, monkeypatch)
    lines = ["%named = type { i8, [3 x i16], i64 }", "@held = global i32 0"]
    for number, kind in enumerate(TYPES):
        size = f"ptrtoint ({kind}* getelementptr ({kind}, {kind}* null, i32 1) to i32)"
        lines.append(f"""
            @in{number} = global [64 x i8] zeroinitializer
            @out{number} = global [64 x i8] zeroinitializer
            @size{number} = global i32 {size}
            @through{number} = global {kind} (i64, double, i64, {kind}, i64, i64, i64, i64, i64)* @same{number}
            define internal {convention} {kind} @same{number}(i64 %a, double %d, i64 %b, {kind} %x,
                                                              i64 %c, i64 %e, i64 %f, i64 %g, i64 %h) {{
              %sum = add i64 %a, %h
              %s = trunc i64 %sum to i32
              store i32 %s, i32* @held
              ret {kind} %x
            }}
            define void @run{number}() {{
              %in = bitcast [64 x i8]* @in{number} to {kind}*
              %x = load {kind}, {kind}* %in, align 1
              %p = load {kind} (i64, double, i64, {kind}, i64, i64, i64, i64, i64)*,
                        {kind} (i64, double, i64, {kind}, i64, i64, i64, i64, i64)** @through{number}
              %r = call {convention} {kind} %p(i64 1, double 2.0, i64 3, {kind} %x, i64 4, i64 5, i64 6, i64 7, i64 8)
              %out = bitcast [64 x i8]* @out{number} to {kind}*
              store {kind} %r, {kind}* %out, align 1
              ret void
            }}""")
    loaded = aot.compile("\n".join(lines), targets=LEVELS, dispatch="pointer").load()
    for number, kind in enumerate(TYPES):
        length = ctypes.c_int.from_address(loaded[f"size{number}"]).value
        before, after = ((ctypes.c_char * length).from_address(loaded[f"{name}{number}"]) for name in ("in", "out"))
        before.raw = bytes(range(1, length + 1))
        ctypes.CFUNCTYPE(None)(loaded[f"run{number}"])()
        counter = ctypes.c_int.from_address(loaded["held"])
        assert (counter.value, kind, _significant(kind, after.raw)) == (9, kind, _significant(kind, before.raw))
        counter.value = 0


def _significant(kind: str, content: bytes) -> bytes:
    """What of a type's bytes is no padding."""
    padding = {"{ i32, i64, i8 }": (*range(4, 8), *range(17, 24)), "%named": (1,)}.get(kind, ())
    return bytes(byte for index, byte in enumerate(content) if index not in padding)


def test_an_interposable_function_is_called_by_its_symbol(tmp_path):
    module = """
    define i32 @g(i32 %x) noinline { ret i32 %x }
    define dso_local i32 @h(i32 %x) noinline { ret i32 %x }
    define i32 @f(i32 %x) { %a = call i32 @g(i32 %x)
      %b = call i32 @h(i32 %a)
      ret i32 %b }
    !llvm.module.flags = !{!0}
    !0 = !{i32 1, !"SemanticInterposition", i32 1}
    """
    aot.compile(module, targets=LEVELS, opt=0).save(tmp_path / "f.o")
    command(cc(), "-shared", "f.o", "-o", "f.so", folder=tmp_path)
    called = calls(tmp_path / "f.so")
    assert {name for names in called.values() for name in names if name.startswith(("g.", "h."))} == {
        f"h.{level}" for level in LEVELS
    }


def test_an_intrinsic_that_takes_a_function_takes_the_clone(tmp_path):
    """``llvm.init.trampoline`` makes LLVM look into the function."""
    module = """
    define internal i32 @nested(i32* nest %frame, i32 %x) { %v = load i32, i32* %frame
      %r = add i32 %v, %x
      ret i32 %r }
    declare void @llvm.init.trampoline(i8*, i8*, i8*)
    declare i8* @llvm.adjust.trampoline(i8*)
    define i32 @f(i8* %memory, i32 %x) {
      %frame = alloca i32
      store i32 100, i32* %frame
      %bytes = bitcast i32* %frame to i8*
      call void @llvm.init.trampoline(i8* %memory, i8* bitcast (i32 (i32*, i32)* @nested to i8*), i8* %bytes)
      %p = call i8* @llvm.adjust.trampoline(i8* %memory)
      %g = bitcast i8* %p to i32 (i32)*
      %r = call i32 %g(i32 %x)
      ret i32 %r
    }
    """
    aot.compile(module, targets=LEVELS).save(tmp_path / "f.o")
    (tmp_path / "main.c").write_text(
        """
        #include <sys/mman.h>
        int f(void *, int);
        int main(void) { return f(mmap(0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4); }
        """
    )
    command(cc(), "main.c", "f.o", "-o", "main", folder=tmp_path)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 104
    assert "nested" not in symbols(tmp_path / "main")


# --- what cannot be


@pytest.mark.parametrize(
    ("module", "function", "message"),
    [
        ("define <8 x float> @f(<8 x float> %a) { ret <8 x float> %a }", "f", "<8 x float> by value"),
        ("define void @f({ i32, <32 x i8> } %a) { ret void }", "f", "<32 x i8> by value"),
        (
            """%outer = type { i32, [2 x %"an inner one"] }
            %"an inner one" = type { <8 x float>, %"an inner one"* }
            define void @f(%outer %a) { ret void }""",
            "f",
            "<8 x float> by value",
        ),
        ("define <16 x i1> @f() { ret <16 x i1> zeroinitializer }", "f", "<16 x i1> by value"),
        (
            """@p = global void (<16 x i32>)* @f
            define internal void @f(<16 x i32> %a) { ret void }""",
            "f",
            "<16 x i32> by value",
        ),
        ('@"f.x86-64-v3" = global i32 0\ndefine void @f() { ret void }', "f.x86-64-v3", "the name is needed"),
        ("define void @f() { ret void }\ndefine void @f.resolver() { ret void }", "f.resolver", "the name is needed"),
        (
            """@labels = global [1 x i8*] [i8* blockaddress(@f, %here)]
            define void @f() { br label %here
            here:
              ret void }""",
            None,
            "labels: addresses of labels",
        ),
        (
            """$f = comdat any
            @count = internal global i32 0, comdat($f)
            define linkonce_odr i32* @f() comdat { ret i32* @count }""",
            None,
            "count: local data in a comdat",
        ),
        ("declare void @g() noduplicate\ndefine void @f() { call void @g()\nret void }", "f", "noduplicate"),
        (
            "define void @f() { call void @__cpufeat_pick()\nret void }\ndeclare void @__cpufeat_pick()",
            None,
            "reserved for cpufeat",
        ),
    ],
)
def test_a_module_that_cannot_be_cloned_is_refused(module, function, message):
    with pytest.raises(
        CompileError, match=f"^<string>: cannot be compiled for several targets: .*{re.escape(message)}"
    ) as caught:
        aot.compile(module, targets=LEVELS)
    assert caught.value.function == function


@pytest.mark.parametrize("kind", ["<4 x float>", "half", "%named"])
def test_values_passed_in_other_registers_without_sse2_are_refused(kind):
    """LLVM passes these in XMM0 with SSE2, and on the stack or in EAX without, as the jump to a variant would."""
    module = f"%named = type {{ <2 x i64> }}\ndefine {kind} @f({kind} %a) {{ ret {kind} %a }}"
    for targets in (["haswell", "i686"], ["haswell", "pentium4"]):
        with pytest.raises(CompileError, match="by value, in registers that may differ between variants"):
            aot.compile(module, targets=[Target.parse(request, "i686-unknown-linux-gnu") for request in targets])
    aot.compile(module, targets=LEVELS)


def test_a_pointer_to_a_type_with_a_vector_is_portable():
    module = "%v = type { <8 x float>, %v* }\ndefine void @f(%v* %a) { ret void }"
    compiled = aot.compile(module, targets=LEVELS).object
    assert {f"f.{level}" for level in LEVELS} <= functions(compiled).keys()


@pytest.mark.parametrize("options", [{"targets": LEVELS, "dispatch": "pointer"}, {"target": "x86-64-v2"}])
def test_a_name_that_is_not_utf_8_is_kept(options):
    module = '@"\\FF" = global i32 3\ndefine i32 @f() { %r = load i32, i32* @"\\FF"\nret i32 %r }'
    elf = ELFFile(io.BytesIO(aot.compile(module, **options).object))
    assert b"\0\xff\0" in elf.get_section_by_name(".strtab").data()


@pytest.mark.parametrize("how", [lambda targets: {"target": targets[1]}, lambda targets: {"targets": targets}])
@pytest.mark.parametrize("triple", ["x86_64-apple-macosx13", "aarch64-apple-macosx13"])
def test_a_comdat_is_refused_for_mach_o(how, triple):
    """LLVM aborts: MachO doesn't support COMDATs."""
    arm = ("apple-m4", "apple-m1")
    targets = [Target.parse(level, triple) for level in (arm if triple.startswith("aarch64") else LEVELS[1:])]
    module = "{}define linkonce_odr i32 @f() {} {{ ret i32 1 }}"
    with pytest.raises(
        TargetError, match=f"<string>: it has the comdat f, and Mach-O, the format of {triple}, has none"
    ):
        aot.compile(module.format("$f = comdat any\n", "comdat"), **how(targets))
    aot.compile(module.format("", ""), **how(targets))


def test_a_resolver_that_calls_a_function_without_a_baseline_variant_is_refused():
    module = """
    @g = ifunc void (), void ()* ()* @r
    define internal void ()* @r() { call void @f()
      ret void ()* @f }
    define internal void @f() { ret void }
    """
    aot.compile(module, targets=LEVELS)
    with pytest.raises(CompileError, match="function r: it resolves an ifunc, and calls a function without") as caught:
        aot.compile(module, targets=LEVELS[:2])
    assert caught.value.function == "r"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], r"must be a list of targets, not \[\]"),
        (["x86-64-v3", None], "must be Targets, or requests that Target.parse reads"),
        ("x86-64-v3", "must be a list of targets, not 'x86-64-v3'"),
        (["x86-64", "x86-64-v3"], "select x86-64-v3: every machine that can run it runs x86-64, which comes first"),
        (["haswell", "haswell"], "no machine would select haswell"),
        (
            [BASELINE, Target.parse("x86-64", "x86_64-unknown-freebsd")],
            "must all have one triple, not ",
        ),
        (["native"], "relative to a host"),
    ],
)
def test_senseless_targets_are_refused(targets, message):
    with pytest.raises(TargetError, match=message):
        aot.compile("", targets=targets)


@pytest.mark.parametrize("limit", ["time_limit", "memory_limit"])
@pytest.mark.parametrize("number", [0, -1, float("nan")])
def test_limits_that_are_not_positive_are_refused(limit, number):
    with pytest.raises(OptionError, match=f"^{limit} must be positive, not {number}$"):
        aot.compile(MODULE, BASELINE, **{limit: number})


def test_options_with_unknown_values_are_refused():
    with pytest.raises(TargetError, match="pass either target or targets, not both"):
        aot.compile("", BASELINE, targets=LEVELS)
    with pytest.raises(OptionError, match="dispatch must be one of None, 'ifunc', 'pointer', not 'table'"):
        aot.compile("", targets=LEVELS, dispatch="table")  # type: ignore[arg-type]
    with pytest.raises(TargetError, match=r"musl: .*dispatch=\"pointer\""):
        aot.compile(
            "", targets=[Target.parse(level, "x86_64-unknown-linux-musl") for level in LEVELS], dispatch="ifunc"
        )
    with pytest.raises(TargetError, match="CPUFEAT_DISABLE cannot be read in an ifunc resolver"):
        aot.compile("", targets=LEVELS, dispatch="ifunc", runtime_override=True)


@pytest.mark.parametrize(
    ("triple", "override", "mechanism"),
    [
        (LINUX, False, "ifunc"),
        (LINUX, True, "pointer"),
        ("x86_64-unknown-linux-musl", False, "pointer"),
        ("x86_64-unknown-freebsd14", False, "ifunc"),
        ("x86_64-linux-android30", False, "ifunc"),
        ("x86_64-pc-windows-msvc", False, "pointer"),
        ("x86_64-apple-macosx13", False, "pointer"),
        ("x86_64-unknown-openbsd", False, "pointer"),
    ],
)
def test_each_system_has_its_default_mechanism(triple, override, mechanism):
    targets = [Target.parse(level, triple) for level in LEVELS]
    artifact = aot.compile("define void @f() { ret void }", targets=targets, runtime_override=override)
    assert artifact.dispatch == mechanism
    assert [variant.target for variant in artifact.variants] == targets


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_compiling_twice_gives_the_same_bytes(mechanism):
    """Byte for byte, of another process and of this one."""
    made = []
    for isolation in ("process", "process", "none"):
        end_worker()
        made.append(aot.compile(MODULE, targets=LEVELS, dispatch=mechanism, isolation=isolation).object)
    assert made == made[:1] * 3


def test_one_target_needs_no_dispatch():
    artifact = aot.compile("define void @f() { ret void }", targets=["x86-64"], dispatch="ifunc")
    assert (artifact.dispatch, artifact.target, artifact.runtime_override) == ("", BASELINE, False)


ABORTS = """
define void @fine(i32* %p) { ret void }
define void @culprit(<3 x half>* %to, <3 x i128>* %from) {
  %a = load <3 x i128>, <3 x i128>* %from
  %r = uitofp <3 x i128> %a to <3 x half>
  store <3 x half> %r, <3 x half>* %to
  ret void
}
"""
"""LLVM 20 and 22 abort at this for Sapphire Rapids, unoptimized."""


@pytest.mark.parametrize(
    ("targets", "remaining"),
    [
        (["sapphirerapids", "x86-64-v3", "x86-64"], ["x86-64-v4", "x86-64-v3", "x86-64"]),
        (["sapphirerapids", "x86-64-v4", "x86-64"], ["x86-64-v4", "x86-64"]),
        (["sapphirerapids", "x86-64-v4"], ["x86-64-v4"]),
        (["sapphirerapids", "skylake-avx512", "x86-64"], ["skylake-avx512", "x86-64"]),
        (["sapphirerapids", "znver4", "x86-64"], ["znver4", "x86-64-v4", "x86-64"]),
        (["znver4", "sapphirerapids", "x86-64"], ["znver4", "x86-64-v4", "x86-64"]),
    ],
)
def test_machines_of_a_variant_that_llvm_cannot_compile_run_the_best_of_the_others(targets, remaining):
    if llvm_version()[0] < 20:
        pytest.skip("a fault of LLVM 20 and 22")
    with pytest.warns(CpufeatWarning, match="sapphirerapids: LLVM failed at this target: ") as warned:
        artifact = aot.compile(ABORTS, targets=targets, opt=0)
    assert [variant.target.cpu for variant in artifact.variants] == remaining
    assert (len(warned), [decision.kind for decision in artifact.decisions]) == (1, ["fallback"])
    assert artifact.dispatch == ("ifunc" if len(remaining) > 1 else "")
    with pytest.raises(CompileError, match=r"function culprit: .* \(for sapphirerapids\)") as caught:
        aot.compile(ABORTS, targets=targets, opt=0, on_missing="error")
    assert caught.value.function == "culprit"


def test_a_function_that_requests_more_than_the_best_variant_is_a_decision():
    module = 'define void @f() "target-features"="+avx512fp16" { ret void }'
    artifact = compile_quietly(module, None, targets=LEVELS)
    assert [(decision.kind, decision.subject) for decision in artifact.decisions] == [("function", "f")]


# --- any module


FUNCTIONS = st.lists(
    st.tuples(
        st.sampled_from(["", "internal ", "internal ", "weak ", "linkonce_odr ", "hidden ", "private "]),
        st.sampled_from(["", "noinline", "alwaysinline"]),
        st.lists(st.tuples(st.sampled_from(["call", "table", "alias", "address"]), st.integers(0, 99)), max_size=3),
    ),
    min_size=1,
    max_size=8,
)


def made_of(functions) -> str:
    """A module whose functions call those after them: directly, through a table, by another name, by address."""
    count = len(functions)
    kind = "i32 (i32)"
    lines = ["@state = internal global i32 1"]
    lines.append(
        f"@table = internal global [{count} x {kind}*] [" + ", ".join(f"{kind}* @f{n}" for n in range(count)) + "]"
    )
    for number, (linkage, attribute, uses) in enumerate(functions):
        lines.append(f"@a{number} = {'internal ' if linkage == 'private ' else ''}alias {kind}, {kind}* @f{number}")
        inner = [f"define {linkage}i32 @f{number}(i32 %x) {attribute} {{", "  %old = load i32, i32* @state"]
        inner += [
            f"  %new = mul i32 %old, {2 * number + 3}",
            "  store i32 %new, i32* @state",
            "  %r.0 = add i32 %x, %new",
        ]
        later = [(how, number + 1 + to % (count - number - 1)) for how, to in uses] if number + 1 < count else []
        for step, (how, to) in enumerate(later):
            called = {"call": f"@f{to}", "alias": f"@a{to}"}.get(how, f"%p.{step}")
            if how == "table":
                place = f"getelementptr ([{count} x {kind}*], [{count} x {kind}*]* @table, i32 0, i32 {to})"
                inner.append(f"  %p.{step} = load {kind}*, {kind}** {place}")
            elif how == "address":
                inner.append(f"  %p.{step} = select i1 true, {kind}* @f{to}, {kind}* null")
            inner.append(f"  %c.{step} = call i32 {called}(i32 %r.{step})")
            inner.append(f"  %r.{step + 1} = xor i32 %r.{step}, %c.{step}")
        lines += [*inner, f"  ret i32 %r.{len(later)}", "}"]
    same = "".join(
        f"  %e{n} = icmp eq {kind}* @f{n}, @a{n}\n  %i{n} = zext i1 %e{n} to i32\n  %s{n + 1} = add i32 %s{n}, %i{n}\n"
        for n in range(count)
    )
    lines.append(f"define i32 @same() {{\n  %s0 = add i32 0, 0\n{same}  ret i32 %s{count}\n}}")
    lines.append("define i32 @run(i32 %x) { %r = call i32 @f0(i32 %x)\n ret i32 %r }")
    return "\n".join(lines)


def results(artifact) -> list[int]:
    loaded = artifact.load()
    return [UNARY(loaded["run"])(number) for number in (0, 1, -5)] + [ctypes.CFUNCTYPE(ctypes.c_int)(loaded["same"])()]


@settings(max_examples=60, deadline=None)
@given(FUNCTIONS, st.sampled_from(MECHANISMS), st.sampled_from([0, 2]))
def test_any_module_does_the_same_with_variants(functions, mechanism, opt):
    text = made_of(functions)
    once = results(aot.compile(text, BASELINE, opt=opt))
    assert results(aot.compile(text, targets=LEVELS, dispatch=mechanism, opt=opt)) == once
    assert once[-1] == len(functions)


# --- 64-bit Arm


ARM_KERNEL = """
#include <stdio.h>
static int state;
__attribute__((noinline)) static int count(int x) { return state += x; }
static int (*volatile pointer)(int) = count;
float dot(const float *a, const float *b, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum + count(1) + pointer(1);
}
int shared = 1;
"""
ARM_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
float dot(const float *, const float *, int);
extern int shared;
int main(int argc, char **argv) {
    float a[100], b[100];
    for (int i = 0; i < 100; i++) a[i] = i, b[i] = 2;
    float found = dot(a, b, 100);
    printf("%g %d\\n", found, *(int *)((char *)&shared + atol(argv[1])));
}
"""
ARM = ("armv8.2-a+sve", "armv8.2-a", "armv8-a")


@pytest.mark.parametrize(("environment", "mechanism"), [("musl", "pointer"), ("gnu", "pointer"), ("gnu", "ifunc")])
def test_variants_on_emulated_arm_cores(environment, mechanism, tmp_path):
    """With glibc, which zig links only dynamically, where its loader can be had."""
    qemu = tool("qemu-aarch64")
    root = ("-L", str(unpacked(ARM64))) if environment == "gnu" else ()
    zig = (*ZIG, "-target", f"aarch64-linux-{environment}")
    (tmp_path / "kernel.c").write_text(ARM_KERNEL)
    (tmp_path / "program.c").write_text(ARM_PROGRAM)
    ir = ("-O2", "-ffast-math", "-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm", "-g0")
    command(*zig, *ir, "kernel.c", "-o", "kernel.ll", folder=tmp_path)
    targets = [Target.parse(request, f"aarch64-unknown-linux-{environment}") for request in ARM]
    aot.compile(tmp_path / "kernel.ll", targets=targets, dispatch=mechanism).save(tmp_path / "kernel.o")
    command(*zig, "-g0", "program.c", "kernel.o", "-o", "program", folder=tmp_path)
    where = str(picked_beside(tmp_path / "program", "shared"))
    for cpu, picked in (("cortex-a53", 2), ("cortex-a76", 1), ("a64fx", 0), ("max", 0)):
        printed = command(qemu, *root, "-cpu", cpu, tmp_path / "program", where, folder=tmp_path)
        assert printed == f"9903 {picked}\n"


@functools.cache
def aarch64_object(mechanism: Mechanism) -> bytes:
    targets = [Target.parse(request, "aarch64-unknown-linux-gnu") for request in ARM]
    module = 'define void @f() "branch-target-enforcement"="true" "sign-return-address"="all" { ret void }'
    return aot.compile(module, targets=targets, dispatch=mechanism).object


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_branch_protection_covers_dispatchers_and_resolvers(mechanism):
    """Each function that is jumped to begins with a landing pad (BTI c: D503245F)."""
    elf = ELFFile(io.BytesIO(aarch64_object(mechanism)))
    code = elf.get_section_by_name(".text").data()
    first_words = {
        row.name: code[row["st_value"] :][:4]
        for row in elf.get_section_by_name(".symtab").iter_symbols()
        if re.match(r"f\b", row.name)
    }
    assert len(first_words) == (5 if mechanism == "ifunc" else 7)
    assert {name for name, start in first_words.items() if start not in (b"\x5f\x24\x03\xd5", b"\x3f\x23\x03\xd5")} <= {
        "f.pointer"
    }
