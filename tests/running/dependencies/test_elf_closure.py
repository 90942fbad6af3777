"""What an ELF program loads, against what its loader says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build
from helpers.requirements import unavailable

from cpufeat import Target
from cpufeat.detection.systems import ThisMachine
from cpufeat.running.dependencies.elf_closure import elf_dependencies
from cpufeat.running.dependencies.root import Root
from cpufeat.support.files import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cpufeat.features import FeatureSet
    from cpufeat.running.dependencies.dependency import Dependencies

    Build = Callable[..., Path]

pytestmark = pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the programs are x86-64's")

V2, V3 = (Target.parse(level).features for level in ("x86-64-v2", "x86-64-v3"))
COMPARED = 30
USES = "int foo(void); int main(void) { return foo(); }"
FOO = "int foo(void) { return 0; }"


def loaded(program: Path, root: Root | None = None, available: FeatureSet = V2) -> Dependencies:
    return elf_dependencies(program.read_bytes(), str(program), root or Root(), available)


def paths(dependencies: Dependencies) -> list[str]:
    """The paths of what is loaded, ``missing NAME`` for what is not found."""
    return sorted(file.path or f"missing {file.name}" for file in dependencies.files)


def listed_by_loader(command: list[str | Path], environment: Mapping[str, str] | None = None) -> list[str]:
    """What the loader lists, in the same form."""
    listing = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
    lines = [line.strip() for line in listing.splitlines() if "=>" in line or "(0x" in line]
    pairs = [re.match(r"(\S+) => (not found|\S+)|(\S+) \(0x", line) for line in lines]
    return sorted(
        match[3] or (f"missing {match[1]}" if match[2] == "not found" else match[2])
        for match in pairs
        if match and "vdso" not in match[0]
    )


@pytest.fixture
def built(tmp_path: Path, compiler: str) -> Build:
    """Compile code to a file in a temporary folder."""

    def build(output: str, code: str, *options: str | Path) -> Path:
        path, source = tmp_path / output, tmp_path / "source.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(code)
        subprocess.run([compiler, "-O1", source, "-o", path, *options], check=True)
        return path

    return build


def library(built: Build, output: str, code: str = FOO, *options: str | Path) -> Path:
    return built(output, code, "-shared", "-fPIC", f"-Wl,-soname,{Path(output).name}", *options)


def test_programs_of_this_system_load_what_ldd_lists() -> None:
    ldd = shutil.which("ldd") or unavailable("ldd", "apt-get install libc-bin")
    files = sorted(path for path in Path("/usr/bin").iterdir() if path.is_file() and not path.is_symlink())
    programs = [path for path in files if read(path, wanted=lambda _: False).startswith(b"\x7fELF")]
    chosen = programs[:: max(len(programs) // COMPARED, 1)]
    assert len(chosen) >= COMPARED
    for program in chosen:
        assert paths(loaded(program)) == listed_by_loader([ldd, program]), program


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
@pytest.mark.parametrize("folder", ["$ORIGIN/inner", "${ORIGIN}/../here/inner", "/nowhere:$ORIGIN/inner"])
def test_rpath_and_runpath_are_followed_as_by_the_loader(built: Build, tags: str, folder: str) -> None:
    """A runpath is not for what the libraries load in turn; an rpath is."""
    second = library(built, "here/inner/libsecond.so", "int second(void) { return 0; }")
    first = library(built, "here/inner/libfoo.so", "int second(void); int foo(void) { return second(); }", second)
    options = (f"-Wl,{tags}", f"-Wl,-rpath,{folder}", "-Wl,--allow-shlib-undefined")
    program = built("here/program", USES, first, *options)
    listing = listed_by_loader(["ldd", program])
    assert paths(loaded(program)) == listing
    assert ("missing libsecond.so" in listing) == (tags == "--enable-new-dtags")


def test_a_library_with_a_runpath_does_not_search_the_rpath_of_the_program(built: Build) -> None:
    second = library(built, "inner/libsecond.so", "int second(void) { return 0; }")
    code = "int second(void); int foo(void) { return second(); }"
    first = library(built, "inner/libfoo.so", code, second, "-Wl,--enable-new-dtags,-rpath,/nowhere")
    options = ("-Wl,--disable-new-dtags,-rpath,$ORIGIN/inner", "-Wl,--allow-shlib-undefined")
    program = built("program", USES, first, *options)
    listing = listed_by_loader(["ldd", program])
    assert "missing libsecond.so" in listing
    assert paths(loaded(program)) == listing


def test_library_path_goes_before_runpath_and_after_rpath(built: Build, tmp_path: Path) -> None:
    foo = library(built, "a/libfoo.so")
    library(built, "b/libfoo.so")
    for tags, folder in (("--enable-new-dtags", "b"), ("--disable-new-dtags", "a")):
        program = built("program", USES, foo, f"-Wl,{tags}", "-Wl,-rpath,$ORIGIN/a")
        assert str(tmp_path / folder / "libfoo.so") in paths(loaded(program, Root("", (str(tmp_path / "b"),))))
        listing = listed_by_loader(["ldd", program], {"LD_LIBRARY_PATH": str(tmp_path / "b")})
        assert paths(loaded(program, Root("", (str(tmp_path / "b"),)))) == listing


def test_libraries_of_another_class_are_skipped(built: Build) -> None:
    foo = library(built, "b/libfoo.so")
    program = built("program", USES, foo, "-Wl,-rpath,$ORIGIN/a:$ORIGIN/b")
    other = foo.parent.parent / "a" / "libfoo.so"
    other.parent.mkdir()
    other.write_bytes(foo.read_bytes()[:4] + b"\x01" + foo.read_bytes()[5:])
    assert paths(loaded(program)) == listed_by_loader(["ldd", program])
    assert str(foo) in paths(loaded(program))


def test_the_subfolder_of_the_best_level_that_the_cpu_has_is_chosen(qemu: str, built: Build) -> None:
    foo = library(built, "a/libfoo.so")
    for level in ("x86-64-v2", "x86-64-v3", "x86-64-v4"):
        library(built, f"a/glibc-hwcaps/{level}/libfoo.so")
    program = built("program", USES, foo, "-Wl,-rpath,$ORIGIN/a")
    for model, available in (("Conroe", Target.parse("x86-64").features), ("Nehalem", V2), ("Haswell", V3)):
        listing = listed_by_loader([qemu, "-cpu", model, "-E", "LD_TRACE_LOADED_OBJECTS=1", program])
        assert any(path.endswith("libfoo.so") for path in listing)
        assert paths(loaded(program, available=available)) == listing


def test_what_is_not_found_is_listed_with_where_it_was_searched_for(built: Build, tmp_path: Path) -> None:
    foo = library(built, "libfoo.so")
    program = built("program", USES, foo, "-Wl,-rpath,$ORIGIN/a")
    foo.unlink()
    (missing,) = (file for file in loaded(program).files if not file.path)
    assert (missing.name, missing.by, missing.real) == ("libfoo.so", str(program), "")
    assert missing.searched[:2] == (str(tmp_path / "a"), "/etc/ld.so.cache")
    assert "/usr/lib" in " ".join(missing.searched)


def test_a_static_program_and_an_object_load_nothing(built: Build) -> None:
    assert paths(loaded(built("program", "int main(void) { return 0; }", "-static"))) == []
    assert paths(loaded(built("object.o", FOO, "-c"))) == []


def test_a_root_is_searched_instead_of_this_machine(built: Build, tmp_path: Path) -> None:
    """Links in it stay in it, its configuration names folders, and this machine's libraries are not found."""
    root = tmp_path / "root"
    foo = library(built, "root/opt/foo/libfoo.so.1")
    program = built("root/bin/program", USES, foo)
    (root / "etc" / "ld.so.conf.d").mkdir(parents=True)
    (root / "etc" / "ld.so.conf").write_text("include ld.so.conf.d/*.conf\n")
    (root / "etc" / "ld.so.conf.d" / "foo.conf").write_text("# folders\n/linked/foo\n")
    (root / "linked").symlink_to("/opt")
    result = {file.name: file for file in loaded(program, Root(str(root))).files}
    assert (result["libfoo.so.1"].path, result["libfoo.so.1"].real) == ("/linked/foo/libfoo.so.1", str(foo))
    assert result["libc.so.6"].real == ""


def test_names_in_constants_of_a_file_that_calls_dlopen_are_listed(built: Build) -> None:
    code = """
#include <dlfcn.h>
int main(void) { return !dlopen("libplugin.so.3", RTLD_NOW) || !dlopen("libc.so.6", RTLD_NOW); }"""
    assert loaded(built("program", code, "-ldl")).may_open == ("libplugin.so.3",)
    silent = 'const char *name = "libplugin.so.3"; int main(void) { return name[0] != 108; }'
    assert loaded(built("program", silent)).may_open == ()


def test_symbols_that_one_file_takes_from_another_are_used_and_names_for_dlsym(built: Build) -> None:
    code = '#include <dlfcn.h>\nint foo(void); int main(void) { return foo() + !dlsym(0, "pkey_set"); }'
    used = loaded(built("program", code, library(built, "libfoo.so"))).used
    assert used is not None
    assert used >= {"foo", "dlsym", "pkey_set"}
    without = loaded(built("program", USES, library(built, "libfoo.so"))).used
    assert without is not None
    assert "pkey_set" not in without
    assert "__libc_early_init" in without  # the loader calls it, and names it in a constant alone


def test_of_a_file_without_section_headers_it_is_not_known_what_it_uses(built: Build) -> None:
    foo = library(built, "libfoo.so")
    program = built("program", USES, foo, "-Wl,-rpath,$ORIGIN")
    content = bytearray(program.read_bytes())
    content[0x28:0x30], content[0x3C:0x40] = bytes(8), bytes(4)  # e_shoff, e_shnum, e_shstrndx
    program.write_bytes(content)
    assert loaded(program).used is None
    assert str(foo) in paths(loaded(program))


def musl_program(folder: Path, output: str, code: str, *options: str | Path) -> Path:
    path, source = folder / output, folder / "source.c"
    path.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(code)
    return build(path, source, *options, triple="x86_64-linux-musl")


def test_musl_searches_for_what_libraries_load_along_the_chain_of_runpaths(tmp_path: Path) -> None:
    """As musl 1.2.3 lists it: a runpath holds for libraries too, and the loader is the C library."""
    second = musl_program(
        tmp_path, "b/libsecond.so", "int second(void) { return 0; }", "-shared", "-Wl,-soname,libsecond.so"
    )
    code = "int second(void); int foo(void) { return second(); }"
    foo = musl_program(tmp_path, "a/libfoo.so", code, "-shared", second, "-Wl,-soname,libfoo.so")
    rpath = "-Wl,-rpath,$ORIGIN/../a:$ORIGIN/../b"
    program = musl_program(tmp_path, "bin/program", USES, "-dynamic", foo, rpath, "-Wl,--allow-shlib-undefined")
    loader = musl_program(tmp_path, "lib/ld-musl-x86_64.so.1", "int loads(void) { return 0; }", "-shared")
    result = loaded(program, Root(str(tmp_path)))
    assert [(file.name, file.real) for file in result.files] == [
        ("libfoo.so", str(foo)),
        ("libc.so", str(loader)),
        ("libsecond.so", str(second)),
    ]


def test_a_file_names_the_folders_of_musl(tmp_path: Path) -> None:
    foo = musl_program(tmp_path, "opt/foo/libfoo.so", FOO, "-shared", "-Wl,-soname,libfoo.so")
    program = musl_program(tmp_path, "bin/program", USES, "-dynamic", foo)
    (missing,) = (file for file in loaded(program, Root(str(tmp_path))).files if file.name == "libfoo.so")
    assert missing.searched == ("/lib", "/usr/local/lib", "/usr/lib")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld-musl-x86_64.path").write_text("/nowhere\n/opt/foo\n")
    assert str(foo) in [file.real for file in loaded(program, Root(str(tmp_path))).files]
