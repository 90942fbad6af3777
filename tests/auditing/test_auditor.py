"""Audits find the features that compilers were given, in every format; data is not code; damage is an error."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.build_binaries import SYSTEMS, ZIG, assemble, build, build_kernel
from helpers.paths import KERNELS
from helpers.requirements import tool

import cpufeat
from cpufeat.auditing.formats.loader import images
from cpufeat.auditing.report import to_json
from cpufeat.cli import main
from cpufeat.errors import AuditError
from cpufeat.features import FeatureSet
from cpufeat.levels import level_features

LEVELS = {"x86_64": "x86-64", "x86_64_v2": "x86-64-v2", "x86_64_v3": "x86-64-v3", "x86_64_v4": "x86-64-v4"}
"""Zig's names of levels -> ours."""
LEVEL_FEATURES = {"x86-64": set(), "x86-64-v2": {"popcnt"}, "x86-64-v3": {"avx", "fma"}, "x86-64-v4": {"avx512f"}}
"""Features that a vectorized kernel, or a count of bits, uses at each level."""


# --- what compilers emit


@pytest.mark.parametrize("container", SYSTEMS)
@pytest.mark.parametrize("cpu", LEVELS)
def test_code_for_a_level_needs_that_level(tmp_path: Path, container: str, cpu: str) -> None:
    name = "population.c" if cpu == "x86_64_v2" else "dot.c"
    audit = cpufeat.audit(build_kernel(tmp_path, triple=f"x86_64-{SYSTEMS[container]}", cpu=cpu, name=name))
    level = LEVELS[cpu]
    assert (audit.format, audit.arch, audit.kind) == (container, "x86_64", "object")
    assert audit.needs <= level_features("x86_64", level)
    assert set(audit.needs) >= LEVEL_FEATURES[level]
    assert audit.undecoded == ()
    assert audit.instructions > 30


def test_functions_are_named_and_their_instructions_quoted(tmp_path: Path) -> None:
    audit = cpufeat.audit(build_kernel(tmp_path, triple="x86_64-linux-gnu", cpu="x86_64_v3"))
    assert [function.name for function in audit.functions] == ["dot_float", "dot_double"]
    use = audit.functions[0].uses["avx"][0]
    listing = subprocess.run(
        [tool("objdump"), "-d", "-M", "intel", audit.name], capture_output=True, text=True, check=True
    )
    line = next(line for line in listing.stdout.splitlines() if line.startswith(f"{use.address:4x}:"))
    assert use.place == f".text+{use.address:#x}"
    assert use.instruction.split()[0] in line


@pytest.mark.slow
@pytest.mark.parametrize("stripped", [False, True])
def test_linked_files_need_what_their_objects_do(tmp_path: Path, *, stripped: bool) -> None:
    sources = [KERNELS / name for name in ("dot.c", "population.c")]
    strip = ["-s"] if stripped else []
    library = build(tmp_path / "k.so", "-O3", "-shared", *strip, *sources, triple="x86_64-linux-gnu", cpu="x86_64_v3")
    audit = cpufeat.audit(library)
    assert audit.kind == "library"
    assert {"avx", "avx2", "fma"} <= set(audit.needs) <= level_features("x86_64", "x86-64-v3").names
    assert {"dot_float", "dot_double", "population"} <= {function.name for function in audit.functions}


@pytest.mark.slow
@pytest.mark.parametrize("triple", ["x86_64-windows-gnu", "x86_64-macos", "x86-windows-gnu", "x86-linux-musl"])
def test_programs_of_other_systems_are_audited_too(tmp_path: Path, triple: str) -> None:
    source = tmp_path / "main.c"
    source.write_text(
        "int main(int c, char **v) { double s = 0; for (int i = 0; i < c; i++) s += *v[i] * .5; return s; }"
    )
    audit = cpufeat.audit(build(tmp_path / "main", "-O2", source, triple=triple))
    arch = "i686" if triple.startswith("x86-") else "x86_64"
    assert (audit.arch, audit.kind) == (arch, "executable")
    assert set(audit.needs) == ({"sse", "sse2", "nopl"} if arch == "i686" else set())
    assert sum(part.size for part in audit.undecoded) < 100


@pytest.mark.slow
def test_functions_that_nothing_describes_are_found_by_calls(tmp_path: Path) -> None:
    source = tmp_path / "f.s"
    source.write_text(f""".globl f
f: test %ecx, %ecx
je 1f
call g
1: ret
{data("06 07 62 00")}
g: lzcnt %eax, %eax
ret
.section .drectve
.ascii "-export:f"
""")
    library = build(tmp_path / "f.dll", "-shared", source, triple="x86_64-windows-gnu")
    (function,) = (needs for needs in cpufeat.audit(library).functions if "lzcnt" in needs.uses)
    assert function.certain


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS.values())
@pytest.mark.parametrize("kind", ["object", "library"])
def test_names_need_not_be_utf_8(tmp_path: Path, system: str, kind: str) -> None:
    """Compilers write what they are given: Latin-1, in old sources."""
    exported = "__declspec(dllexport)" * ("windows" in system)
    (tmp_path / "text.c").write_text(
        f"int elsewhere__here(int); {exported} int function__name(int x) {{ return __builtin_popcount(x) + CALL; }}"
    )
    options = ["-c", "-DCALL=elsewhere__here(x)"] if kind == "object" else ["-shared", "-DCALL=0"]
    options = ["-O2", "-target", f"x86_64-{system}", *options]
    path = build(tmp_path / kind, *options, tmp_path / "text.c", triple=f"x86_64-{system}", cpu="x86_64+popcnt")
    path.write_bytes(
        path.read_bytes().replace(b"function__name", b"fun\xe9tion__nam\xe9").replace(b"re__h", b"r\xe9__h")
    )
    audit = cpufeat.audit(path)
    assert "popcnt" in audit.bare
    assert "fun\ufffdtion__nam\ufffd" in [
        function.name.removeprefix("_") for function in audit.functions if "popcnt" in function.uses
    ]


def test_harmless_encodings_are_listed_apart_from_what_a_file_needs(tmp_path: Path) -> None:
    text = "f:\nendbr64\npause\ntzcnt %eax, %ecx\nprefetchw (%rax)\nrdsspq %rax\nret\ng:\nlzcnt %eax, %ecx\nret\n"
    audit = cpufeat.audit(assemble(tmp_path, text))
    assert set(audit.needs) == {"lzcnt"}
    assert set(audit.harmless) == {"endbr64", "pause", "tzcnt", "prefetchw", "rdsspq"}


def test_mnemonics_of_no_compiler_feature_are_listed_as_others(tmp_path: Path) -> None:
    audit = cpufeat.audit(assemble(tmp_path, "f:\nrdtscp\nincsspq %rax\nret\n"))
    assert set(audit.needs) == set()
    assert set(audit.others) == {"rdtscp", "incsspq"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mnemonic", ["endbr64", "pause", "rdsspq %rax", "prefetchw (%rsp)", "prefetchwt1 (%rsp)", "cldemote (%rsp)"]
)
def test_harmless_encodings_run_on_a_cpu_without_the_feature(tmp_path: Path, qemu: str, mnemonic: str) -> None:
    program = f".globl _start\n_start:\n{mnemonic}\nmov $60, %eax\nmov $7, %edi\nsyscall\n"
    source = tmp_path / "p.s"
    source.write_text(program)
    built = build(tmp_path / "p", "-nostdlib", "-static", source, triple="x86_64-linux-gnu")
    assert subprocess.run([qemu, "-cpu", "core2duo", str(built)], check=False).returncode == 7


# --- data among the code

AVX512 = "62 f1 7c 48 58 c1"
"""vaddps zmm0, zmm0, zmm1"""


def data(*encodings: str) -> str:
    listed = " ".join(encodings).split()
    return ".byte " + ", ".join(f"0x{byte}" for byte in listed)


def test_data_after_a_jump_is_not_decoded_as_code(tmp_path: Path) -> None:
    text = f".type f, @function\nf:\njmp 1f\n{data(AVX512, '06 62')}\n1: lzcnt %eax, %eax\nret\n.size f, .-f\n"
    audit = cpufeat.audit(assemble(tmp_path, text))
    assert set(audit.needs) == {"lzcnt"}
    assert [(part.address, part.size) for part in audit.undecoded] == [(2, 8)]


def test_symbols_of_type_object_are_data(tmp_path: Path) -> None:
    text = f".type t, @object\nt: {data(AVX512)}\n.size t, .-t\n.type f, @function\nf: ret\n.size f, .-f\n"
    audit = cpufeat.audit(assemble(tmp_path, text))
    assert (set(audit.needs), audit.undecoded) == (set(), ())


def test_code_behind_a_jump_table_is_code(tmp_path: Path) -> None:
    text = f""".type f, @function
f: lea t(%rip), %rdx
movslq (%rdx,%rdi,4), %rax
add %rdx, %rax
jmp *%rax
1: popcnt %eax, %eax
ret
2: lzcnt %eax, %eax
ret
t: .long 1b - t, 2b - t
{data("06 07 62")}
.size f, .-f
"""
    audit = cpufeat.audit(assemble(tmp_path, text))
    assert set(audit.needs) == {"lzcnt", "popcnt"}
    assert sum(part.size for part in audit.undecoded) == 3
    assert audit.functions[0].certain


def test_reached_bytes_that_the_decoder_does_not_know_are_reported(tmp_path: Path) -> None:
    audit = cpufeat.audit(assemble(tmp_path, f".type f, @function\nf: nop\n{data('0f 04')}\nret\n.size f, .-f\n"))
    assert [(part.address, "knows" in part.reason) for part in audit.undecoded] == [(1, True)]


# --- archives and universal binaries


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("objects")
    return [build_kernel(folder, triple="x86_64-linux-gnu", cpu=cpu) for cpu in ("x86_64_v3", "x86_64")]


@pytest.mark.parametrize("style", ["gnu", "bsd"])
def test_members_of_an_archive_are_audited_and_other_files_skipped(
    tmp_path: Path, objects: list[Path], style: str
) -> None:
    text = tmp_path / "a-long-name-that-is-no-binary.txt"
    text.write_text("text")
    archive = tmp_path / "lib.a"
    subprocess.run([*ZIG, "ar", f"--format={style}", "rcs", archive, *objects, text], check=True, cwd=tmp_path)
    audit = cpufeat.audit(archive)
    assert (audit.format, audit.arch, audit.level) == ("archive", "x86_64", "x86-64-v3")
    assert [member.name for member in audit.members] == [f"{archive}({object_.name})" for object_ in objects]
    assert [bool(member.needs) for member in audit.members] == [True, False]
    assert audit.skipped == (f"{archive}({text.name})",)


def test_thin_archives_are_refused_with_the_reason(tmp_path: Path, objects: list[Path]) -> None:
    archive = tmp_path / "thin.a"
    subprocess.run([*ZIG, "ar", "rcsT", archive, *objects], check=True)
    with pytest.raises(AuditError, match="thin archive"):
        cpufeat.audit(archive)


def test_deeply_nested_archives_are_refused(tmp_path: Path) -> None:
    content = b"text"
    for _ in range(5):
        content += b"\n" * (len(content) % 2)
        content = b"!<arch>\n" + f"{'member/':16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode() + content
    with pytest.raises(AuditError, match="too many nested containers"):
        cpufeat.audit(content)


def test_each_architecture_of_a_universal_binary_is_audited(tmp_path: Path) -> None:
    cpus = {"x86_64": 0x01000007, "aarch64": 0x0100000C}
    parts = [build_kernel(tmp_path, triple=f"{arch}-macos").read_bytes() for arch in cpus]
    rows, body, at = b"", b"", 4096
    for cpu, part in zip(cpus.values(), parts, strict=True):
        rows += struct.pack(">5I", cpu, 0, at, len(part), 12)
        padded = part + bytes(-len(part) % 4096)
        body, at = body + padded, at + len(padded)
    audit = cpufeat.audit((struct.pack(">2I", 0xCAFEBABE, len(parts)) + rows).ljust(4096, b"\0") + body)
    assert (audit.format, audit.arch, audit.needs) == ("universal", "", None)
    assert [member.arch for member in audit.members] == list(cpus)
    for arch in cpus:
        beyond = audit.beyond(FeatureSet(arch))
        assert {function.bare.arch for function in beyond} <= {arch}


def test_features_of_another_architecture_are_no_limit_for_a_file(tmp_path: Path) -> None:
    audit = cpufeat.audit(build_kernel(tmp_path, triple="aarch64-linux-gnu"))
    with pytest.raises(cpufeat.TargetError, match="code of aarch64, compared with features of x86_64"):
        audit.beyond(level_features("x86_64", "x86-64-v2"))
    assert audit.beyond(level_features("aarch64", "armv8-a")) == ()


# --- what is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a binary"),
        (b"#!/bin/sh\n", "not a binary"),
        (b"\x7fELF", "damaged ELF"),
        (b"MZ" + bytes(100), "damaged PE"),
        (b"\xcf\xfa\xed\xfe", "damaged Mach-O"),
        (b"!<arch>\n" + b"x" * 70, "damaged archive"),
        (b"\xca\xfe\xba\xbe\0\0\0\x02", "damaged universal"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34", "not a binary"),
    ],
)
def test_damaged_files_and_other_files_are_errors_that_say_which(content: bytes, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        cpufeat.audit(content)


@pytest.mark.parametrize(
    ("triple", "arch"),
    [
        ("arm-linux-gnueabihf", "arm"),
        ("aarch64_be-linux-gnu", "aarch64_be"),
        ("riscv64-linux-gnu", "riscv64"),
        ("riscv32-linux-gnu", "riscv32"),
        ("powerpc64-linux-musl", "ppc64"),
        ("powerpc64le-linux-gnu", "ppc64le"),
        ("s390x-linux-gnu", "s390x"),
        ("loongarch64-linux-gnu", "loongarch64"),
        ("thumb-windows-gnu", "arm"),
    ],
)
def test_code_of_other_architectures_is_refused_by_name(tmp_path: Path, triple: str, arch: str) -> None:
    with pytest.raises(AuditError, match=f": {arch} code: only x86 and 64-bit Arm"):
        cpufeat.audit(build_kernel(tmp_path, triple=triple))


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with some bytes or words changed, mostly in its headers, at either end, or cut off."""
    changed = bytearray(content)
    if chance.random() < 0.2:
        del changed[chance.randrange(1, len(changed)) :]
    reach = min(chance.choice([64, 512, 4096, len(changed)]), len(changed))
    start = chance.choice([0, len(changed) - reach])
    if chance.random() < 0.4:
        for _ in range(chance.randrange(1, 4)):
            at = (start + chance.randrange(reach)) // 8 * 8
            changed[at : at + 8] = struct.pack("<Q", chance.choice([0, 1, 3, 1 << 31, 1 << 63, (1 << 64) - 1]))
        return bytes(changed)
    for _ in range(chance.randrange(1, 16)):
        changed[start + chance.randrange(reach)] = chance.choice([0, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("triple", ["x86_64-linux-gnu", "x86_64-macos", "x86_64-windows-gnu", "aarch64-linux-gnu"])
@pytest.mark.parametrize("linked", [False, True])
def test_damage_is_an_error_or_another_audit(tmp_path: Path, triple: str, *, linked: bool) -> None:
    source = tmp_path / "f.c"
    source.write_text("int g(int); int f(int x) { return x ? g(x) * 3 : 4; } int g(int x) { return x ? f(x - 1) : 2; }")
    how = ["-shared"] if linked else ["-c"]
    content = build(tmp_path / "f", "-O1", *how, source, triple=triple).read_bytes()
    chance = random.Random(triple)
    errors = 0
    for _ in range(120):
        try:
            cpufeat.audit(damaged(content, chance))
        except AuditError:
            errors += 1
    assert 0 < errors < 120


def test_overlapping_sections_are_refused_before_they_cost_memory(tmp_path: Path) -> None:
    content = bytearray(build_kernel(tmp_path, triple="x86_64-linux-gnu").read_bytes())
    table, count = struct.unpack_from("<Q", content, 0x28)[0], struct.unpack_from("<H", content, 0x3C)[0]
    for index in range(1, count):
        struct.pack_into("<IQQQQ", content, table + 64 * index + 4, 1, 6, 0, 0, len(content))
    with pytest.raises(AuditError, match="overlap"):
        cpufeat.audit(bytes(content))


# --- the command line


def test_max_tells_which_functions_exceed_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(build_kernel(tmp_path, triple="x86_64-linux-gnu", cpu="x86_64_v3"))
    assert main(["audit", file, "--max", "x86-64-v3"]) == 0
    assert "Needs no more than x86-64-v3." in capsys.readouterr().out
    assert main(["audit", file, "--max", "x86-64-v2"]) == 1
    shown = capsys.readouterr().out
    assert "Needs more than x86-64-v2, in 2 functions." in shown
    assert "dot_float" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert main(["audit", file, "--max", "nonsense"]) == 2
    assert main(["audit", __file__]) == 2


def test_json_has_everything_that_the_audit_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = build_kernel(tmp_path, triple="x86_64-linux-gnu", cpu="x86_64_v4")
    assert main(["audit", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(json.dumps(to_json(cpufeat.audit(file))))
    assert (shown["format"], shown["arch"], shown["kind"], shown["level"]) == ("ELF", "x86_64", "object", "x86-64-v4")
    assert shown["functions"][0]["name"] == "dot_float"


def test_progress_is_reported_up_to_the_size_of_the_code(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    file = build_kernel(tmp_path, triple="x86_64-linux-gnu")
    cpufeat.audit(file, progress=lambda scanned, total: reports.append((scanned, total)))
    (image,) = images(file)
    size = sum(len(section.content) for section in image.sections if section.executable)
    assert reports[-1] == (size, size)


def test_importing_cpufeat_and_its_errors_loads_no_decoder() -> None:
    code = (
        "import sys, cpufeat; cpufeat.AuditError; print({'iced_x86', 'lief', 'elftools', 'capstone'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_elf_files_are_audited_without_lief(tmp_path: Path) -> None:
    file = build_kernel(tmp_path, triple="x86_64-linux-gnu")
    code = f"import sys, cpufeat; cpufeat.audit({str(file)!r}); print({{'lief', 'capstone'}} & {{*sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_a_stripped_python_needs_the_same(tmp_path: Path) -> None:
    python = Path(sys.executable).resolve()
    stripped = tmp_path / "python"
    subprocess.run([tool("strip"), "-s", "-o", str(stripped), str(python)], check=True)
    whole, less = cpufeat.audit(python), cpufeat.audit(stripped)
    assert (whole.needs, whole.arch) == (less.needs, less.arch)
