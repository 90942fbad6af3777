"""Check with what a program loads: the verdict is the worst, and each library has a line of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import build
from helpers.paths import MACHINES

from cpufeat import check, detect, verify
from cpufeat.cli import main
from cpufeat.cli.options import BAD, NO, OK, UNKNOWN
from cpufeat.detection.dumps import load
from cpufeat.detection.systems import ThisMachine
from cpufeat.running.verify import RIGHT
from cpufeat.support.verdict import CANNOT_TELL, MAY_NOT_RUN, RUNS, WILL_NOT_RUN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Build = Callable[..., Path]

pytestmark = pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the programs are x86-64's")

AVX2 = 'void NAME(void) { __asm__ volatile("vpabsb %ymm0, %ymm0"); }'
PLAIN = "void NAME(void) { }"
ASKS = """
void NAME(void) {
    unsigned a = 7, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (b & 32) __asm__ volatile("vpabsb %ymm0, %ymm0");
}
void other(void) { __asm__ volatile("vpabsb %ymm0, %ymm0"); }
"""
"""Checks the CPU in one function, and does not in another."""
USES = "void foo(void); void start(void) { foo(); for (;;); }"


@pytest.fixture
def built(tmp_path: Path, compiler: str) -> Build:
    """Build a library or a program without a C library in a root, whose loader is small: audits of glibc take long."""

    def build(output: str, code: str, *options: str | Path) -> Path:
        path, source = tmp_path / "root" / output, tmp_path / "source.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(code.replace("NAME", "foo"))
        is_library = ".so" in output
        kind = ("-shared", f"-Wl,-soname,{path.name}") if is_library else ("-pie", "-Wl,-e,start,-I,/lib/loader.so")
        command = [compiler, "-O1", "-fPIC", "-nostdlib", source, "-o", path, *kind, *options]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return path

    return build


@pytest.fixture
def root(tmp_path: Path, built: Build) -> Path:
    built("lib/loader.so", PLAIN)
    return tmp_path / "root"


def test_a_program_is_as_bad_as_the_worst_of_what_it_loads(built: Build, root: Path) -> None:
    foo = built("lib/libfoo.so", AVX2)
    program = built("bin/uses", USES, foo)
    answer = check(program, "nehalem", root=root)
    assert answer.verdict == MAY_NOT_RUN
    assert answer.reasons == ("libfoo.so: may not run",)
    assert [(library.file, library.verdict) for library in answer.libraries or ()] == [
        ("/lib/libfoo.so", MAY_NOT_RUN),
        ("/lib/loader.so", RUNS),
    ]
    assert [lack.feature for lack in (answer.libraries or ())[0].lacks] == ["avx2"]
    assert (answer.lacks, answer.rebuild) == ((), ())
    assert check(program, "haswell", root=root).verdict == RUNS


def test_the_file_alone_is_judged_if_that_is_asked_for_and_the_page_says_so(
    built: Build, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = built("bin/uses", USES, built("lib/libfoo.so", AVX2))
    answer = check(program, "nehalem", libraries=False)
    assert (answer.verdict, answer.libraries) == (RUNS, None)
    assert main(["check", "--cpu", "nehalem", "--no-libraries", str(program)]) == OK
    assert "this file alone: what it loads was not looked at" in " ".join(capfd.readouterr().out.split())


def test_a_library_that_is_not_found_is_named_with_where_it_was_searched_for(
    built: Build, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    foo = built("lib/libfoo.so", PLAIN)
    program = built("bin/uses", USES, foo, "-Wl,-rpath,/opt/foo")
    foo.unlink()
    assert main(["check", "--cpu", "nehalem", "--root", str(root), str(program)]) == UNKNOWN
    said = " ".join(capfd.readouterr().out.split())
    assert "cannot tell whether it runs on nehalem: libfoo.so: cannot tell" in said
    assert "libfoo.so: cannot tell: it was not found; searched: /opt/foo, /etc/ld.so.cache, /lib, /usr/lib" in said


def test_the_variant_that_the_cpu_gets_is_the_one_that_is_judged(built: Build, root: Path) -> None:
    """The library that older CPUs get is fine, and so is the other one on the CPUs that get that."""
    foo = built("lib/libfoo.so", PLAIN)
    built("lib/glibc-hwcaps/x86-64-v3/libfoo.so", AVX2)
    program = built("bin/uses", USES, foo)
    chosen = {cpu: check(program, cpu, root=root) for cpu in ("nehalem", "haswell")}
    assert [answer.verdict for answer in chosen.values()] == [RUNS, RUNS]
    assert (chosen["haswell"].libraries or ())[0].file == "/lib/glibc-hwcaps/x86-64-v3/libfoo.so"
    assert (chosen["nehalem"].libraries or ())[0].file == "/lib/libfoo.so"
    built("lib/glibc-hwcaps/x86-64-v2/libfoo.so", AVX2)
    assert check(program, "nehalem", root=root).verdict == MAY_NOT_RUN


@pytest.mark.parametrize(
    ("called", "verdict"), [("foo", RUNS), ("other", MAY_NOT_RUN), ('dlsym(0, "other")', MAY_NOT_RUN)]
)
def test_exports_that_no_file_of_the_program_uses_are_not_reached(
    built: Build, root: Path, called: str, verdict: str
) -> None:
    foo = built("lib/libfoo.so", ASKS + "void *dlsym(void *a, const char *b) { return 0; }")
    call = called if "(" in called else f"{called}()"
    code = (
        f"void foo(void); void other(void); void *dlsym(void *, const char *); void start(void) {{ {call}; for (;;); }}"
    )
    answer = check(built("bin/uses", code, foo), "nehalem", root=root)
    assert answer.verdict == verdict
    assert check(foo, "nehalem", root=root).verdict == MAY_NOT_RUN  # here all that it exports counts


def test_the_library_path_counts_only_where_this_machine_is_asked(
    built: Build, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foo = built("lib/libfoo.so", PLAIN)
    program = built("bin/uses", USES, foo)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(root / "lib"))
    monkeypatch.delenv("CPUFEAT_MACHINE", raising=False)

    def found(*on: str) -> bool:
        return any(library.file == str(foo) for library in check(program, *on).libraries or ())

    assert found()
    assert not found("nehalem")


def test_a_library_that_cannot_be_read_is_not_fine(built: Build, root: Path) -> None:
    foo = built("lib/libfoo.so", PLAIN)
    program = built("bin/uses", USES, foo)
    foo.write_bytes(foo.read_bytes()[:80])
    answer = check(program, "nehalem", root=root)
    assert answer.verdict == CANNOT_TELL
    assert "damaged" in " ".join(reason for library in answer.libraries or () for reason in library.reasons)


def test_progress_is_told_for_each_file(built: Build, root: Path) -> None:
    told: list[tuple[int, int]] = []
    program = built("bin/uses", USES, built("lib/libfoo.so", AVX2 + "int more(int a) { return a * 3; }"))
    check(program, "nehalem", root=root, progress=lambda done, total: told.append((done, total)))
    assert len(told) >= 3
    assert all(done == total > 0 for done, total in told)


def test_json_has_the_check_of_each_library(built: Build, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = built("bin/uses", USES, built("lib/libfoo.so", AVX2))
    assert main(["check", "--json", "--cpu", "nehalem", "--root", str(root), str(program)]) == NO
    answer = json.loads(capfd.readouterr().out)
    assert [(library["file"], library["verdict"]) for library in answer["libraries"]] == [
        ("/lib/libfoo.so", "may not run"),
        ("/lib/loader.so", "runs"),
    ]
    assert answer["libraries"][0]["lacks"][0]["function"] == "foo"
    assert answer["libraries"][0]["libraries"] is None


def test_a_program_of_this_system_runs_here_and_on_the_oldest_cpu(qemu: str) -> None:
    """With glibc, its loader and whatever else it loads: what everybody tries first. qemu says who is right."""
    program = shutil.which("ls") or "/bin/ls"
    assert check(program).verdict == RUNS
    assert check(program, "x86-64").verdict == RUNS
    assert [run.result for run in verify(program, ["Opteron_G1"])] == [RIGHT]
    assert any(library.file.endswith("/libc.so.6") for library in check(program, "x86-64").libraries or ())


def test_what_another_system_would_load_is_not_searched_for(built: Build, root: Path) -> None:
    mac = detect(load(str(MACHINES / "qemu-haswell.json"))[1]).replace(system="darwin")
    answer = check(built("bin/uses", USES, built("lib/libfoo.so", PLAIN)), mac, root=root)
    assert (answer.verdict, answer.libraries) == (WILL_NOT_RUN, None)


def test_programs_of_other_architectures_are_not_said_to_run_without_their_libraries(tmp_path: Path) -> None:
    source = tmp_path / "source.c"
    source.write_text("int main(void) { return 0; }")
    program = build(tmp_path / "program", source, triple="aarch64-linux-gnu")
    answer = check(program, "armv8-a", root=tmp_path)
    assert answer.verdict == CANNOT_TELL
    assert "ld-linux-aarch64.so.1: cannot tell" in answer.reasons


def test_a_root_that_is_not_there_is_bad_input(built: Build, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = built("bin/uses", USES, built("lib/libfoo.so", PLAIN))
    assert main(["check", "--root", str(root / "missing"), str(program)]) == BAD
    assert "missing" in capfd.readouterr().err
