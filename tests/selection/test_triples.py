"""Triples as people write them, against clang's own answer."""

from __future__ import annotations

import subprocess
import sys

import pytest
from llvmlite import binding

from cpufeat import Target, aot, llvm_tables
from cpufeat.errors import UnknownNameError
from cpufeat.levels import baseline
from cpufeat.tables import of_triple
from cpufeat.triples import normalized

WRITTEN = """
x86_64-linux-gnu x86_64-linux-gnux32 x86_64-linux-gnu2.28 x86_64-linux x86_64-redhat-linux x86_64-alpine-linux-musl
x86_64--linux-gnu x86_64-gnu-linux x86_64-linux-pc i386-linux-gnu i586-suse-linux i686-pc-hurd-gnu
x86_64-windows-gnu x86_64-windows-msvc x86_64-windows x86_64-pc-windows-msvc19.33 x86_64-windows-elf
x86_64-w64-mingw32 x86_64-mingw32-elf i686-w64-windows-gnu x86_64-pc-win32 x86_64-win32-gnu aarch64-windows-msvc-coff
i686-cygwin i686-pc-cygwin
x86_64-macos arm64-apple-macos aarch64-macos14 arm64-macosx14.0 x86_64-apple-darwin22.1.0 x86_64-apple-ios-macabi
arm64-apple-ios17.0-simulator
x86_64-freebsd13 amd64-unknown-freebsd14.1 x86_64-openbsd7.4 x86_64-netbsd x86_64-dragonfly x86_64-solaris2.11
x86_64-haiku x86_64-fuchsia x86_64-uefi
aarch64-linux-android24 arm-linux-androideabi arm-linux-androideabi21 armv7-none-linux-androideabi24 aarch64-linux-ohos
armv7-linux-gnueabihf armv7hl-suse-linux-gnueabi armv6-linux-musleabihf armv7l-unknown-linux-gnueabihf aarch64-oe-linux
powerpc64le-linux-gnu ppc64le-redhat-linux powerpc64-ibm-aix7.2 s390x-linux-gnu s390x-ibm-linux s390x-ibm-zos
riscv64-linux-musl riscv64-unknown-linux-gnu riscv32-unknown-elf riscv64-none-elf loongarch64-linux-gnu
x86_64 x86_64-unknown x86_64-elf x86_64-none-elf aarch64-none-elf arm-none-eabi armv7m-none-eabihf
aarch64-none-linux-gnu x86_64-linux-gnu-elf x86_64-linux-gnu-macho
x86_64-foo x86_64-foo-bar x86_64-foo-linux-gnu x86_64-Linux-gnu
"""
ARCHITECTURES = """
x86_64 amd64 i386 i486 i586 i686 aarch64 arm64 arm armv5te armv6 armv6k armv6hl armv7 armv7a armv7hl armv7l armv8 armv8a
armv8l powerpc64 ppc64 powerpc64le ppc64le s390x systemz riscv32 riscv64 loongarch64
"""


@pytest.mark.parametrize("triple", WRITTEN.split())
def test_a_triple_is_normalized_as_by_clang(triple: str) -> None:
    ask = [sys.executable, "-m", "ziglang", "clang", "-target", triple, "-print-target-triple"]
    theirs = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    assert normalized(triple) == theirs
    assert normalized(theirs) == theirs


@pytest.mark.parametrize(
    ("triple", "magic"),
    [
        ("x86_64-windows-gnu", b"\x64\x86"),
        ("i686-windows-msvc", b"\x4c\x01"),
        ("x86_64-w64-mingw32", b"\x64\x86"),
        ("aarch64-macos14", b"\xcf\xfa\xed\xfe"),
        ("i386-linux-gnu", b"\x7fELF\x01"),
        ("amd64-freebsd14.1", b"\x7fELF\x02"),
        ("armv7a-linux-androideabi21", b"\x7fELF\x01"),
        ("powerpc64le-linux-gnu", b"\x7fELF\x02\x01"),
        ("powerpc64-linux-gnu", b"\x7fELF\x02\x02"),
        ("s390x-linux-gnu", b"\x7fELF\x02\x02"),
        ("riscv64-linux-musl", b"\x7fELF\x02\x01"),
    ],
)
def test_code_is_in_the_systems_format(triple: str, magic: bytes) -> None:
    for target in (made := Target.parse(baseline(of_triple(triple)), triple), made.replace(triple=triple)):
        assert target.triple == normalized(triple) != triple
        assert aot.compile("define i32 @f() { ret i32 1 }", target).object.startswith(magic)


def test_two_spellings_are_one_target() -> None:
    first, other = (Target.parse("haswell", triple) for triple in ("x86_64-windows-gnu", "x86_64-unknown-windows-gnu"))
    assert first == other
    assert first & Target.parse("x86-64", "x86_64-w64-mingw32") == Target.parse("x86-64", other.triple)
    assert Target.from_json(first.to_json()) == other


@pytest.mark.parametrize("arch", ARCHITECTURES.split())
def test_llvm_takes_every_architecture_that_is_taken(arch: str) -> None:
    """What is taken, LLVM takes."""
    if arch.startswith("loongarch") and llvm_tables.installed() < 16:
        pytest.skip("LLVM before 16 has no LoongArch")
    binding.initialize_all_targets()
    target = Target.parse(baseline(of_triple(f"{arch}-linux")), f"{arch}-linux")
    assert target.create_target_machine().triple == f"{arch}-unknown-linux"


@pytest.mark.parametrize(
    "triple", ["", "linux-x86_64-gnu", "mips-linux-gnu", "x86-64-linux-gnu", "riscv64gc-linux-gnu"]
)
def test_an_unknown_architecture_raises(triple: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown architecture"):
        Target.parse("x86-64", triple)
