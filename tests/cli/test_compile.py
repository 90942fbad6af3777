"""``cpufeat compile`` makes programs, libraries and objects, and says what is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.linked_programs import MAIN, TWICE, elf, needs_clang, run

import cpufeat
from cpufeat import aot

pytestmark = pytest.mark.usefixtures("temporary")


def command(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    process = run(sys.executable, "-m", "cpufeat", "compile", *arguments, **options)
    assert "Traceback" not in process.stderr
    return process


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "main.ll"
    path.write_text(MAIN)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("main.o", (), "ET_REL"),
        ("main.obj", (), "ET_REL"),
        ("main.so", (), "ET_DYN"),
        ("main.so.1.2", (), "ET_DYN"),
        ("main", (), "program"),
        ("main.v2", (), "program"),
        ("main", ("--object",), "ET_REL"),
        ("main", ("--shared",), "ET_DYN"),
        ("main.o", ("--exe",), "program"),
        ("main", ("--", "-no-pie"), "ET_EXEC"),
        ("main", ("--linker", "zig"), "program"),
        ("main", ("--triple", "x86_64-linux-musl", "--", "-static"), "ET_EXEC"),
    ],
)
def test_the_kind_of_output_follows_its_name_or_the_option(name, arguments, kind, main, tmp_path):
    process = command(main, "-o", tmp_path / name, *arguments)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    written = elf(tmp_path / name)
    assert written["e_type"] == ("ET_DYN" if kind == "program" else kind)
    assert (written.get_section_by_name(".interp") is not None) == (
        kind in ("program", "ET_EXEC") and "-static" not in arguments
    )
    if kind in ("program", "ET_EXEC"):
        assert run(tmp_path / name).returncode == 42


@pytest.mark.slow
@needs_clang
def test_the_command_line_compiles_c(tmp_path):
    (tmp_path / "main.c").write_text(
        "#include <math.h>\nint main(int count, char **words) { return (int)cbrt(NUMBER * count) * 14; }\n"
    )
    arguments = ("-o", tmp_path / "main", "-D", "NUMBER=27", "-I.", "--cflag=-Wall", "--", "-lm")
    process = command(tmp_path / "main.c", *arguments)
    assert process.returncode == 0
    assert re.search(r"warning: .*main\.c:2:\d+: warning: unused parameter", process.stderr) is None
    assert run(tmp_path / "main").returncode == 42


def test_several_targets_are_variants(tmp_path, qemu):
    (tmp_path / "main.ll").write_text(f"{TWICE}define i32 @main() {{ %r = call i32 @twice(i32 21)\nret i32 %r }}")
    targets = [word for request in ("native", "x86-64-v3", "x86-64") for word in ("--target", request)]
    process = command(tmp_path / "main.ll", "-o", tmp_path / "main", *targets, "--dispatch", "pointer")
    assert (process.returncode, process.stderr) == (0, "")
    artifact = aot.Artifact.open(tmp_path / "main")
    assert artifact.dispatch == "pointer"
    cpus = [variant.target.cpu for variant in artifact.variants]
    assert cpus == [cpufeat.target_for_host("native").cpu, "x86-64-v3", "x86-64"]
    assert run(tmp_path / "main").returncode == 42
    assert run(qemu, "-cpu", "Nehalem", tmp_path / "main").returncode == 42


WIDE = """
@numbers = global <8 x i32> splat (i32 40)
define i32 @main() {
  %v = load volatile <8 x i32>, ptr @numbers
  %s = add <8 x i32> %v, splat (i32 2)
  store volatile <8 x i32> %s, ptr @numbers
  %e = extractelement <8 x i32> %s, i32 7
  ret i32 %e
}
"""


@pytest.mark.parametrize(
    ("guard", "status"),
    [((), 126), (("--guard", "none"), -signal.SIGILL), (("--guard", "ask"), -signal.SIGILL)],
    ids=["exit", "none", "ask"],
)
def test_a_program_made_on_the_command_line_has_a_guard(guard, status, qemu, main, tmp_path):
    main.write_text(WIDE)
    assert command(main, "-o", tmp_path / "main", "--target", "haswell", *guard, "--linker", "zig").returncode == 0
    assert run(tmp_path / "main").returncode == 42
    process = run(qemu, "-cpu", "Nehalem", tmp_path / "main")
    assert process.returncode == status
    assert ("main: this CPU lacks: " in process.stderr) == (not guard)
    names = {symbol.name for symbol in elf(tmp_path / "main").get_section_by_name(".symtab").iter_symbols()}
    assert ("cpufeat_supported" in names) == ("ask" in guard)


@pytest.mark.parametrize(
    ("triple", "arguments", "expected"),
    [
        ("aarch64-linux-gnu", (), ("armv8-a", "aarch64-unknown-linux-gnu", "ELF")),
        ("x86_64-windows-gnu", ("--target", "haswell"), ("haswell", "x86_64-unknown-windows-gnu", "COFF")),
        ("arm64-apple-macosx14", (), ("armv8-a", "arm64-apple-macosx14", "MACHO")),
    ],
)
def test_the_command_line_compiles_for_another_triple(triple, arguments, expected, main, tmp_path):
    assert command(main, "-o", tmp_path / "main.o", "--triple", triple, *arguments).returncode == 0
    target = aot.Artifact.open(tmp_path / "main.o").target
    written = {b"\x7fEL": "ELF", b"\xcf\xfa\xed": "MACHO", b"\x64\x86": "COFF"}
    content = (tmp_path / "main.o").read_bytes()
    formats = [name for magic, name in written.items() if content.startswith(magic)]
    assert (target.cpu, target.triple, *formats) == expected


def test_an_object_can_be_written_to_standard_output(main):
    process = subprocess.run(
        [sys.executable, "-m", "cpufeat", "compile", main, "-o", "-"], capture_output=True, check=True
    )
    assert aot.Artifact.open(process.stdout).object == process.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("main.ll", "-o", "main.ll"), 2, "cannot infer the output kind from main.ll"),
        (("main.ll", "-o", "main.c"), 2, "cannot infer the output kind from main.c"),
        (("main.ll", "-o", "main.ll", "--exe"), 2, "main.ll: the output would overwrite the input"),
        (("main.ll", "-o", "out.o", "--", "-lm"), 2, "an object is not linked"),
        (("main.ll", "-o", "out.o", "--linker", "zig"), 2, "an object is not linked"),
        (("main.ll", "-o", "-", "--exe"), 2, "only an object can be written to standard output"),
        (("main.ll", "-o", "out", "-DX"), 2, "require a C file"),
        (("main.ll", "-o", "out", "--dispatch", "ifunc"), 2, "require several --target"),
        (("main.ll", "-o", "out", "--exe", "--shared"), 2, "not allowed with argument"),
        (("main.ll", "-o", "out", "--triple", "mips-linux-gnu"), 2, "unknown architecture"),
        (("main.c", "-o", "out", "--triple", "mips-linux-gnu"), 2, "unknown architecture"),
        (("main.ll", "-o", "out", "--triple", "aarch64-linux-gnu", "--target", "native"), 2, "relative to a host"),
        (("main.ll", "-o", "out", "--linker", "cc", "--triple", "aarch64-linux-gnu"), 2, "cc links for"),
        (("main.ll", "-o", ""), 2, "OUT is empty"),
        (("main.ll", "-o", "absent/out"), 2, "absent/out: No such file"),
        (("main.ll", "-o", "out", "--", "-lnosuchlibrary"), 1, "nosuchlibrary"),
        (("absent.ll", "-o", "out"), 2, "absent.ll: No such file"),
        (("absent.c", "-o", "out"), 2, "absent.c: No such file"),
        ((".", "-o", "out"), 2, ".: Is a directory"),
        (("main.cpp", "-o", "out"), 2, "main.cpp: C++ is not supported"),
        (("main.c", "-o", "out", "--no-files"), 2, "--no-files is for LLVM IR: C reads files by #include"),
    ],
)
def test_errors_of_the_command_line_are_reported(arguments, status, says, main, tmp_path):
    process = command(
        *arguments, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(cpufeat.__file__).parent.parent)}
    )
    assert (process.returncode, process.stdout) == (status, "")
    assert says in process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["main.ll"]
    assert main.read_text() == MAIN


def test_assembly_that_reads_a_file_is_refused_on_request(tmp_path):
    (tmp_path / "data").write_bytes(b"some data")
    (tmp_path / "reads.ll").write_text(f'module asm ".incbin \\22{tmp_path}/data\\22"\n')
    allowed = command(tmp_path / "reads.ll", "-o", tmp_path / "reads.o")
    assert (allowed.returncode, b"some data" in (tmp_path / "reads.o").read_bytes()) == (0, True)
    refused = command(tmp_path / "reads.ll", "-o", tmp_path / "refused.o", "--no-files")
    assert refused.returncode in (1, 2)
    assert "its assembly may read files" in refused.stderr
    assert not (tmp_path / "refused.o").exists()
