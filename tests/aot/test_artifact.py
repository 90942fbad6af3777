"""The note: where it is, what reads and keeps it, what a damaged one does. Saving, opening, loading."""

from __future__ import annotations

import ctypes
import io
import json
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from helpers.llvm_workers import ADD, compile_quietly
from helpers.requirements import needs_opaque_pointers, tool
from hypothesis import example, given
from hypothesis import strategies as st
from llvmlite import binding

from cpufeat import ArtifactError, CompileError, Host, MissingFeaturesError, Target, UnknownNameError, aot, detect
from cpufeat.aot import Variant
from cpufeat.aot.objects import note
from cpufeat.aot.objects.elf import Elf
from cpufeat.aot.objects.finish import finish
from cpufeat.features import FeatureSet

BASELINE = Target.parse("x86-64")
TWICE = "define i32 @twice(i32 %a) { %r = shl i32 %a, 1\nret i32 %r }\n"
THRICE = "define i32 @thrice(i32 %a) { %r = mul i32 %a, 3\nret i32 %r }\n"
UNARY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


def sections(elf):
    """Name, type, flags and contents of every section, as pyelftools reads them."""
    parts = ELFFile(io.BytesIO(elf)).iter_sections()
    return [(part.name, part["sh_type"], part["sh_flags"], part.data()) for part in parts]


def plain_object(text):
    """What LLVM makes of a module, without cpufeat."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple("x86_64-unknown-linux-gnu")
    return target.create_target_machine(reloc="pic", codemodel="default").emit_object(binding.parse_assembly(text))


@pytest.fixture(scope="module")
def artifact():
    """An artifact with a decision."""
    return compile_quietly(ADD.replace("GROUP", '"target-features"="+avx512f"') + TWICE, Target.parse("haswell-avx"))


def test_an_artifact_is_read_back_from_its_bytes_and_from_a_file(artifact, tmp_path):
    artifact.save(tmp_path / "add.o")
    assert [decision.subject for decision in artifact.decisions] == ["add"]
    assert aot.Artifact.open(artifact.object) == aot.Artifact.open(str(tmp_path / "add.o")) == artifact


def test_the_used_features_of_each_variant_are_read_back(artifact):
    plain = artifact.replace(object=plain_object(TWICE), dispatch="ifunc", runtime_override=True, name="add")
    variants = (Variant(BASELINE, FeatureSet("x86_64", ["sse2"])), Variant(artifact.target))
    noted = plain.replace(variants=variants).finished()
    assert aot.Artifact.open(noted.object) == noted


def test_other_readers_understand_the_note(artifact):
    elf = ELFFile(io.BytesIO(artifact.object))
    section_ = elf.get_section_by_name(".note.cpufeat")
    assert (section_["sh_type"], section_["sh_flags"], section_["sh_addralign"]) == ("SHT_NOTE", 2, 4)
    (entry,) = section_.iter_notes()
    assert (entry["n_name"], entry["n_type"]) == ("cpufeat", "NT_GNU_ABI_TAG"), "what pyelftools calls type 1"
    record = json.loads(entry["n_descdata"])
    (variant,) = record["variants"]
    assert Target.from_json(json.dumps(variant["target"])) == artifact.target
    assert record["llvm"] == artifact.llvm


def test_adding_a_note_changes_nothing_else_in_an_object():
    before = plain_object(ADD.replace("GROUP", "") + TWICE)
    after = note.add(before, "some text")
    *rest, (name, kind, _, _) = sections(after)
    assert (name, kind) == (".note.cpufeat", "SHT_NOTE")
    assert [part[:3] for part in rest] == [part[:3] for part in sections(before)]
    assert [part[3] for part in rest if part[0] != ".strtab"] == [
        part[3] for part in sections(before) if part[0] != ".strtab"
    ]
    assert note.read(after) == ["some text"]
    assert note.read(note.add(after, "more")) == ["some text", "more"]


@needs_opaque_pointers
def test_all_edits_of_an_object_are_written_at_once():
    """The sections' names and headers are appended once, after a level, new names of constructors and a note."""
    module = """
    @llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 7, ptr @f, ptr null }]
    define void @f() { ret void }
    """
    before = plain_object(module)
    elf = ELFFile(io.BytesIO(finish(before, "text", isa_level="x86-64-v3")))
    names = [section.name for section in elf.iter_sections()]
    assert names[-2:] == [".note.gnu.property", ".note.cpufeat"]
    assert ".init_array.7" in names
    assert elf.stream.getvalue().count(b"\0.note.cpufeat\0") == 1
    headers = elf.num_sections() * elf["e_shentsize"]
    added = sum(elf.get_section_by_name(name)["sh_size"] for name in (*names[-2:], ".strtab"))
    assert 0 <= len(elf.stream.getvalue()) - len(before) - headers - added < 3 * 8


@pytest.mark.parametrize("count", [0xFF00 - 8, 0xFF00 - 7, 0xFF00 - 6, 0xFF00 - 5, 0x10001])
def test_a_note_is_added_to_more_sections_than_the_header_can_count(count):
    """From 65,280 sections on, their number and the index of their names stand elsewhere."""
    module = "".join(f'@g{index} = global i8 1, section ".s{index}"\n' for index in range(count))
    plain = plain_object(module)
    content = note.add(plain, "text")
    assert note.read(content) == ["text"]
    elf = ELFFile(io.BytesIO(content))
    assert elf.num_sections() == ELFFile(io.BytesIO(plain)).num_sections() + 1
    assert elf.get_section(elf.num_sections() - 1).name == ".note.cpufeat"


@pytest.mark.parametrize("triple", ["i686-unknown-linux-gnu", "powerpc64-unknown-linux-gnu", "s390x-linux-gnu"])
def test_a_note_is_added_to_other_classes_and_byte_orders(triple):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(codemodel="default")
    content = note.add(machine.emit_object(binding.parse_assembly("define void @f() { ret void }")), "text")
    assert note.read(content) == ["text"]
    (entry,) = ELFFile(io.BytesIO(content)).get_section_by_name(".note.cpufeat").iter_notes()
    assert (entry["n_name"], entry["n_descdata"]) == ("cpufeat", b"text")


@pytest.mark.parametrize("name", ["strip", "llvm-strip"])
def test_the_note_survives_strip(name, artifact, tmp_path):
    artifact.save(tmp_path / "add.o")
    subprocess.run([tool(name), tmp_path / "add.o"], check=True)
    stripped = aot.Artifact.open(tmp_path / "add.o")
    assert stripped.object != artifact.object
    assert stripped.replace(object=artifact.object) == artifact


def zig(*arguments):
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu", *arguments], check=True)


ENTRIES = "%t { i32 65535, ptr @a, ptr null }, %t { i32 65535, ptr @b, ptr null }, %t { i32 101, ptr @c, ptr null }"
CONSTRUCTORS = f"""
%t = type {{ i32, ptr, ptr }}
@llvm.global_ctors = appending global [3 x %t] [{ENTRIES}]
@llvm.global_dtors = appending global [3 x %t] [{ENTRIES}]
declare i32 @putchar(i32)
define i32 @main() {{ %r = call i32 @putchar(i32 10)
  ret i32 0 }}
""" + "".join(f"define void @{name}() {{ %r = call i32 @putchar(i32 {ord(name)})\nret void }}\n" for name in "abc")


@pytest.mark.slow
@pytest.mark.parametrize("linker", ["zig", "cc"])
def test_constructors_run_in_order_whatever_the_linker(linker, tmp_path):
    """By priority, then as listed; destructors by priority the other way round (LLVM Language Reference)."""
    aot.compile(CONSTRUCTORS, BASELINE).save(tmp_path / "main.o")
    if linker == "zig":
        zig(tmp_path / "main.o", "-o", tmp_path / "main")
    else:
        subprocess.run([tool("cc"), tmp_path / "main.o", "-o", tmp_path / "main"], check=True)
    ran = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
    assert ran.stdout == "cab\nbac"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A shared library of two artifacts, with unused sections collected and symbols stripped."""
    folder = tmp_path_factory.mktemp("library")
    for name, text, request in (("twice", TWICE, "x86-64"), ("thrice", THRICE, "x86-64-v2")):
        aot.compile(text, Target.parse(request)).save(folder / f"{name}.o")
    zig("-shared", "-s", "-Wl,--gc-sections", folder / "twice.o", folder / "thrice.o", "-o", folder / "library.so")
    return folder / "library.so"


def test_linking_keeps_the_notes_and_the_code(library):
    loaded = ctypes.CDLL(str(library))
    assert (loaded.twice(21), loaded.thrice(14)) == (42, 42)
    levels = [json.loads(text)["variants"][0]["target"]["cpu"] for text in note.read(library.read_bytes())]
    assert levels == ["x86-64", "x86-64-v2"]
    segments = ELFFile(io.BytesIO(library.read_bytes())).iter_segments("PT_NOTE")
    assert any("cpufeat" in [entry["n_name"] for entry in segment.iter_notes()] for segment in segments)


def test_a_file_linked_from_several_artifacts_is_not_opened_as_one(library):
    with pytest.raises(ArtifactError, match=r"library.so: 2 notes of cpufeat: it was linked from several artifacts"):
        aot.Artifact.open(library)


UNKNOWN = {"triple": "x86_64", "cpu": "x86-64", "features": ["no"], "options": []}


def with_record(**changes):
    record = json.loads(note.read(aot.compile(TWICE, BASELINE).object)[0])
    return note.add(plain_object(TWICE), json.dumps({**record, **changes}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "not an ELF, COFF, PE or 64-bit Mach-O file"),
        (lambda: b"\x7fELF", "damaged ELF file"),
        (lambda: b"\x7fELF\x09\x01" + bytes(58), "damaged ELF file"),
        (lambda: b"MZ" + bytes(100), "damaged COFF or PE file: it has no PE header"),
        (lambda: Path(sys.executable).resolve().read_bytes(), "no note of cpufeat"),
        (lambda: plain_object(TWICE), "no note of cpufeat"),
        (lambda: aot.compile(TWICE, BASELINE).object[:-1], "damaged ELF file"),
        (lambda: note.add(plain_object(TWICE), "not JSON"), "damaged note"),
        (lambda: note.add(plain_object(TWICE), "[" * 100_000), "damaged note"),
        (lambda: note.add(plain_object(TWICE), "[1]"), "damaged note"),
        (lambda: with_record(version=3), "a note of version 3: this cpufeat reads version 2"),
        (lambda: with_record(variants=7), "damaged note"),
        (lambda: with_record(variants=[]), "damaged note: it lists no variant"),
        (lambda: with_record(variants=[{"target": 7, "used": None}]), "damaged note"),
        (lambda: with_record(variants=[{"target": UNKNOWN, "used": None}]), "'no'"),
        (lambda: with_record(variants=[{"target": json.loads(BASELINE.to_json()), "used": ["no"]}]), "'no'"),
        (lambda: with_record(variants=[{"target": json.loads(BASELINE.to_json()), "used": 7}]), "damaged note"),
        (lambda: with_record(decisions=[{"kind": "x"}]), "damaged note"),
        (lambda: with_record(decisions=[{"no": "x"}]), "damaged note"),
        (lambda: with_record(decisions=7), "damaged note"),
        (lambda: with_record(decisions=["x"]), "damaged note"),
    ],
)
def test_opening_anything_but_an_artifact_is_an_error_that_names_the_file(content, message, tmp_path):
    with pytest.raises(ArtifactError, match=message):
        aot.Artifact.open(content())
    (tmp_path / "file.o").write_bytes(content())
    with pytest.raises(ArtifactError, match=f"^{tmp_path}/file.o: .*{message}"):
        aot.Artifact.open(tmp_path / "file.o")


@pytest.mark.parametrize(
    ("path", "error"), [("missing.o", FileNotFoundError), (".", IsADirectoryError), ("a\0b", ArtifactError)]
)
def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(path, error):
    with pytest.raises(error, match=path.replace(".", r"\.")):
        aot.Artifact.open(path)


SMALL = aot.compile(TWICE, BASELINE).object


@given(st.dictionaries(st.integers(4, len(SMALL) - 1), st.integers(0, 255)), st.integers(0, len(SMALL)))
@example({}, len(SMALL))
def test_no_damaged_object_does_harm(changes, length):
    damaged = bytearray(SMALL)
    for position, value in changes.items():
        damaged[position] = value
    try:
        assert aot.Artifact.open(bytes(damaged[:length])).target.triple
    except ArtifactError as error:
        assert str(error)


SH_SIZE = 32
"""Where in a section's header its size stands, in a file of 64 bits."""


def with_field(content: bytes, section: bytes, offset: int, value: int) -> bytes:
    """An object of 64 bits, a field of whose section's header is something else."""
    elf, changed = Elf(content), bytearray(content)
    (index,) = (
        at for at, candidate in enumerate(elf.sections) if elf.names().startswith(section + b"\0", candidate.name)
    )
    struct.pack_into("<Q", changed, elf.header.shoff + index * elf.section_header.size + offset, value)
    return bytes(changed)


def test_overlapping_notes_and_names_are_refused(artifact):
    elf = Elf(artifact.object)
    (ours,) = (section for section in elf.sections if elf.names().startswith(note.SECTION, section.name))
    many = elf.edited(elf.content, [*elf.sections, *[ours] * 100], elf.names()).to_bytes()
    with pytest.raises(ArtifactError, match="its notes overlap"):
        aot.Artifact.open(many)
    with pytest.raises(ArtifactError, match="names do not end"):
        Elf(with_field(SMALL, b".strtab", SH_SIZE, 1)).all_symbols()


@given(st.binary(max_size=80))
@example(struct.pack("<3I", 8, 0xFFFFFFFF, 1) + note.OWNER)
@example(struct.pack("<3I", 0xFFFFFFFF, 8, 1) + note.OWNER)
@example(struct.pack("<3I", 4, 4, 1) + b"GNU\0text")
@example(struct.pack("<3I", 8, 1, 1) + note.OWNER + b"\xff\0\0\0")
def test_no_damaged_note_does_harm(content):
    try:
        assert all(isinstance(text, str) for text in note._texts("<", content))
    except ArtifactError as error:
        assert "damaged note" in str(error)


def test_a_file_is_saved_completely_or_not_at_all(artifact, tmp_path):
    path = tmp_path / "add.o"
    path.write_bytes(b"before")
    sizes = set()
    writers = [threading.Thread(target=artifact.save, args=(path,)) for _ in range(8)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        sizes.add(path.stat().st_size)
    assert sizes <= {len(b"before"), len(artifact.object)}
    assert path.read_bytes() == artifact.object
    assert [file.name for file in tmp_path.iterdir()] == ["add.o"]
    mode = stat.S_IMODE(path.stat().st_mode)
    (tmp_path / "ordinary").touch()
    assert mode == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


@pytest.mark.parametrize("path", ["no/such/folder/add.o", "."])
def test_a_file_that_cannot_be_saved_is_an_error_that_names_it(path, artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError):
        artifact.save(path)
    assert list(tmp_path.iterdir()) == []


def test_the_repr_of_an_artifact_does_not_show_its_bytes(artifact):
    assert repr(artifact) == (
        f"<Artifact of {len(artifact.object)} bytes for x86_64-unknown-linux-gnu, haswell, by LLVM {artifact.llvm}>"
    )


def test_functions_of_a_loaded_artifact_can_be_called():
    loaded = aot.compile(TWICE + THRICE + "@data = global i32 7\n@inner = internal global i32 8", BASELINE).load()
    assert set(loaded) == {"twice", "thrice", "data"}
    assert UNARY(loaded["twice"])(UNARY(loaded["thrice"])(7)) == 42
    assert ctypes.c_int.from_address(loaded["data"]).value == 7
    with pytest.raises(KeyError, match="'inner'"):
        loaded["inner"]


@needs_opaque_pointers
def test_code_for_this_machine_is_loaded_and_runs():
    """A constant that needs the alignment of the widest vectors."""
    module = f"""
    @wide = internal constant <16 x float> <{", ".join(f"float {index}.0" for index in range(16))}>
    declare float @llvm.vector.reduce.fadd.v16f32(float, <16 x float>)
    define float @sum() {{
      %v = load volatile <16 x float>, ptr @wide, align 64
      %s = call fast float @llvm.vector.reduce.fadd.v16f32(float 0.0, <16 x float> %v)
      ret float %s
    }}
    """
    for request in ("x86-64", "native"):
        loaded = aot.compile(module, request).load()
        assert ctypes.CFUNCTYPE(ctypes.c_float)(loaded["sum"])() == sum(range(16))


def test_symbols_of_this_process_are_found():
    module = "declare i32 @abs(i32)\ndefine i32 @call(i32 %a) { %r = call i32 @abs(i32 %a)\nret i32 %r }"
    loaded = aot.compile(module, BASELINE).load()
    assert UNARY(loaded["call"])(-42) == 42


@needs_opaque_pointers
@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("declare void @no_such()\ndefine void @f() { call void @no_such()\nret void }", "it does not define no_such"),
        ("@t = thread_local global i32 5", "thread-local"),
        (
            """%t = type { i32, ptr, ptr }
            @llvm.global_ctors = appending global [1 x %t] [%t { i32 1, ptr @f, ptr null }]
            define void @f() { call void asm sideeffect "nop", ""()
              ret void }""",
            "would not run the constructors",
        ),
    ],
)
def test_an_object_that_cannot_be_linked_into_this_process_is_an_error(module, message):
    artifact = aot.compile(module, BASELINE)
    with pytest.raises(ArtifactError, match=message):
        artifact.load()


@pytest.mark.slow
def test_a_shared_library_is_not_linked_into_this_process(tmp_path):
    aot.compile(TWICE, BASELINE).save(tmp_path / "twice.o")
    zig("-shared", tmp_path / "twice.o", "-o", tmp_path / "twice.so")
    with pytest.raises(ArtifactError, match="load a library with ctypes"):
        aot.Artifact.open(tmp_path / "twice.so").load()


def lacking(host: Host, *names: str) -> Host:
    return host.replace(features=host.features.without(names))


COUNT = """
declare i64 @llvm.ctpop.i64(i64)
define i64 @count(i64 %word) { %bits = call i64 @llvm.ctpop.i64(i64 %word)
ret i64 %bits }
"""


def test_loading_names_the_features_that_the_host_lacks():
    artifact = aot.compile(COUNT, Target.parse("x86-64-v2"))
    with pytest.raises(MissingFeaturesError, match=r"compiled for x86-64-v2, needs .*popcnt: not reported") as caught:
        artifact.load(lacking(detect(), "popcnt"))
    assert set(caught.value.missing) == {"popcnt"}


def test_loading_requires_only_the_features_that_the_code_uses():
    artifact = aot.compile(COUNT, Target.parse("x86-64-v2"))
    library = artifact.load(lacking(detect(), "sse4_2"))
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library["count"])(0xF0F) == 8


def test_an_artifact_records_the_features_that_it_uses(tmp_path: Path):
    aot.compile(COUNT, Target.parse("x86-64-v2")).save(tmp_path / "count.o")
    (variant,) = aot.Artifact.open(tmp_path / "count.o").variants
    assert variant.used == FeatureSet("x86_64", ["popcnt"])


def test_code_that_uses_more_than_its_target_permits_is_an_error_that_names_the_instruction():
    text = 'define void @f() { call void asm sideeffect "vpaddd %zmm0, %zmm1, %zmm2", ""()\nret void }'
    with pytest.raises(CompileError, match=r"function f: vpaddd .* uses avx512f, which x86-64-v3 does not") as caught:
        aot.compile(text, Target.parse("x86-64-v3"))
    assert caught.value.function == "f"


def test_code_outside_of_functions_that_uses_too_much_is_an_error_that_names_its_place():
    code, pointer = r".Lcode: .byte 0xc5,0xf4,0x58,0xc2,0xc3", r".data\0A.quad .Lcode"
    text = f'module asm ".text\\0A{code}\\0A{pointer}"\ndefine void @f() {{ ret void }}'
    message = r"^<string>: vaddps ymm0, ymm1, ymm2 at \.text\+0x0 uses avx, which x86-64 does not permit$"
    with pytest.raises(CompileError, match=message) as caught:
        aot.compile(text, BASELINE)
    assert caught.value.function is None


def test_bytes_between_functions_that_only_look_like_code_are_permitted():
    function = r".type g,@function\0Ag: ret\0A.size g,1\0A"
    text = f'module asm ".text\\0A{function}.byte 0xc5,0xf4,0x58,0xc2,0xc3"\ndefine void @f() {{ ret void }}'
    assert aot.compile(text, BASELINE).variants[0].used == FeatureSet("x86_64")


def test_the_used_features_of_code_that_cannot_be_decoded_are_unknown():
    text = 'define void @f() { call void asm sideeffect ".byte 0x0f,0x04", ""()\nret void }'
    assert aot.compile(text, Target.parse("x86-64-v3")).variants[0].used is None


@pytest.mark.parametrize("dispatch", ["ifunc", "pointer"])
@pytest.mark.parametrize("levels", [("x86-64-v3", "x86-64"), ("x86-64-v3", "x86-64-v2")])
@pytest.mark.parametrize("linkage", ["", "internal"])
def test_the_selection_of_a_variant_permits_it_no_more_features(dispatch, levels, linkage):
    text = f"""
        define {linkage} float @g(float %x) noinline {{
          %y = call float asm "vaddss $1, $1, $0", "=x,x"(float %x)
          ret float %y
        }}
        define float @f(float %x) {{
          %y = call float @g(float %x)
          ret float %y
        }}"""
    assert aot.compile(text, targets=["x86-64-v4", "x86-64-v3"], dispatch=dispatch).variants
    with pytest.raises(CompileError, match=rf"function g\.{levels[1]}: vaddss .* uses avx, which {levels[1]} does not"):
        aot.compile(text, targets=levels, dispatch=dispatch)


def test_uses_behind_the_codes_own_check_are_permitted():
    asked = aot.compile(CHECKED_XGETBV, Target.parse("x86-64"))
    assert asked.variants[0].used == FeatureSet("x86_64")
    with pytest.raises(CompileError, match=r"xgetbv .* uses xsave"):
        aot.compile(CHECKED_XGETBV.replace("br i1 %has", "br i1 %always"), Target.parse("x86-64"))
    for dispatch in ("ifunc", "pointer"):
        several = aot.compile(CHECKED_XGETBV, targets=["x86-64-v2", "x86-64"], dispatch=dispatch)
        assert [variant.used for variant in several.variants] == [FeatureSet("x86_64")] * 2


CHECKED_XGETBV = """
define i32 @state() {
  %answer = call { i32, i32, i32, i32 } asm sideeffect "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 1, i32 0)
  %c = extractvalue { i32, i32, i32, i32 } %answer, 2
  %osxsave = and i32 %c, 134217728
  %has = icmp ne i32 %osxsave, 0
  %always = icmp eq i32 0, 0
  br i1 %has, label %read, label %none
read:
  %word = call i32 asm sideeffect "xgetbv", "={ax},{cx},~{dx}"(i32 0)
  ret i32 %word
none:
  ret i32 0
}
"""


@pytest.mark.parametrize(
    ("disabled", "selected"), [("", 0), ("avx512f", 1), ("avx512f avx", 1), ("sse3", 1), ("no_such", None)]
)
def test_a_run_time_override_disables_variants_but_never_the_last_that_runs(disabled, selected, monkeypatch):
    module = "define float @add(float %a, float %b) { %r = fadd float %a, %b\nret float %r }"
    targets = ["x86-64-v4", "x86-64-v3"]
    artifact = aot.compile(module, targets=targets, dispatch="pointer", runtime_override=True)
    assert "avx" in artifact.variants[-1].used
    host = detect().replace(features=Target.parse("x86-64-v4").features)
    monkeypatch.setenv("CPUFEAT_DISABLE", disabled)
    if selected is None:
        with pytest.raises(UnknownNameError):
            artifact.selected_on(host)
    else:
        assert artifact.selected_on(host) == selected
        assert artifact.replace(runtime_override=False).selected_on(host) == 0


def test_loading_refuses_code_of_another_system():
    artifact = aot.compile(TWICE, Target.parse("x86-64", "x86_64-unknown-freebsd"))
    with pytest.raises(ArtifactError, match="does not run on x86_64-unknown-linux-gnu: system freebsd and linux"):
        artifact.load()


def test_loading_looks_at_this_machine_even_if_a_recording_is_replayed(monkeypatch):
    monkeypatch.setenv("CPUFEAT_MACHINE", "/nonexistent")
    assert aot.compile(TWICE, BASELINE).load()["twice"]
