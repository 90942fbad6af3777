"""The DLLs that PE files load: those beside the program, those of Windows, and those that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build

from cpufeat import check
from cpufeat.running.dependencies.root import Root
from cpufeat.running.dependencies.windows import windows_dependencies
from cpufeat.support.verdict import CANNOT_TELL, MAY_NOT_RUN, RUNS

if TYPE_CHECKING:
    from pathlib import Path

USES = "__declspec(dllimport) int foo(void); int main(void) { return foo(); }"
FOO = "__declspec(dllexport) int foo(void) { INSTRUCTION return 0; }"
AVX2 = '__asm__ volatile("vpabsb %ymm0, %ymm0");'


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for Windows, and its DLL in another folder."""
    folder = tmp_path_factory.mktemp("windows")
    for name, code in (
        ("uses.c", USES),
        ("foo.c", FOO.replace("INSTRUCTION", AVX2)),
        ("plain.c", FOO.replace("INSTRUCTION", "")),
    ):
        (folder / name).write_text(code)
    (folder / "plain").mkdir()
    options = ("-shared", f"-Wl,--out-implib={folder / 'foo.lib'}")
    build(folder / "plain" / "FOO.dll", folder / "plain.c", *options, triple="x86_64-windows-gnu")
    build(folder / "foo.dll", folder / "foo.c", *options, triple="x86_64-windows-gnu")
    return build(folder / "uses.exe", folder / "uses.c", folder / "foo.lib", triple="x86_64-windows-gnu")


def test_a_dll_beside_the_program_is_judged_and_those_of_windows_are_named(program: Path) -> None:
    answer = check(program, "nehalem")
    assert answer.verdict == MAY_NOT_RUN
    assert [(library.file, library.verdict) for library in answer.libraries or ()] == [
        (str(program.parent / "foo.dll"), MAY_NOT_RUN)
    ]
    assert "KERNEL32.dll" in answer.system_libraries
    assert check(program, "haswell").verdict == RUNS


def test_a_dll_is_found_in_any_case_and_a_missing_one_is_named(program: Path, tmp_path: Path) -> None:
    moved = tmp_path / "uses.exe"
    moved.write_bytes(program.read_bytes())
    answer = check(moved, "nehalem")
    assert answer.verdict == CANNOT_TELL
    assert answer.reasons == ("foo.dll: cannot tell",)
    (missing,) = answer.libraries or ()
    assert (missing.file, missing.reasons) == ("foo.dll", (f"it was not found; searched: {tmp_path}",))
    (tmp_path / "FOO.DLL").write_bytes((program.parent / "plain" / "FOO.dll").read_bytes())
    assert check(moved, "nehalem").verdict == RUNS


def test_the_folder_of_the_system_is_searched_in_a_root(program: Path, tmp_path: Path) -> None:
    system = tmp_path / "Windows" / "System32"
    system.mkdir(parents=True)
    (system / "kernel32.dll").write_bytes((program.parent / "plain" / "FOO.dll").read_bytes())
    loaded = windows_dependencies(program.read_bytes(), str(program), Root(str(tmp_path)))
    assert str(system / "kernel32.dll") in [file.real for file in loaded.files]
    assert "KERNEL32.dll" not in loaded.system
