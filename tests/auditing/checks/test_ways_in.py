"""Ways in that no code names: constructors, initial data of threads, personality routines, nameless pointers."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.build_binaries import ZIG
from helpers.paths import PROGRAMS
from helpers.requirements import unavailable

import cpufeat
from cpufeat.auditing.formats.loader import images
from cpufeat.auditing.report import AT_LOAD, CHECKED, UNCHECKED

if TYPE_CHECKING:
    from pathlib import Path

    from cpufeat import Audit
    from cpufeat.auditing.formats.image import Section

SOURCES = PROGRAMS / "ways_in"
SOURCE = SOURCES / "elf.c"
WORDS = {"load": AT_LOAD, "bare": UNCHECKED, "checked": CHECKED}
CASE = re.compile(rf"_?(({'|'.join(WORDS)})_\w+)")
GCC = ("gcc", "-O2")
ARM = (*ZIG, "cc", "-target", "aarch64-linux-gnu", "-mcpu=baseline", "-O2", "-fno-sanitize=all")
BUILDS = {
    "library": (*GCC, "-shared", "-fPIC"),
    "program": (*GCC, "-DPROGRAM", "-pie", "-fPIE"),
    "fixed program": (*GCC, "-DPROGRAM", "-no-pie", "-fno-pie"),
    "object": (*GCC, "-c"),
    "library for Arm": (*ARM, "-shared", "-fPIC"),
    "program for Arm": (*ARM, "-DPROGRAM"),
    "object for Arm": (*ARM, "-c"),
}
MACHO, PE = SOURCES / "macho.c", SOURCES / "pe.c"
OTHERS = {
    "Mach-O object": (MACHO, "x86_64-macos", "-mcpu=baseline", "-c"),
    "Mach-O library": (MACHO, "x86_64-macos", "-mcpu=baseline", "-dynamiclib"),
    "Mach-O object for Arm": (MACHO, "aarch64-macos", "-c"),
    "Mach-O library for Arm": (MACHO, "aarch64-macos", "-dynamiclib"),
    "COFF object": (PE, "x86_64-windows-gnu", "-mcpu=baseline", "-c"),
    "COFF object for Arm": (PE, "aarch64-windows-gnu", "-mcpu=baseline", "-c"),
}
WAYS_OF_PROGRAMS = (1, 2, 3, 4, 5, 6, 8, 9)
"""All but the personality routine, which only a thrown exception calls."""
NAMELESS = ("bare_nameless",)
"""Without symbols, nothing tells that an object ends before a pointer."""


def built(folder: Path, build: str) -> Path:
    command = BUILDS[build]
    if not shutil.which(command[0]):
        unavailable(command[0], "apt-get install gcc")
    subprocess.run([*command, "-g0", str(SOURCE), "-o", str(folder / "built")], check=True)
    return folder / "built"


def names(path: Path) -> dict[int, str]:
    """The names of the cases, by address; of two names for one function, that of the case."""
    (image,) = images(path)
    matches = [(symbol.address, CASE.fullmatch(symbol.name)) for symbol in image.symbols]
    return {address: match[1] for address, match in matches if match}


def words(audit: Audit, names: dict[int, str]) -> dict[str, str]:
    """How each case is reached, by its name."""
    return {names[function.start]: function.reached for function in audit.functions if function.start in names}


def expected(names: dict[int, str]) -> dict[str, str]:
    return {name: WORDS[name.partition("_")[0]] for name in names.values()}


@pytest.mark.parametrize("build", BUILDS)
def test_what_the_loader_or_unwinder_comes_to_is_bare(build: str, tmp_path: Path) -> None:
    path = built(tmp_path, build)
    cases = names(path)
    assert {"load_initialiser", "load_called", "bare_finaliser", "bare_thread", "bare_personality"} <= {*cases.values()}
    audit = cpufeat.audit(path)
    assert words(audit, cases) == expected(cases)
    why = {cases.get(function.start): function.why for function in audit.functions}
    assert {name: why[name] for name in REASONS} == REASONS


REASONS = {
    "load_initialiser": "called by the loader",
    "bare_thread": "in the initial data of threads",
    "bare_personality": "called when an exception is thrown",
}


@pytest.mark.parametrize("build", ["library", "program", "fixed program", "library for Arm"])
def test_a_file_without_symbols_or_section_headers_gets_the_same_answers(build: str, tmp_path: Path) -> None:
    path = built(tmp_path, build)
    cases = {address: name for address, name in names(path).items() if name not in NAMELESS}
    strip = shutil.which("llvm-strip") or unavailable("llvm-strip", "apt-get install llvm")
    subprocess.run([strip, "-s", str(path)], check=True)
    assert words(cpufeat.audit(path), cases) == expected(cases), "without symbols"
    assert words(cpufeat.audit(without_section_headers(path.read_bytes())), cases) == expected(cases)


@pytest.mark.parametrize("build", OTHERS)
def test_other_formats_have_ways_in_of_their_own(build: str, tmp_path: Path) -> None:
    source, target, *options = OTHERS[build]
    path = tmp_path / "built"
    command = [*ZIG, "cc", "-target", target, "-O2", "-g0", "-fno-sanitize=all", *options]
    subprocess.run([*command, str(source), "-o", str(path)], check=True)
    cases = names(path)
    assert words(cpufeat.audit(path), cases) == expected(cases)


@pytest.mark.parametrize("options", [("-shared",), ("-DPROGRAM",)], ids=["DLL", "program"])
def test_what_windows_and_its_run_time_call_is_bare(options: tuple[str, ...], tmp_path: Path) -> None:
    """Linked files have no names: each function is told by the number in it."""
    path = tmp_path / "built"
    command = [
        *ZIG,
        "cc",
        "-target",
        "x86_64-windows-gnu",
        "-mcpu=baseline",
        "-O2",
        "-g0",
        "-fno-sanitize=all",
        *options,
    ]
    subprocess.run([*command, str(PE), "-o", str(path)], check=True)
    (image,) = images(path)
    reached = {function.start: function.reached for function in cpufeat.audit(path).functions}
    for number, name in enumerate(re.findall(r"^NEEDS\((\w+)\)$", PE.read_text(), re.M)):
        places = [section.address + at for section in image.sections if (at := find(section, number)) >= 0]
        function = image.function_at(*places)
        assert function, name
        assert (reached[function.start] == CHECKED) == name.startswith("checked"), name
        assert (reached[function.start] == AT_LOAD) == (name == "load_callback"), name


def find(section: Section, number: int) -> int:
    return bytes(section.content).find(struct.pack("<I", 0x5A5A0000 + number)) if section.executable else -1


def without_section_headers(content: bytes) -> bytes:
    changed = bytearray(content)
    struct.pack_into("<Q", changed, 40, 0)  # e_shoff
    struct.pack_into("<2H", changed, 60, 0, 0)  # e_shnum, e_shstrndx
    return bytes(changed)


@pytest.mark.parametrize("way", WAYS_OF_PROGRAMS)
def test_each_way_in_kills_a_program_on_a_cpu_without_the_feature(way: int, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-x86_64") or unavailable("qemu-x86_64", "apt-get install qemu-user")
    only = tmp_path / "only"
    subprocess.run([*GCC, "-DPROGRAM", f"-DONLY={way}", str(SOURCE), "-o", str(only)], check=True)
    run = subprocess.run([emulator, "-cpu", "Nehalem", str(only)], check=False, capture_output=True)
    assert b"Illegal instruction" in run.stderr
