"""The libraries that Mach-O files load: by rpath, beside the program, those of macOS, and those that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build

from cpufeat import check
from cpufeat.running.dependencies.darwin import darwin_dependencies
from cpufeat.running.dependencies.root import Root
from cpufeat.support.verdict import CANNOT_TELL, MAY_NOT_RUN, RUNS

if TYPE_CHECKING:
    from pathlib import Path

USES = "int foo(void); int main(void) { return foo(); }"
FOO = 'int foo(void) { __asm__ volatile("vpabsb %ymm0, %ymm0"); return 0; }'
MACOS = "x86_64-macos"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("darwin")
    (made / "uses.c").write_text(USES)
    (made / "foo.c").write_text(FOO)
    (made / "lib").mkdir()
    return made


@pytest.mark.parametrize(
    "name", ["@rpath/libfoo.dylib", "@executable_path/lib/libfoo.dylib", "@loader_path/lib/libfoo.dylib"]
)
def test_a_library_that_is_found_is_judged_and_those_of_macos_are_named(folder: Path, name: str) -> None:
    foo = build(folder / "lib" / "libfoo.dylib", folder / "foo.c", "-shared", f"-Wl,-install_name,{name}", triple=MACOS)
    rpath = "-Wl,-rpath,@loader_path/lib"
    program = build(folder / "uses", folder / "uses.c", foo, rpath, triple=MACOS)
    answer = check(program, "nehalem")
    assert answer.verdict == MAY_NOT_RUN
    assert [(library.file, library.verdict) for library in answer.libraries or ()] == [(str(foo), MAY_NOT_RUN)]
    assert answer.system_libraries == ("/usr/lib/libSystem.B.dylib",)
    assert check(program, "haswell").verdict == RUNS
    foo.unlink()
    assert check(program, "haswell").verdict == CANNOT_TELL


def test_in_a_root_the_libraries_of_macos_are_files(folder: Path, tmp_path: Path) -> None:
    program = build(folder / "alone", "-x", "c", "/dev/null", "-shared", triple=MACOS)
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    system = tmp_path / "usr" / "lib" / "libSystem.B.dylib"
    system.write_bytes(program.read_bytes())
    loaded = darwin_dependencies(program.read_bytes(), str(program), Root(str(tmp_path)), "x86_64")
    assert [file.real for file in loaded.files] == [str(system)]
    assert loaded.system == ()
