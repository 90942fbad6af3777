"""A guarded program says what the CPU lacks and exits with 126, in every form in which programs come; or it runs.

What a CPU has is known from the Python detection of the same emulated CPU, or machine on record.
"""

from __future__ import annotations

import ctypes
import io
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile
from helpers.detection_programs import (
    MAC,
    MAC_ON_INTEL,
    PRINTED_LEAVES,
    WINDOWS,
    WINDOWS_ON_ARM,
    ZIG,
    detection_program,
    parsed_output,
    recorded_machines,
)
from helpers.machines import machine, made_up
from helpers.paths import MACHINES
from helpers.qemu import NO_64_BIT, models, run, side_by_side
from helpers.requirements import tool
from helpers.run_emitted_ir import LINUX, LINUX_ON_ARM, CompiledIR, compile_all, features_text, selectable_features

from cpufeat import aot
from cpufeat.aot.objects import init_array
from cpufeat.aot.objects.elf import Elf
from cpufeat.aot.objects.gnu_property import isa_level, with_isa_level
from cpufeat.aot.runtime import selector
from cpufeat.aot.runtime.guard import guard
from cpufeat.aot.runtime.guard_table import level_to_state, narrow
from cpufeat.binary_format.elf import MAGIC
from cpufeat.decisions import NEEDS_PERMISSION
from cpufeat.detection import dumps
from cpufeat.detection.detect import detect
from cpufeat.detection.systems import ThisMachine
from cpufeat.errors import ArtifactError
from cpufeat.features import FeatureSet
from cpufeat.levels import level_features
from cpufeat.resolution import resolve
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpufeat.detection.host import Host

V4, V3, V2, V1 = (Target.parse(name) for name in ("x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64"))
ARM = Target.parse("armv8.2-a", LINUX_ON_ARM)
RUNS = '#include <stdio.h>\nint main(void) { puts("ran"); return 0; }\n'
NEHALEM = detect(dumps.load(str(MACHINES / "qemu-nehalem.json"))[1])
ONE_LLVM = pytest.mark.parametrize("llvm_version", [22], indirect=True, ids=["LLVM 22"])
ELSEWHERE = {
    "i686": Target.parse("i686+avx2+bmi", "i686-unknown-linux-gnu"),
    "windows": Target.parse("x86-64-v3", WINDOWS),
    "mingw": Target.parse("x86-64-v3", "x86_64-w64-windows-gnu"),
    "mac-on-intel": Target.parse("x86-64-v3", MAC_ON_INTEL),
    "mac": Target.parse("apple-m1", MAC),
    "windows-on-arm": Target.parse("armv8-a+dotprod+crc", WINDOWS_ON_ARM),
    "freebsd": Target.parse("x86-64-v3", "x86_64-unknown-freebsd14"),
}


def modernized(content: bytes) -> bytes:
    """An object with constructors where linkers look."""
    return init_array.modernize(Elf(content)).to_bytes() if content.startswith(MAGIC) else content


def narrowed_for(content: bytes, used: FeatureSet) -> bytes:
    """What compile makes of an object whose code uses these features, but for the note."""
    narrowed = narrow(content, used)
    level = level_to_state(narrowed, used)
    return with_isa_level(Elf(narrowed), level).to_bytes() if level and content.startswith(MAGIC) else narrowed


def x86(*names: str) -> FeatureSet:
    return FeatureSet("x86_64", names)


def message(name: str, lacks: Iterable[str], built: str) -> str:
    return f"{name}: this CPU lacks: {', '.join(lacks)} (needed by this program, built for {built})\n"


@pytest.fixture(scope="module")
def objects(llvm_python, tmp_path_factory) -> Path:
    """Guards as that LLVM compiles them, and what is left of one that needs less."""
    folder = tmp_path_factory.mktemp("guards")
    modules = {f"v3-{opt}.o": (guard([V3], "demo"), LINUX, opt) for opt in range(4)}
    modules["v2.o"] = (guard([V2], "older"), LINUX, 2)
    modules["ask.o"] = (guard([V3], "demo", mode="ask"), LINUX, 2)
    modules["arm.o"] = (guard([ARM], "demo"), LINUX_ON_ARM, 2)
    modules["features.o"] = (features_text(LINUX), LINUX, 2)
    modules["unordered.o"] = (guard([Target.parse("x86-64+aes"), V3], "demo"), LINUX, 2)
    modules["variants.o"] = (
        selector.selector([V4, V3], dispatch="ifunc") + guard([V4, V3], "demo", beside_selector=True),
        LINUX,
        2,
    )
    for name, target in ELSEWHERE.items():
        modules[f"{name}.o"] = (guard([target], "demo"), target.triple, 2)
        modules[f"ask-{name}.o"] = (guard([target], "demo", mode="ask"), target.triple, 2)
    compile_all(llvm_python, modules, folder)
    for path in folder.iterdir():
        path.write_bytes(modernized(path.read_bytes()))
    whole = (folder / "v3-2.o").read_bytes()
    for name, used in (("avx2", ("avx2", "fma")), ("avx", ("avx",)), ("sse2", ("sse2",))):
        (folder / f"{name}.o").write_bytes(narrowed_for(whole, x86(*used)))
    (folder / "v2-stated.o").write_bytes(narrowed_for((folder / "v2.o").read_bytes(), x86("sse4_2")))
    return folder


def linked(folder: Path, *arguments: str, source: str = RUNS, command: tuple[str, ...] = ("gcc",)) -> str:
    (folder / "main.c").write_text(source)
    line = [tool(command[0]), *command[1:], "-o", "program", "main.c", *arguments]
    process = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return str(folder / "program")


def outcome(process: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """Exit status, standard output, and what the program itself says: QEMU says what it cannot emulate."""
    own = [line for line in process.stderr.splitlines(keepends=True) if "TCG doesn't support" not in line]
    return process.returncode, process.stdout, "".join(own)


REFUSED = (126, "", message("demo", (name for name in V3.features.isa if name not in NEHALEM.features), "x86-64-v3"))
RAN = (0, "ran\n", "")


# --- the forms of programs


@pytest.mark.parametrize("opt", range(4))
def test_a_program_runs_or_names_the_missing_features(qemu: str, objects: Path, opt: int) -> None:
    program = linked(objects, f"v3-{opt}.o")
    assert outcome(run(qemu, "Nehalem", [program])) == REFUSED
    assert outcome(run(qemu, "Haswell", [program])) == RAN


@ONE_LLVM
@pytest.mark.parametrize(
    "command",
    [
        ("gcc", "-pie"),
        ("gcc", "-no-pie"),
        ("gcc", "-static"),
        ("gcc", "-static-pie"),
        ("gcc", "-Wl,-z,now"),
        ("gcc", "-Wl,--gc-sections"),
        (*ZIG, "x86_64-linux-musl"),
        (*ZIG[:4], "-target", "x86_64-linux-gnu.2.17"),
    ],
    ids=" ".join,
)
def test_the_guard_works_however_the_program_is_linked(qemu: str, objects: Path, command: tuple[str, ...]) -> None:
    program = linked(objects, "v3-2.o", command=command)
    assert outcome(run(qemu, "Nehalem", [program])) == REFUSED
    assert outcome(run(qemu, "Haswell", [program])) == RAN


EARLY = """
#include <stdio.h>
__attribute__((constructor(101))) static void early(void) { puts("too early"); fflush(stdout); }
static int chosen(void) { return 7; }
static int (*choose(void))(void) { return chosen; }
int by_loader(void) __attribute__((ifunc("choose")));
int main(void) { return by_loader() - 7; }
"""


@ONE_LLVM
@pytest.mark.parametrize("form", ["-pie", "-static"])
def test_the_guard_runs_before_other_constructors_and_after_resolvers(qemu: str, objects: Path, form: str) -> None:
    program = linked(objects, "v3-2.o", form, source=EARLY)
    assert outcome(run(qemu, "Nehalem", [program])) == REFUSED
    assert outcome(run(qemu, "Haswell", [program])) == (0, "too early\n", "")


LOADS = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **names) {
    puts("loading"); fflush(stdout);
    void *library = dlopen(names[1], RTLD_NOW);
    if (!library) { fputs(dlerror(), stderr); return 1; }
    int (*supported)(void) = (int (*)(void))dlsym(library, "cpufeat_supported");
    printf("%d\\n", supported ? supported() : -1);
    return 0;
}
"""


def library(objects: Path, name: str) -> str:
    subprocess.run([tool("gcc"), "-shared", "-o", "library.so", name], cwd=objects, check=True)
    return str(objects / "library.so")


@ONE_LLVM
def test_the_guard_of_a_library_runs_when_it_is_loaded(qemu: str, objects: Path) -> None:
    program, loaded = linked(objects, source=LOADS), library(objects, "v3-2.o")
    assert outcome(run(qemu, "Nehalem", [program, loaded])) == (126, "loading\n", REFUSED[2])
    assert outcome(run(qemu, "Haswell", [program, loaded])) == (0, "loading\n-1\n", "")


@ONE_LLVM
def test_a_library_in_mode_ask_answers_and_does_not_exit(qemu: str, objects: Path) -> None:
    program, loaded = linked(objects, source=LOADS), library(objects, "ask.o")
    assert outcome(run(qemu, "Nehalem", [program, loaded])) == (0, "loading\n0\n", "")
    assert outcome(run(qemu, "Haswell", [program, loaded])) == (0, "loading\n1\n", "")
    assert ctypes.CDLL(loaded).cpufeat_supported() == int(V3.runs_on(detect(ThisMachine())))


@ONE_LLVM
def test_the_guard_of_a_preloaded_library_runs(qemu: str, objects: Path) -> None:
    program, loaded = linked(objects), library(objects, "v3-2.o")
    environment = ["-E", f"LD_PRELOAD={loaded}", program]
    assert outcome(run(qemu, "Nehalem", environment)) == REFUSED
    assert outcome(run(qemu, "Haswell", environment)) == RAN


@ONE_LLVM
def test_mode_ask_exports_its_function_and_mode_exit_exports_none(objects: Path) -> None:
    for name, exported in (("v3-2.o", set()), ("ask.o", {"cpufeat_supported"})):
        with Path(library(objects, name)).open("rb") as file:
            symbols = list(ELFFile(file).get_section_by_name(".dynsym").iter_symbols())
        defined = {symbol.name for symbol in symbols if symbol["st_shndx"] != "SHN_UNDEF"}
        assert {symbol for symbol in defined if "cpufeat" in symbol} == exported


@ONE_LLVM
def test_the_guard_of_variants_without_a_baseline_tests_the_last(qemu: str, objects: Path) -> None:
    program = linked(objects, "variants.o")
    lacks = [name for name in V3.features.isa if name not in NEHALEM.features]
    refused = (126, "", message("demo", lacks, "x86-64-v4, x86-64-v3"))
    assert outcome(run(qemu, "Nehalem", [program])) == refused
    assert outcome(run(qemu, "Haswell", [program])) == RAN


# --- every CPU


@ONE_LLVM
@pytest.mark.parametrize("used", [("avx",), ("avx2", "fma"), ("sse2",), tuple(V3.features.isa)], ids=len)
def test_the_guard_agrees_with_every_emulated_model(qemu: str, objects: Path, used: tuple[str, ...]) -> None:
    """Each run is right, or refused in words: by the guard, or by glibc's loader."""
    narrowed = narrowed_for((objects / "v3-2.o").read_bytes(), x86(*used))
    (objects / "narrowed.o").write_bytes(narrowed)
    states_level = b".note.gnu.property" in narrowed
    source = detection_program(PRINTED_LEAVES, len(selectable_features(LINUX)))
    probe = linked(objects, "features.o", source=source)
    shutil.move(probe, objects / "probe")
    program, probe = linked(objects, "narrowed.o"), str(objects / "probe")
    counted = {0: 0, 126: 0, 127: 0}
    for model, asked, process in side_by_side(
        lambda model: (model, run(qemu, model, [probe]), run(qemu, model, [program])), models(qemu)
    ):
        if NO_64_BIT in asked.stderr:
            continue
        has = detect(parsed_output(asked.stdout, LINUX)[1]).features
        lacks = [name for name in x86(*used).isa - level_features("x86_64", "x86-64") if name not in has]
        status, output, stderr = outcome(process)
        if status == 127:
            assert states_level, model
            assert not level_features("x86_64", isa_level(x86(*used))) <= has, model
            assert stderr.endswith("CPU ISA level is lower than required\n")
        elif lacks:
            assert (status, output, stderr) == (126, "", message("demo", lacks, "x86-64-v3")), model
        else:
            assert (status, output, stderr) == RAN, model
        counted[status] += 1
    assert sum(counted.values()) > 100
    assert counted[0] > 0
    assert (counted[126] + counted[127] > 0) is (used != ("sse2",))


def as_python_says(targets: list[Target], host: Host) -> bool:
    """Any runs; the last may as well need states that it asks for itself, and takes the baseline for granted."""
    asked = {name for name, why in host.withheld.items() if why.reason == NEEDS_PERMISSION}
    last = FeatureSet(host.arch, host.features.names | asked)
    return any(target.runs_on(host) for target in targets) or targets[-1].features.isa - V1.features <= last


@pytest.mark.parametrize(
    "requests",
    [["x86-64-v3"], ["x86-64-v4"], ["sapphirerapids"], ["znver4", "sapphirerapids"], ["x86-64-v4", "x86-64+aes"]],
    ids=" ".join,
)
def test_the_guard_agrees_with_python_on_recorded_and_invented_machines(requests: list[str]) -> None:
    targets, generator = [Target.parse(request) for request in requests], random.Random(5)
    every = [selector.selector(targets) + guard(targets, "demo", mode="ask", beside_selector=True)]
    every += [guard(targets, "demo", mode="ask")]
    for emitted in (CompiledIR(text, LINUX) for text in every):
        machines = [*recorded_machines(), *(made_up(generator) for _ in range(200))]
        machines += [machine("GenuineIntel", 6, 143, set(target.features.isa)) for target in targets]
        answers = []
        for recorded in machines:
            if len(recorded.leaves) == 1:
                emitted.machine = recorded
                answers.append(ctypes.CFUNCTYPE(ctypes.c_int)(emitted.address("cpufeat_supported"))())
                assert answers[-1] == as_python_says(targets, detect(recorded))
        assert set(answers) == {0, 1}


# --- 64-bit Arm, and 32-bit x86


@ONE_LLVM
def test_the_guard_agrees_with_emulated_arm_cores(objects: Path) -> None:
    qemu = tool("qemu-aarch64")
    program = linked(objects, "arm.o", command=(*ZIG, "aarch64-linux-musl"))
    beyond_a53 = ["rdm", "lse", "ccpp"]
    refused = (126, "", message("demo", beyond_a53, "armv8.2-a"))
    assert outcome(run(qemu, "cortex-a53", [program])) == refused
    assert outcome(run(qemu, "cortex-a76", [program])) == RAN


@ONE_LLVM
def test_the_guard_agrees_with_emulated_32_bit_cpus(objects: Path) -> None:
    qemu = tool("qemu-i386")
    program = linked(objects, "i686.o", command=(*ZIG, "x86-linux-musl"))
    lacks = ["sse2", "bmi", "sse3", "ssse3", "sse4_1", "sse4_2", "avx", "avx2"]
    assert outcome(run(qemu, "pentium3", [program])) == (126, "", message("demo", lacks, "i686,+bmi,+avx2"))
    assert outcome(run(qemu, "max", [program])) == RAN


# --- other systems' objects


@pytest.mark.parametrize("name", ELSEWHERE)
def test_objects_of_every_format_can_be_narrowed(objects: Path, name: str) -> None:
    content, target = (objects / f"{name}.o").read_bytes(), ELSEWHERE[name]
    asked = [name for name in target.features.isa if f"+{name}\0".encode() in content]
    assert len(asked) > 1
    narrowed = narrowed_for(content, FeatureSet(target.arch, asked[:1]))
    assert [name for name in asked if f"+{name}\0".encode() in narrowed] == asked[:1]
    assert [name for name in asked if f"-{name}\0".encode() in narrowed] == asked[1:]
    assert narrowed_for(narrowed, FeatureSet(target.arch, asked[:1])) == narrowed


@ONE_LLVM
def test_a_library_for_windows_exports_what_may_be_asked(objects: Path) -> None:
    import lief

    command = [*ZIG[:3], "cc", "-target", "x86_64-windows-gnu", "-shared", "-o", "library.dll", "ask-mingw.o"]
    subprocess.run(command, cwd=objects, check=True)
    parsed = lief.PE.parse(objects / "library.dll")  # what it gives does not keep it alive
    assert [entry.name for entry in parsed.get_export().entries] == ["cpufeat_supported"]


@ONE_LLVM
def test_a_program_for_windows_has_the_guard_among_its_constructors(objects: Path) -> None:
    program = linked(objects, "mingw.o", command=(*ZIG[:3], "cc", "-target", "x86_64-windows-gnu"))
    assert b"demo: this CPU lacks: " in Path(program).read_bytes()


# --- narrowing


def properties(content: bytes) -> dict[int, int]:
    """The properties in an ELF file's notes, as pyelftools reads them."""
    elf = ELFFile(io.BytesIO(content))
    values = {}
    for section in elf.iter_sections():
        if section.name == ".note.gnu.property":
            for note in section.iter_notes():
                values.update({property_.pr_type: property_.pr_data for property_ in note.n_desc})
    return values


NEEDED = "GNU_PROPERTY_X86_ISA_1_NEEDED"


def isa_needed(content: bytes) -> int:
    """The mask of levels that a file needs, 0 where it states none."""
    return next((value for kind, value in properties(content).items() if kind in (NEEDED, 0xC0008002)), 0)


def test_an_object_states_the_level_of_what_it_uses(objects: Path) -> None:
    assert isa_needed((objects / "v3-2.o").read_bytes()) == 0
    assert isa_needed((objects / "avx2.o").read_bytes()) == 0b111
    assert isa_needed((objects / "v2-stated.o").read_bytes()) == 0b11
    assert isa_needed((objects / "avx.o").read_bytes()) == 0
    assert isa_needed((objects / "sse2.o").read_bytes()) == 0


def test_no_level_is_stated_where_another_variant_may_run(objects: Path) -> None:
    content = (objects / "unordered.o").read_bytes()
    narrowed = narrowed_for(content, x86("avx2"))
    assert b"-fma\0" in narrowed
    assert isa_needed(narrowed) == 0
    assert isa_needed(narrowed_for((objects / "variants.o").read_bytes(), x86("avx2"))) == 0b111


def test_a_guard_whose_table_needs_nothing_tests_nothing(objects: Path) -> None:
    assert b"needs\x9d!" in (objects / "v3-2.o").read_bytes()
    assert b"needs\x9d-" in (objects / "sse2.o").read_bytes()


@ONE_LLVM
def test_glibc_refuses_a_program_that_states_a_level_beyond_the_cpu(qemu: str, objects: Path) -> None:
    program = linked(objects, "avx2.o")
    status, output, stderr = outcome(run(qemu, "Nehalem", [program]))
    assert (status, output) == (127, "")
    assert stderr.endswith("CPU ISA level is lower than required\n")
    assert outcome(run(qemu, "Haswell", [program])) == RAN
    static = linked(objects, "avx2.o", "-static")
    assert outcome(run(qemu, "Nehalem", [static])) == (126, "", message("demo", ["fma", "avx2"], "x86-64-v3"))


@ONE_LLVM
def test_glibc_refuses_to_load_a_library_that_states_a_level_beyond_the_cpu(qemu: str, objects: Path) -> None:
    program, loaded = linked(objects, source=LOADS), library(objects, "avx2.o")
    status, output, stderr = outcome(run(qemu, "Nehalem", [program, loaded]))
    assert (status, output) == (1, "loading\n")
    assert stderr.endswith("CPU ISA level is lower than required")


@ONE_LLVM
@pytest.mark.parametrize("order", [("avx2.o", "v2-stated.o"), ("v2-stated.o", "avx2.o"), ("sse2.o", "avx2.o")])
def test_linkers_state_the_highest_level_of_all_objects(objects: Path, order: tuple[str, ...]) -> None:
    """With the startup code's own properties, and an object's that has none."""
    program = linked(objects, *order, "-fcf-protection=full")
    assert isa_needed(Path(program).read_bytes()) == 0b111


@ONE_LLVM
def test_a_level_is_joined_with_a_property_that_the_object_has(objects: Path) -> None:
    (objects / "cet.s").write_text(f"""
    .section .note.gnu.property,"a"
    .p2align 3
    .long 4, 16, 5
    .asciz "GNU"
    .long 0xc0000002, 4, 3, 0
    .section .note.GNU-stack,"",@progbits
    .text
    .section .rodata
    .ascii "{guard_table(objects)}"
    """)
    subprocess.run([tool("gcc"), "-c", "cet.s"], cwd=objects, check=True)
    both = narrowed_for((objects / "cet.o").read_bytes(), x86("avx2", "fma"))
    (objects / "both.o").write_bytes(both)
    command = ["ld", "-r", "-o", "joined.o", "both.o"]
    subprocess.run(command, cwd=objects, check=True)
    joined = properties((objects / "joined.o").read_bytes())
    assert set(joined.values()) >= {0b11, 0b111}


def guard_table(objects: Path) -> str:
    """A guard's table as octal escapes."""
    content = (objects / "v3-2.o").read_bytes()
    start = content.index(b"\x7fcpufeat needs")
    return "".join(f"\\{byte:03o}" for byte in content[start : content.index(b"\0\0", start) + 2])


@pytest.mark.parametrize(
    ("used", "level"),
    [
        ("sse2", ""),
        ("sse3", ""),
        ("ssse3 sse4_1", ""),
        ("sse4_2", "x86-64-v2"),
        ("crc32 popcnt sse4_2", "x86-64-v2"),
        ("avx", ""),
        ("avx fma", ""),
        ("avx2", "x86-64-v3"),
        ("avx2 fma bmi2 lzcnt movbe", "x86-64-v3"),
        ("avx2 aes", ""),
        ("avx512f", ""),
        ("avx512f avx512bw avx512vl", "x86-64-v4"),
        ("avx512f avx512vl avx512vnni", ""),
    ],
)
def test_a_level_is_stated_only_if_every_cpu_with_the_used_features_has_it(used: str, level: str) -> None:
    """Bonnell has SSE3, Penryn SSE4.1, Ivy Bridge AVX and Piledriver FMA, each without the rest of that level."""
    assert isa_level(x86(*used.split())) == level


def test_an_object_without_a_guard_is_not_narrowed() -> None:
    assert narrow(b"anything", x86("avx2")) == b"anything"


def test_an_object_with_two_tables_is_refused(objects: Path) -> None:
    content = (objects / "v3-2.o").read_bytes()
    with pytest.raises(ArtifactError, match="several of cpufeat's guard tables"):
        narrow(content + content, x86("avx2"))


def test_a_library_in_mode_ask_states_no_level(objects: Path) -> None:
    """The loader would not load it."""
    assert isa_needed(narrowed_for((objects / "ask.o").read_bytes(), x86("avx2"))) == 0


# --- what there is to guard


def test_code_for_the_baseline_has_no_guard() -> None:
    assert guard([V1], "demo") == ""
    assert guard([V4, V3, V1], "demo") == ""
    assert guard([Target.parse("generic-rv64+v", "riscv64-unknown-linux-gnu")], "demo") == ""


def test_a_feature_without_a_run_time_test_is_not_guarded() -> None:
    text = guard([Target.parse("cortex-a510", LINUX_ON_ARM)], "demo")
    sign = "".join(f"\\{byte:02X}" for byte in b"+predres")
    assert "".join(f"\\{byte:02X}" for byte in b"+sve2\0") in text
    assert sign not in text


@pytest.mark.parametrize("request_", ["x86-64,+avx2", "haswell", "haswell,-fma,+sha,+vaes", "native"])
def test_the_message_names_the_targets(request_: str) -> None:
    target = resolve(request_).target if request_ == "native" else Target.parse(request_)
    built = bytes.fromhex("".join(re.findall(r'.text.1 = private .* c"(.*)"', guard([target], "demo"))[0].split("\\")))
    spelled = built.decode().partition("built for ")[2].removesuffix(")\n\0")
    assert spelled.startswith(target.cpu)
    assert Target.parse(spelled).features.isa >= target.features.isa


READS_FS = """
#include <immintrin.h>
#include <stdio.h>
int main(void) { return printf("%s\\n", _readfsbase_u64() ? "ran" : "no thread") < 0; }
"""


def test_what_the_kernel_has_to_enable_is_not_run_where_it_did_not(qemu: str, tmp_path: Path) -> None:
    """A Haswell under Linux 5.4 reports FSGSBASE and faults. The auxiliary vector tells; QEMU's says no."""
    (tmp_path / "fs.c").write_text(READS_FS)
    program = tmp_path / "fs"
    aot.compile(aot.from_c(tmp_path / "fs.c", LINUX, ["-mfsgsbase"]), "x86-64+fsgsbase").link(program)
    refused = (126, "", "fs: this CPU lacks: fsgsbase (needed by this program, built for x86-64,+fsgsbase)\n")
    here = subprocess.run([program], capture_output=True, text=True, check=False)
    assert outcome(here) == (RAN if "fsgsbase" in detect().features else refused)
    assert [outcome(run(qemu, cpu, [str(program)])) for cpu in ("Haswell", "Nehalem")] == [refused, refused]


@ONE_LLVM
def test_any_program_name_is_printed_safely(qemu: str, objects: Path) -> None:
    compile_all(sys.executable, {"named.o": (guard([V3], 'a%s "b"\n\\ä'), LINUX, 2)}, objects)
    (objects / "named.o").write_bytes(modernized((objects / "named.o").read_bytes()))
    status, _, stderr = outcome(run(qemu, "Nehalem", [linked(objects, "named.o")]))
    assert status == 126
    assert stderr.startswith('a%s "b"?\\ä: this CPU lacks: lzcnt, ')
