"""Every form in which a module comes, and what must fit the target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.llvm_workers import ADD
from helpers.object_inspection import section
from helpers.requirements import needs_opaque_pointers
from llvmlite import binding, ir

from cpufeat import CompileError, Target, TargetError, aot
from cpufeat.aot.llvm import triples
from cpufeat.auditing.formats.loader import images

BASELINE = Target.parse("x86-64")
TEXT = ADD.replace("GROUP", "")


def parsed(text=TEXT):
    return binding.parse_assembly(text)


def built():
    """The module of TEXT, made with llvmlite's own builder."""
    module = ir.Module("built")
    vector = ir.VectorType(ir.FloatType(), 16)
    function = ir.Function(module, ir.FunctionType(vector, [vector, vector]), "add")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.fadd(*function.args))
    return module


def written(path, content):
    path.write_bytes(content)
    return path


FORMS = {
    "text": lambda _: TEXT,
    "text of one line": lambda _: TEXT.replace("\n", " "),
    "text that ends like a path": lambda _: TEXT + "\n; of add.ll",
    "bitcode": lambda _: parsed().as_bitcode(),
    "bytearray": lambda _: bytearray(parsed().as_bitcode()),
    "memoryview": lambda _: memoryview(parsed().as_bitcode()),
    "llvmlite.binding": lambda _: parsed(),
    "llvmlite.ir": lambda _: built(),
    "path of text": lambda folder: written(folder / "add.ll", TEXT.encode()),
    "name of text": lambda folder: str(written(folder / "add.ll", TEXT.encode())),
    "path of bitcode": lambda folder: written(folder / "add.bc", parsed().as_bitcode()),
    "name of bitcode": lambda folder: str(written(folder / "add.bc", parsed().as_bitcode())),
    "bitcode that is called text": lambda folder: written(folder / "add.ll", parsed().as_bitcode()),
    "path without a suffix": lambda folder: written(folder / "add", TEXT.encode()),
}


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_code(form, isolation, tmp_path):
    emitted = aot.compile(FORMS[form](tmp_path), BASELINE, isolation=isolation).object
    assert section(emitted) == section(aot.compile(TEXT, BASELINE).object)


def test_an_llvmlite_module_is_not_changed():
    text = ADD.replace("GROUP", '"target-features"="+sse2"')
    module = parsed(text)
    before = str(module)
    aot.compile(module, BASELINE)
    assert str(module) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.ll", b"define void @f( {", r"bad.ll:1:18: error: expected type"),
        ("bad.ll", b"define \xff", "bad.ll: byte 7 of the IR is not UTF-8$"),
        ("bad.ll", b"; fine\ndefine void @f() { ret void }\n\0 and more", "bad.ll:3: a NUL byte"),
        ("bad.bc", b"BC\xc0\xde and more", "bad.bc: "),
        ("empty.bc\0.bc", None, "embedded null"),
    ],
)
def test_a_file_that_cannot_be_compiled_is_an_error_that_names_it(name, content, message, tmp_path):
    path = str(tmp_path / name)
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(CompileError, match=message):
        aot.compile(path, BASELINE)


@pytest.mark.parametrize("name", ["missing.ll", "missing.bc", Path("missing")])
def test_a_missing_file_or_a_folder_is_the_error_of_python(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: '{name}'"):
        aot.compile(name, BASELINE)
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{re.escape(str(tmp_path))}'"):
        aot.compile(tmp_path, BASELINE)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (b"define void @f() { ret void }", "29 bytes that are not LLVM bitcode"),
        (b"", "0 bytes that are not LLVM bitcode"),
        ("define void @f() { ret void } \0 define", "^<string>:1: a NUL byte"),
        ("; \ud800", "character 2 of the IR is half of a surrogate pair"),
        ("kernel", "^'kernel' is not IR: pass the path of a file as an os.PathLike, or one with .ll or .bc"),
        ("build/kernel.o", "^'build/kernel.o' is not IR"),
        ("src/dot.c", "^src/dot.c: C source, not IR: pass cpufeat.aot.from_c"),
        (Path("dot.c"), "^dot.c: C source, not IR: pass cpufeat.aot.from_c"),
    ],
)
def test_anything_but_a_module_is_an_error(module, message):
    with pytest.raises(CompileError, match=message):
        aot.compile(module, BASELINE)


def test_a_closed_module_is_an_error():
    module = parsed()
    module.close()
    with pytest.raises(CompileError, match="closed"):
        aot.compile(module, BASELINE)


@pytest.mark.parametrize("module", [None, 7, ["define"]])
def test_an_object_of_another_type_is_a_type_error(module):
    with pytest.raises(TypeError, match=f"not {type(module).__name__}$"):
        aot.compile(module, BASELINE)


GNU = "x86_64-unknown-linux-gnu"


@pytest.mark.parametrize(
    "own",
    [
        *("x86_64-pc-linux-gnu", "x86_64-linux-gnu", "x86_64-linux", "amd64-unknown-linux5.10.0-gnu2.31.0", "x86_64"),
        *("", "unknown-unknown-unknown", "x86_64-unknown-unknown", "x86_64-unknown-none", "x86_64-redhat-linux-gnu"),
    ],
)
def test_a_module_with_a_compatible_triple_is_compiled(own):
    assert not triples.conflict(own, GNU)
    aot.compile(f'target triple = "{own}"\n{TEXT}', BASELINE, on_missing="error")


@pytest.mark.parametrize(
    ("own", "differs"),
    [
        ("aarch64-unknown-linux-gnu", "architecture aarch64 and x86_64"),
        ("i686-pc-linux-gnu", "architecture i686 and x86_64"),
        ("wasm32-unknown-unknown", "architecture wasm32 and x86_64"),
        ("x86_64-unknown-linux-musl", "environment musl and gnu"),
        ("x86_64-unknown-linux-gnux32", "environment gnux32 and gnu"),
        ("x86_64-apple-macosx14.0.0", "system darwin and linux"),
        ("x86_64-pc-windows-msvc19.33", "system windows and linux"),
        ("x86_64-unknown-freebsd13", "system freebsd and linux"),
    ],
)
def test_a_module_with_a_conflicting_triple_is_an_error(own, differs):
    message = f"^<string>: made for {own}, which conflicts with {GNU}: .*{differs}"
    with pytest.raises(TargetError, match=message):
        aot.compile(f'target triple = "{own}"\n{TEXT}', BASELINE)


@pytest.mark.parametrize(("abi", "needs"), [("lp64d", "d"), ("lp64f", "f")])
def test_an_abi_whose_registers_the_target_lacks_is_an_error(abi, needs):
    """LLVM warns, and emits code that takes its arguments elsewhere than the caller puts them."""
    flags = f'!llvm.module.flags = !{{!0}}\n!0 = !{{i32 1, !"target-abi", !"{abi}"}}'
    without, having = (Target.parse(cpu, "riscv64-linux-gnu") for cpu in ("sifive-s51", "sifive-u54"))
    with pytest.raises(TargetError, match=f"made for the ABI {abi}, which needs {needs}; the target has none"):
        aot.compile(f"{TEXT}\n{flags}", without)
    aot.compile(TEXT, without)
    aot.compile(f"{TEXT}\n{flags}", having)


@pytest.mark.skipif(not hasattr(binding, "get_triple_parts"), reason="LLVM's own answer needs llvmlite >= 0.44")
@pytest.mark.parametrize("arch", ["x86_64", "i686", "aarch64", "riscv64"])
@pytest.mark.parametrize("rest", ["-pc-linux-gnu", "-linux-musl", "-unknown-freebsd13.1", "-linux", "-pc-windows-msvc"])
def test_triples_have_the_parts_that_llvm_finds(arch, rest):
    theirs = binding.get_triple_parts(arch + rest)
    ours = triples.parts(arch + rest)
    assert ours[1:] == tuple("" if part == "unknown" else re.sub(r"[\d.]+$", "", part) for part in theirs[3:5])


@pytest.mark.parametrize("layout", ["e-m:e-p:32:32-i64:64-n8:16:32-S128", "E", "e-m:o-i64:64-n8:16:32:64-S128"])
def test_the_data_layout_of_another_target_is_an_error(layout):
    with pytest.raises(TargetError, match=f"data layout '{layout}' conflicts with that of {GNU}, 'e-m:e-"):
        aot.compile(f'target datalayout = "{layout}"\n{TEXT}', BASELINE)


@needs_opaque_pointers
@pytest.mark.parametrize(
    ("triple", "layout"),
    [
        (GNU, "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128"),  # clang 17: no i128:128
        (GNU, "e-m:e-i64:64-f80:128-n8:16:32:64-S128"),  # clang 9: no address spaces 270 to 272
        ("i686-unknown-linux-gnu", "e-m:e-p:32:32-p270:32:32-p271:32:32-p272:64:64-f64:32:64-f80:32-n8:16:32-S128"),
        ("x86_64-pc-windows-msvc", "e-m:w-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128"),
        ("x86_64-apple-macosx11", "e-m:o-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128"),
        ("aarch64-unknown-linux-gnu", "e-m:e-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128"),  # clang 18: no Fn32
    ],
)
def test_text_with_the_data_layout_of_an_older_clang_compiles_as_its_bitcode_does(triple, layout):
    target = Target.parse("armv8-a" if "aarch64" in triple else "x86-64", triple)
    body = "define i128 @f(ptr %p) { %v = load i128, ptr %p\nret i128 %v }"
    text = f'target datalayout = "{layout}"\ntarget triple = "{triple}"\n{body}'
    bitcode = binding.parse_assembly(text).as_bitcode()
    assert code(aot.compile(text, target)) == code(aot.compile(bitcode, target)) != b""


def code(artifact):
    """The code in an object of any format."""
    return b"".join(part.content for image in images(artifact.object) for part in image.sections if part.executable)


def test_the_targets_own_data_layout_is_accepted():
    layout = Target.parse("x86-64").create_target_machine().target_data
    stated = aot.compile(f'target datalayout = "{layout}"\ntarget triple = "{GNU}"\n{TEXT}', BASELINE)
    assert stated.object == aot.compile(TEXT, BASELINE).object


def test_a_target_whose_objects_hold_no_note_is_an_error():
    """32-bit Mach-O."""
    with pytest.raises(TargetError, match=r"i686-apple-macosx10\.6: .*not an ELF, COFF, PE or 64-bit Mach-O file"):
        aot.compile("define i32 @f(i32 %a) { ret i32 %a }", Target.parse("x86-64", "i686-apple-macosx10.6"))


def test_a_request_is_resolved_on_this_machine(monkeypatch):
    monkeypatch.setenv("CPUFEAT_DISABLE", "sse3")
    artifact = aot.compile(TEXT, "native")
    assert artifact.target == aot.compile(TEXT).target
    assert "sse3" not in artifact.target.features
    assert ("environment", "sse3") in {(decision.kind, decision.subject) for decision in artifact.decisions}
