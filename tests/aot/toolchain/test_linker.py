"""Programs and libraries run, natively and emulated, whoever links them; errors are said, and leave no files behind."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import lief
import pytest
from helpers.linked_programs import BASELINE, HERE, MAIN, MUSL, TWICE, elf, looked_at, needs_clang, run
from helpers.paths import KERNELS
from helpers.requirements import tool
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llvmlite import binding

from cpufeat import ArtifactError, CpufeatError, CpufeatWarning, LinkError, OptionError, Target, TargetError, aot
from cpufeat.aot import Variant
from cpufeat.aot.objects import note
from cpufeat.aot.toolchain import zig
from cpufeat.support import files

NAMES = ("base64", "dot", "matrix", "population", "print", "scan")
UNARY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
LINKERS = ["cc", "zig"]


@pytest.fixture(params=LINKERS)
def linker(request: pytest.FixtureRequest) -> str:
    """Each linker that links for this machine."""
    if request.param == "cc":
        tool("cc")
    return str(request.param)


pytestmark = pytest.mark.usefixtures("temporary")


# --- programs that run


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the system's own compiler makes the kernels print, unoptimized."""
    program = tmp_path_factory.mktemp("expected") / "program"
    sources = [KERNELS / f"{name}.c" for name in NAMES]
    subprocess.run([tool("cc"), "-w", "-O0", *sources, "-o", program], check=True)
    return run(program).stdout


def kernels(target: Target) -> list[aot.Artifact]:
    return [aot.compile(aot.from_c(KERNELS / f"{name}.c", target.triple), target) for name in NAMES]


@needs_clang
@pytest.mark.parametrize("arguments", [(), ("-no-pie",), ("-s", "-Wl,--gc-sections")], ids=" ".join)
def test_every_linker_makes_programs_that_run(linker, arguments, expected, tmp_path):
    program = tmp_path / "program"
    aot.link(kernels(Target.parse("x86-64-v2")), program, linker=linker, arguments=arguments)
    assert run(program).stdout == expected
    assert elf(program)["e_type"] == ("ET_EXEC" if "-no-pie" in arguments else "ET_DYN")
    assert [json.loads(text)["name"] for text in note.read(program.read_bytes())] == list(NAMES)


@needs_clang
def test_a_static_program_of_cc_runs(expected, tmp_path):
    program = tmp_path / "program"
    aot.link(kernels(BASELINE), program, linker="cc", arguments=["-static"])
    assert run(program).stdout == expected
    assert elf(program).get_section_by_name(".interp") is None
    assert len(note.read(program.read_bytes())) == len(NAMES)


@needs_clang
@pytest.mark.parametrize(
    ("triple", "request_", "emulator", "machine"),
    [
        (MUSL, "x86-64", "qemu-x86_64", "EM_X86_64"),
        ("aarch64-unknown-linux-musl", "armv8-a", "qemu-aarch64", "EM_AARCH64"),
        ("riscv64-unknown-linux-musl", "rv64gc", "qemu-riscv64", "EM_RISCV"),
    ],
)
def test_programs_for_other_machines_run_under_qemu(triple, request_, emulator, machine, expected, tmp_path):  # noqa: PLR0917
    program = tmp_path / "program"
    aot.link(kernels(Target.parse(request_, triple)), program)
    assert elf(program)["e_machine"] == machine
    assert elf(program).get_section_by_name(".interp") is None, "musl's libraries are static"
    assert run(tool(emulator), program).stdout == expected
    assert len(note.read(program.read_bytes())) == len(NAMES)


def test_zig_links_for_the_c_library_version_of_the_triple(tmp_path):
    """What cc here would link wants the C library of here."""
    module = "declare i32 @puts(ptr)\ndefine i32 @main() { %r = call i32 @puts(ptr @text)\nret i32 42 }"
    module += '\n@text = constant [3 x i8] c"hi\\00"'
    for triple, linker in ((HERE + "2.17", None), (HERE, "cc")):
        aot.compile(module, BASELINE.replace(triple=triple)).link(tmp_path / "program", linker=linker)  # type: ignore[arg-type]
        assert run(tmp_path / "program").stdout == "hi\n"
        needed = elf(tmp_path / "program").get_section_by_name(".gnu.version_r").iter_versions()
        names = [version.name for _, versions in needed for version in versions]
        newest = max(tuple(map(int, re.findall(r"\d+", name))) for name in names if name.startswith("GLIBC_"))
        assert (newest <= (2, 17)) == (linker is None)


# --- libraries


@pytest.mark.parametrize("strip", ["strip", "llvm-strip"])
def test_a_library_and_its_note_survive_strip(linker, strip, tmp_path):
    library = tmp_path / "library.so"
    artifact = aot.compile(TWICE, BASELINE)
    artifact.link(library, kind="shared", linker=linker)
    before = library.read_bytes()
    subprocess.run([tool(strip), library], check=True)
    assert library.read_bytes() != before
    assert UNARY(("twice", ctypes.CDLL(str(library))))(21) == 42
    assert aot.Artifact.open(library).replace(object=artifact.object) == artifact
    segments = elf(library).iter_segments("PT_NOTE")
    assert any("cpufeat" in [entry["n_name"] for entry in segment.iter_notes()] for segment in segments)


def test_libraries_can_be_named_among_the_arguments(linker, tmp_path):
    module = (
        "declare double @cbrt(double)\ndefine double @f(double %a) { %r = call double @cbrt(double %a)\nret double %r }"
    )
    artifact = aot.compile(module, BASELINE)
    artifact.link(tmp_path / "f.so", kind="shared", linker=linker, arguments=["-lm"])
    function = ctypes.CDLL(str(tmp_path / "f.so")).f
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    assert function(27.0) == pytest.approx(3.0)
    needed = [tag.needed for tag in elf(tmp_path / "f.so").get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    assert "libm.so.6" in needed


def test_an_object_is_the_artifact_as_it_is(tmp_path):
    artifact = aot.compile(TWICE, BASELINE)
    artifact.link(tmp_path / "twice.o", kind="object")
    assert (tmp_path / "twice.o").read_bytes() == artifact.object
    for parts, arguments in (([artifact, artifact], ()), ([artifact], ["-lm"])):
        with pytest.raises(ArtifactError, match="takes one artifact and no arguments"):
            aot.link(parts, tmp_path / "twice.o", kind="object", arguments=arguments)


# --- Windows and macOS

CALLER = f"""
@table = constant [4 x i32] [i32 1, i32 2, i32 3, i32 4], align 16
@text = private constant [3 x i8] c"hi\\00"
@zeros = global [100 x i8] zeroinitializer
@pointer = global ptr @twice
@llvm.global_ctors = appending global [1 x {{ i32, ptr, ptr }}]
  [{{ i32, ptr, ptr }} {{ i32 101, ptr @first, ptr null }}]
declare i32 @puts(ptr)
define void @first() {{ %r = call i32 @puts(ptr @text)\nret void }}
{TWICE}
define i32 @main() {{ %r = call i32 @twice(i32 21)\nret i32 %r }}
"""
FOREIGN = (
    *("x86_64-w64-windows-gnu", "i686-w64-windows-gnu", "x86_64-pc-windows-msvc", "aarch64-pc-windows-msvc"),
    *("x86_64-apple-darwin", "arm64-apple-darwin", "x86_64-apple-macosx14.0.0", "arm64-apple-macosx14.0.0"),
)


def plain_object(triple: str) -> bytes:
    """What LLVM makes of a module, without cpufeat."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(reloc="pic", codemodel="default")
    return machine.emit_object(binding.parse_assembly(f'target triple = "{triple}"\n{CALLER}'))


@pytest.mark.parametrize("triple", FOREIGN)
def test_a_note_leaves_everything_else_in_an_object_as_it_was(triple, tmp_path):
    before = plain_object(triple)
    texts = ["some text", "more"]
    after = note.add(note.add(before, texts[0]), texts[1])
    assert note.read(after) == texts
    (tmp_path / "before.o").write_bytes(before)
    (tmp_path / "after.o").write_bytes(after)
    for arguments in (["-d"], ["-r"], ["-t"]):
        assert looked_at(tmp_path / "after.o", *arguments) == looked_at(tmp_path / "before.o", *arguments)
    sections, others = (looked_at(tmp_path / name, "-h") for name in ("after.o", "before.o"))
    assert [line.split() for line in sections[: len(others)]] == [line.split() for line in others]
    assert len([line for line in sections[len(others) :] if "cpufeat" in line]) == len(texts)


def section(path: Path, name: str) -> bytes:
    """What a section holds, as lief reads it."""
    parsed = lief.parse(str(path))
    return bytes(next(part for part in parsed.sections if part.name == name).content)


@pytest.mark.parametrize(
    ("triple", "request_"), [("x86_64-w64-windows-gnu", "x86-64-v3"), ("x86_64-unknown-windows-gnu", "x86-64")]
)
def test_windows_programs_and_libraries_keep_the_note(triple, request_, tmp_path):
    artifact = aot.compile(CALLER, Target.parse(request_, triple))
    for name, kind in (("caller.exe", "executable"), ("caller.dll", "shared")):
        path = tmp_path / name
        artifact.link(path, kind=kind)  # type: ignore[arg-type]
        parsed = lief.PE.parse(str(path))
        assert parsed.header.machine == lief.PE.Header.MACHINE_TYPES.AMD64
        assert parsed.header.has_characteristic(lief.PE.Header.CHARACTERISTICS.DLL) is (kind == "shared")
        assert "puts" in {entry.name for library in parsed.imports for entry in library.entries}
        assert (kind == "executable") or "twice" in {entry.name for entry in parsed.get_export().entries}
        assert b'"version"' in section(path, ".cpufeat")
        assert aot.Artifact.open(path).replace(object=artifact.object) == artifact
        subprocess.run([tool("llvm-strip"), path], check=True)
        assert aot.Artifact.open(path).replace(object=artifact.object) == artifact
    assert {path.name for path in tmp_path.iterdir()} == {"caller.exe", "caller.dll"}, "no .pdb, no .lib"


@pytest.mark.parametrize(
    ("triple", "request_", "cpu"),
    [("x86_64-apple-macosx14.0.0", "x86-64-v2", "X86_64"), ("arm64-apple-macosx14.0.0", "apple-m1", "ARM64")],
)
def test_macos_programs_and_libraries_keep_the_note(triple, request_, cpu, tmp_path):
    artifact = aot.compile(CALLER, Target.parse(request_, triple))
    for name, kind in (("caller", "executable"), ("caller.dylib", "shared")):
        path = tmp_path / name
        artifact.link(path, kind=kind)  # type: ignore[arg-type]
        parsed = lief.MachO.parse(str(path)).at(0)
        assert parsed.header.cpu_type == getattr(lief.MachO.Header.CPU_TYPE, cpu)
        assert parsed.header.file_type.name == {"executable": "EXECUTE", "shared": "DYLIB"}[kind]
        assert "_puts" in {symbol.name for symbol in parsed.imported_symbols}
        exported = {"executable": "_main", "shared": "_twice"}[kind]
        assert exported in {symbol.name for symbol in parsed.exported_symbols}
        assert parsed.build_version.minos == [14, 0, 0]
        assert b'"version"' in section(path, "__cpufeat")
        assert aot.Artifact.open(path).replace(object=artifact.object) == artifact
        if cpu == "ARM64":
            assert parsed.has_code_signature, "it is refused without one"


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"MZ" + bytes(100),
        lambda: b"MZ" + bytes(58) + (1 << 31).to_bytes(4, "little"),
        lambda: b"\x64\x86",
        lambda: b"\x64\x86\xff\xff" + bytes(40),
        lambda: b"\xcf\xfa\xed\xfe",
        lambda: b"\xcf\xfa\xed\xfe" + bytes(12) + b"\xff" * 4 + bytes(60),
    ],
)
def test_damaged_coff_and_mach_o_files_are_refused(content):
    with pytest.raises(ArtifactError, match=r"a damaged (PE|COFF or PE|Mach-O) file"):
        note.read(content())


SMALL = [note.add(plain_object(triple), "text") for triple in FOREIGN]
MACH_O = next(content for content in SMALL if content.startswith(b"\xcf\xfa\xed\xfe"))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(SMALL), st.dictionaries(st.integers(4, 700), st.integers(0, 255)), st.integers(0, 1400))
@example(SMALL[0], {}, 1400)
@example(SMALL[-1], {}, 1400)
@example(MACH_O, {84: 1}, 1400)  # a segment at 4 GB
def test_any_damaged_object_is_read_or_refused(content, changes, length):
    damaged = bytearray(content)
    for position, value in changes.items():
        damaged[position % len(damaged)] = value
    for ask in (note.read, lambda damaged: note.read(note.add(damaged, "more"))):
        try:
            assert all(isinstance(text, str) for text in ask(bytes(damaged[:length])))
        except ArtifactError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("triple", "spelled"),
    [
        ("x86_64-unknown-linux-gnu", "x86_64-linux-gnu"),
        ("x86_64-unknown-linux-gnu2.28", "x86_64-linux-gnu.2.28"),
        ("x86_64-unknown-linux-gnux32", "x86_64-linux-gnux32"),
        ("i686-unknown-linux-musl", "x86-linux-musl"),
        ("armv7-unknown-linux-gnueabihf", "arm-linux-gnueabihf"),
        ("arm64-apple-macosx11.0.0", "aarch64-macos.11.0.0"),
        ("x86_64-apple-macosx11", "x86_64-macos.11.0"),
        ("x86_64-unknown-freebsd14", "x86_64-freebsd.14.0"),
        ("arm64-apple-darwin23.1.0", "aarch64-macos"),
        ("x86_64-w64-windows-gnu", "x86_64-windows-gnu"),
        ("powerpc64le-unknown-linux-gnu", "powerpc64le-linux-gnu"),
        ("armv7-unknown-linux-androideabi21", "arm-linux-androideabi.21"),
    ],
)
def test_zig_reads_the_triple_as_it_was_meant(triple, spelled, tmp_path):
    assert zig.target(triple) == spelled
    (tmp_path / "empty.c").touch()
    command = [zig.program(), "cc", "-target", spelled, "-E", tmp_path / "empty.c", "-o", tmp_path / "empty.i"]
    process = run(*command)
    assert (process.returncode, process.stderr) == (0, "")


# --- alignment

CONSTANTS = """
define <4 x float> @add(<4 x float> %a) noinline {
  %r = fadd <4 x float> %a, <float 1.5, float 2.5, float 3.5, float 4.5>
  ret <4 x float> %r
}
@zeros = global [8 x i64] zeroinitializer, align 64
@numbers = global [4 x i64] [i64 11, i64 12, i64 13, i64 14], align 32
define i32 @main() {
  %v = load volatile <4 x float>, ptr @zeros
  %n = load volatile i64, ptr @numbers
  %s = call <4 x float> @add(<4 x float> %v)
  %e = extractelement <4 x float> %s, i32 3
  %i = fptosi float %e to i32
  ret i32 %i
}
"""
DROPPED = "SECTIONS {{ .dropped ALIGN(64) : SUBALIGN(8) {{ QUAD(1) *module.o({0}) }} }} INSERT AFTER .text;"


@pytest.mark.parametrize(
    ("section_", "alignment", "arguments"),
    [
        (".rodata.cst16", 16, ()),
        (".rodata.cst16", 16, ("-s",)),
        (".text", 16, ()),
        (".bss", 64, ()),
        (".data", 32, ("-s",)),
    ],
)
def test_a_linker_script_that_drops_an_alignment_is_refused(linker, section_, alignment, arguments, tmp_path):
    artifact = aot.compile(CONSTANTS, BASELINE)
    script, program = tmp_path / "script", tmp_path / "program"
    script.write_text(DROPPED.format(section_))
    arguments = [*arguments, f"-Wl,-T,{script}"]
    message = rf"program: not written, since linking lost an alignment: section {section_}.* of {alignment}, .* 0x\w+8$"
    with pytest.raises(ArtifactError, match=message):
        artifact.link(program, linker=linker, arguments=arguments)
    assert not program.exists()


def test_a_constant_that_the_linker_left_out_is_not_found_by_chance(linker, tmp_path):
    """A constant that the linker discards with its function is an operand of another, at an odd address."""
    goes = "define float @goes(float %a) { %r = fadd float %a, 0x3FF3333340000000\nret float %r }"
    twice = "%a = load volatile i32, ptr @number\n%b = load volatile i32, ptr @number"
    stays = (
        f"define i32 @main() {{ {twice}\n%r = xor i32 %b, 1067030938\nret i32 %r }}\n@number = global i32 1067030960"
    )
    parts = [aot.compile(module, BASELINE) for module in (goes, stays)]
    program = tmp_path / "program"
    aot.link(parts, program, linker=linker, arguments=["-Wl,--gc-sections"])
    constant, content = (1067030938).to_bytes(4, "little"), program.read_bytes()
    assert constant in section(tmp_path / "program", ".text")
    assert content.count(constant) == 1
    assert content.find(constant) % 4, "else nothing is shown"
    assert run(program).returncode == 42


def test_a_program_with_a_lost_alignment_would_have_faulted(linker, tmp_path):
    """The other half: linked past cpufeat by the same linker and script, the code faults; as a rule, it runs."""
    artifact = aot.compile(CONSTANTS, BASELINE)
    (tmp_path / "script").write_text(DROPPED.format(".rodata.cst16"))
    artifact.save(tmp_path / "module.o")
    driver = [tool("cc")] if linker == "cc" else [zig.program(), "cc", "-target", "x86_64-linux-gnu"]
    command = [*driver, tmp_path / "module.o", "-o", tmp_path / "past", f"-Wl,-T,{tmp_path / 'script'}"]
    subprocess.run(command, check=True, env=zig.environment(tmp_path / "cache"))
    assert run(tmp_path / "past").returncode == -signal.SIGSEGV
    artifact.link(tmp_path / "program", linker=linker)
    assert run(tmp_path / "program").returncode == 4


def test_a_linker_script_that_drops_the_note_is_refused(tmp_path):
    (tmp_path / "script").write_text("SECTIONS { /DISCARD/ : { *(.note.cpufeat) } } INSERT AFTER .text;")
    artifact = aot.compile(MAIN, BASELINE)
    with pytest.raises(ArtifactError, match="the linker dropped cpufeat's note"):
        artifact.link(tmp_path / "program", linker="cc", arguments=[f"-Wl,-T,{tmp_path / 'script'}"])
    assert not (tmp_path / "program").exists()


# --- what cannot be linked


def test_an_error_of_the_linker_is_shown(linker, tmp_path):
    module = "declare i32 @nowhere()\ndefine i32 @main() { %r = call i32 @nowhere()\nret i32 %r }"
    program = tmp_path / "program"
    program.write_text("before")
    with pytest.raises(LinkError, match=r"(?s)program: the linker failed with status 1\n.*undefined.*nowhere"):
        aot.compile(module, BASELINE).link(program, linker=linker)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_warning_of_the_linker_is_a_warning(tmp_path):
    with pytest.warns(CpufeatWarning, match="no_such_entry"):
        aot.compile(MAIN, BASELINE).link(tmp_path / "program", linker="cc", arguments=["-Wl,-e,no_such_entry"])
    assert (tmp_path / "program").exists()


def test_artifacts_for_conflicting_triples_are_refused(tmp_path):
    parts = [aot.compile(TWICE, BASELINE.replace(triple=triple)) for triple in (HERE, MUSL)]
    with pytest.raises(ArtifactError, match=r"cannot be linked together: environment gnu and musl"):
        aot.link(parts, tmp_path / "out")
    unsure = parts[0].replace(variants=(Variant(BASELINE.replace(triple="x86_64-unknown-linux")),))
    with pytest.raises(ArtifactError, match=r"environment gnu and musl"):
        aot.link([unsure, *parts], tmp_path / "out")
    with pytest.raises(ArtifactError, match="no artifact to link"):
        aot.link([], tmp_path / "out")
    with pytest.raises(TargetError, match=r"cc links for .*; zig links for both"):
        parts[1].link(tmp_path / "out", linker="cc")


@pytest.mark.parametrize("option", [{"kind": "program"}, {"linker": "ld"}])
def test_unknown_kinds_and_linkers_are_refused(option, tmp_path):
    ((name, value),) = option.items()
    with pytest.raises(OptionError, match=f"^{name} must be one of .*, not {value!r}$"):
        aot.compile(MAIN, BASELINE).link(tmp_path / "out", **option)


def test_a_missing_linker_is_an_error_that_says_what_to_install(tmp_path, monkeypatch):
    artifact = aot.compile(MAIN, BASELINE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LinkError, match="cc was not found"):
        artifact.link(tmp_path / "program", linker="cc")
    artifact.link(tmp_path / "program")
    assert run(tmp_path / "program").returncode == 42, "zig takes its place"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CpufeatError, match=r"pip install 'cpufeat\[c\]'"):
        artifact.link(tmp_path / "program", linker="zig")


def test_a_name_in_a_note_cannot_choose_where_objects_are_written(tmp_path):
    """The name in a note becomes the name of a temporary file."""
    escaped = tmp_path / "escaped"
    artifact = aot.compile(MAIN, BASELINE).replace(name=f"../../../../../../../..{escaped}")
    artifact.link(tmp_path / "program")
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


# --- a linker that ends, or is ended, at a bad time


@pytest.fixture
def fake_cc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a shell script in the place of cc; it writes half an output, and its process's number, before it goes on."""

    def fake(then: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        script = f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho half >"$2"\necho $$ >{folder}/pid\n{then}\n'
        (folder / "cc").write_text(script)
        (folder / "cc").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return folder / "pid"

    return fake


def is_running(pid_file: Path) -> bool:
    try:
        return Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_linker_leaves_nothing(fake_cc, tmp_path):
    fake_cc("kill -9 $$")
    with pytest.raises(LinkError, match="status -9"):
        aot.compile(MAIN, BASELINE).link(tmp_path / "program")
    assert not (tmp_path / "program").exists()


def test_a_linker_that_hangs_is_ended(fake_cc, tmp_path):
    pid_file = fake_cc("sleep 600 & sleep 600")
    with pytest.raises(LinkError, match=r"exceeded the time limit of 0\.5 s"):
        aot.link(aot.compile(MAIN, BASELINE), tmp_path / "program", time_limit=0.5)
    assert not is_running(pid_file)
    assert not (tmp_path / "program").exists()


def test_a_linker_that_writes_no_file_is_an_error(fake_cc, tmp_path):
    fake_cc('rm "$2"; echo did it')
    with pytest.raises(LinkError, match="the linker wrote no file\ndid it"):
        aot.compile(MAIN, BASELINE).link(tmp_path / "program")


def test_a_linker_that_writes_no_elf_file_is_an_error(fake_cc, tmp_path):
    fake_cc("")
    with pytest.raises(ArtifactError, match="not an ELF"):
        aot.compile(MAIN, BASELINE).link(tmp_path / "program")
    assert not (tmp_path / "program").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_link_leaves_the_old_output(number, fake_cc, tmp_path, temporary):
    pid_file = fake_cc("sleep 20")
    (tmp_path / "main.ll").write_text(MAIN)
    program = tmp_path / "program"
    program.write_text("before")
    command = [sys.executable, "-m", "cpufeat", "compile", str(tmp_path / "main.ll"), "-o", str(program)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born ignoring it
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + 60
        while not pid_file.exists() or not pid_file.read_text().endswith("\n"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)  # the linker runs; its starter may not know of it yet, since signals are not held up meanwhile
        process.send_signal(number)
        stderr = process.communicate(timeout=60)
    assert (process.returncode, *stderr) == ((-9 if number == signal.SIGKILL else 128 + number), b"", b"")
    assert program.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "main.ll", "program"}
    if number == signal.SIGKILL:  # nobody is left to tidy up: not what a program would find, and not in its way
        for left in temporary.iterdir():
            shutil.rmtree(left)
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    else:
        assert not is_running(pid_file)


# --- where files cannot be written


@contextlib.contextmanager
def no_space(size):
    """Let no file grow beyond so many bytes meanwhile, as on a disk that is full: not the tests' own output either."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 6000])
def test_no_space_to_link_in_is_an_error(size, linker, tmp_path):
    """For the object; for the linker's output."""
    artifact = aot.compile(MAIN, BASELINE)
    with no_space(size), pytest.raises(LinkError, match="program: "):
        artifact.link(tmp_path / "program", linker=linker)
    assert list(tmp_path.iterdir()) == []


def test_no_space_for_the_output_is_an_error(tmp_path):
    (tmp_path / "program").write_text("before")
    with no_space(1000), pytest.raises(OSError, match="File too large"):
        files.write(tmp_path / "program", bytes(1001))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o755), (0o077, 0o700)])
def test_the_output_is_executable_as_far_as_the_umask_permits(mask, expected, tmp_path):
    artifact = aot.compile(MAIN, BASELINE)
    old = os.umask(mask)
    try:
        artifact.link(tmp_path / "program")
        artifact.link(tmp_path / "program.o", kind="object")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "program").stat().st_mode) == expected
    assert stat.S_IMODE((tmp_path / "program.o").stat().st_mode) == expected & ~0o111


def test_an_output_may_be_a_link_or_no_file(tmp_path):
    artifact = aot.compile(MAIN, BASELINE)
    (tmp_path / "link").symlink_to("program")
    artifact.link(tmp_path / "link")
    assert run(tmp_path / "program").returncode == 42
    assert (tmp_path / "link").is_symlink()
    artifact.link("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    for bad in (tmp_path, tmp_path / "absent" / "program"):
        with pytest.raises(ArtifactError, match=re.escape(str(bad))):
            artifact.link(bad)
