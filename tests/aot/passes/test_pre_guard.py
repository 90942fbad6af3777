"""What runs before the guard: on an emulated CPU without what the rest of the program was compiled for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.llvm_workers import use_llvm_of
from helpers.qemu import run

from cpufeat import Target, aot
from cpufeat.detection.systems import ThisMachine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(ThisMachine().arch != "x86_64", reason="the programs are x86-64's")

V3 = Target.parse("x86-64-v3")
WORK = """
@data = global [16 x float] zeroinitializer
declare i32 @putchar(i32)
define internal void @work() noinline {
  %p = bitcast [16 x float]* @data to <16 x float>*
  %v = load volatile <16 x float>, <16 x float>* %p, align 4
  %w = fmul <16 x float> %v, %v
  store volatile <16 x float> %w, <16 x float>* %p, align 4
  ret void
}
define internal void @early() {
  call void @work()
  ret void
}
"""
NO_MORE = "define i32 @main() {\n  ret i32 3\n}"
MORE = "define i32 @main() {\n  call void @late()\n  ret i32 3\n}"
LATE = WORK[WORK.index("define") : WORK.index("define internal void @early")].replace("@work", "@late")
WAYS = {
    "resolver": """
        @own = ifunc i32 (i32), i32 (i32)* ()* @resolve
        define internal i32 (i32)* @resolve() {
          call void @work()
          ret i32 (i32)* @putchar
        }""",
    "first constructor": """
        @llvm.global_ctors = appending global [1 x { i32, void ()*, i8* }] [
          { i32, void ()*, i8* } { i32 0, void ()* @early, i8* null }]""",
    "preinit": """
        @list = internal global void ()* @early, section ".preinit_array", align 8
        @llvm.used = appending global [1 x i8*] [i8* bitcast (void ()** @list to i8*)], section "llvm.metadata\"""",
}


@pytest.mark.parametrize("linking", [(), ("-static",)], ids=["", "static"])
@pytest.mark.parametrize("way", WAYS)
def test_code_that_runs_before_the_guard_runs_on_every_cpu(
    qemu: str, tmp_path: Path, way: str, linking: tuple[str, ...]
) -> None:
    for main, status in ((NO_MORE, 3), (MORE + LATE, 126)):
        module = "\n".join((WORK, WAYS[way], main))
        aot.compile(module, V3).link(tmp_path / "program", arguments=linking)
        assert run(qemu, "Haswell", [str(tmp_path / "program")]).returncode == 3
        ended = run(qemu, "Nehalem", [str(tmp_path / "program")])
        assert (ended.returncode, "this CPU lacks: avx" in ended.stderr) == (status, status == 126)


@pytest.mark.parametrize("way", WAYS)
def test_every_llvm_compiles_early_code_for_the_baseline(
    llvm_python: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    use_llvm_of(llvm_python, monkeypatch)
    (variant,) = aot.compile("\n".join((WORK, WAYS[way], NO_MORE)), V3).variants
    assert not variant.used
    (variant,) = aot.compile("\n".join((WORK, WAYS[way], MORE + LATE)), V3).variants
    assert variant.used
    assert "avx" in variant.used


def test_code_that_runs_after_the_guard_is_for_the_target() -> None:
    """Constructors after the guard's, and functions that a resolver only hands out."""
    others = """
        @llvm.global_ctors = appending global [1 x { i32, void ()*, i8* }] [
          { i32, void ()*, i8* } { i32 1, void ()* @early, i8* null }]"""
    handed_out = "@own = ifunc void (), void ()* ()* @resolve\ndefine void ()* @resolve() { ret void ()* @work }"
    for way in (others, handed_out):
        (variant,) = aot.compile("\n".join((WORK, way, NO_MORE)), V3).variants
        assert variant.used
        assert "avx" in variant.used
