"""The cache of glibc's loader, against what ldconfig prints of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.requirements import unavailable

from cpufeat import Target
from cpufeat.detection.systems import ThisMachine
from cpufeat.running.dependencies.elf_closure import elf_dependencies
from cpufeat.running.dependencies.glibc_cache import Cached, configured_folders, read_cache
from cpufeat.running.dependencies.root import Root


def ldconfig() -> str:
    return shutil.which("ldconfig", path="/sbin:/usr/sbin") or unavailable("ldconfig", "apt-get install libc-bin")


def printed(cache: Path) -> set[tuple[str, str]]:
    listing = subprocess.run([ldconfig(), "-p", "-C", cache], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^\t(\S+) \(.*\) => (\S+)$", listing, re.M))


def entries(cache: Path) -> set[tuple[str, str]]:
    return {(name, cached.path) for name, row in read_cache(cache.read_bytes()).items() for cached in row}


def test_the_cache_of_this_system_has_what_ldconfig_prints() -> None:
    cache = Path("/etc/ld.so.cache")
    if not cache.is_file():
        unavailable("/etc/ld.so.cache", "ldconfig")
    assert entries(cache) == printed(cache)
    assert len(entries(cache)) > 10


def test_libraries_in_subfolders_for_levels_are_told_apart(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "foo.c"
    source.write_text("int foo(void) { return 0; }")
    for folder in ("lib", "lib/glibc-hwcaps/x86-64-v3"):
        (tmp_path / folder).mkdir(parents=True)
        command: list[str | Path] = [
            compiler,
            "-shared",
            "-fPIC",
            "-Wl,-soname,libfoo.so.1",
            source,
            "-o",
            f"{folder}/libfoo.so.1",
        ]
        subprocess.run(command, cwd=tmp_path, check=True)
    cache, configuration = tmp_path / "cache", tmp_path / "conf"
    configuration.write_text(f"{tmp_path / 'lib'}\n")
    subprocess.run([ldconfig(), "-X", "-C", cache, "-f", configuration], check=True, capture_output=True)
    assert entries(cache) == printed(cache)
    own = [cached for cached in read_cache(cache.read_bytes())["libfoo.so.1"] if str(tmp_path) in cached.path]
    assert sorted(own) == [
        Cached(str(tmp_path / "lib" / "glibc-hwcaps" / "x86-64-v3" / "libfoo.so.1"), "x86-64-v3"),
        Cached(str(tmp_path / "lib" / "libfoo.so.1"), ""),
    ]


def test_a_damaged_cache_has_no_libraries(tmp_path: Path) -> None:
    content = Path("/etc/ld.so.cache").read_bytes() if Path("/etc/ld.so.cache").is_file() else b"glibc-ld.so.cache1.1"
    for size in (0, 19, 47, 60, len(content) // 2):
        assert read_cache(content[:size]) == {} or size > 47
    assert read_cache(b"no cache at all") == {}


def test_the_configuration_may_include_itself_without_end(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld.so.conf").write_text("/a /b:/c\ninclude ld.so.conf\nhwcap 0 nosegneg\n/d=libc5\n")
    assert configured_folders(Root(str(tmp_path))) == ["/a", "/b", "/c", "/d"]


@pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the program is x86-64's")
def test_the_cache_of_a_root_gives_each_cpu_the_library_of_its_level(tmp_path: Path, compiler: str) -> None:
    """As ld.so(8): the best of the subfolders of glibc-hwcaps that the CPU can run, before the folder itself."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld.so.conf").write_text("/opt/lib\n")
    source = tmp_path / "source.c"
    source.write_text("int foo(void) { return 0; }")
    for folder in ("opt/lib", "opt/lib/glibc-hwcaps/x86-64-v2", "opt/lib/glibc-hwcaps/x86-64-v3"):
        (tmp_path / folder).mkdir(parents=True)
        path = tmp_path / folder / "libfoo.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-soname,libfoo.so.1", source, "-o", path], check=True)
    source.write_text("int foo(void); int main(void) { return foo(); }")
    program = tmp_path / "program"
    subprocess.run([compiler, source, tmp_path / "opt/lib/libfoo.so.1", "-o", program], check=True)
    subprocess.run([ldconfig(), "-r", tmp_path, "-X"], check=True, capture_output=True)

    def chosen(level: str) -> list[str]:
        available = Target.parse(level).features
        loaded = elf_dependencies(program.read_bytes(), str(program), Root(str(tmp_path)), available)
        return [file.path for file in loaded.files if file.name == "libfoo.so.1"]

    assert chosen("x86-64") == ["/opt/lib/libfoo.so.1"]
    assert chosen("x86-64-v2") == ["/opt/lib/glibc-hwcaps/x86-64-v2/libfoo.so.1"]
    assert chosen("haswell") == chosen("x86-64-v4") == ["/opt/lib/glibc-hwcaps/x86-64-v3/libfoo.so.1"]
    assert chosen("haswell,-fma") == ["/opt/lib/glibc-hwcaps/x86-64-v2/libfoo.so.1"]
