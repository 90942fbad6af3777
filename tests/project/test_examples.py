"""Each example does what it says, on this machine and on emulated CPUs with fewer features."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.environment import ENVIRONMENT
from helpers.paths import PROJECT
from helpers.qemu import run

import cpufeat

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = PROJECT / "examples"
SUM = str(sum(number * number for number in range(1000)))
"""The result of compile_for_host.py."""
SQUARES = """
define void @squares(<16 x i32>* %p) {
  %a = load <16 x i32>, <16 x i32>* %p
  %r = mul <16 x i32> %a, %a
  store <16 x i32> %r, <16 x i32>* %p
  ret void
}
"""


def command(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]


def here(name: str, *arguments: str | Path) -> str:
    process = subprocess.run(command(name, *arguments), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("request_", [(), ("x86-64",), ("native-avx",)])
def test_compile_for_host_computes_the_sum_for_each_request(request_: tuple[str, ...]) -> None:
    assert here("compile_for_host.py", *request_).startswith(f"{SUM}, by code for ")


def test_compile_for_host_compiles_for_an_emulated_cpu(qemu: str) -> None:
    process = run(qemu, "Nehalem", command("compile_for_host.py"), ENVIRONMENT)
    assert process.stdout == f"{SUM}, by code for nehalem at x86-64-v2\n", process.stderr


def test_ship_levels_picks_the_best_object_and_says_what_better_ones_lack(tmp_path: Path, qemu: str) -> None:
    module = tmp_path / "module.ll"
    module.write_text(SQUARES)
    here("ship_levels.py", "build", tmp_path, module)
    assert here("ship_levels.py", "pick", tmp_path).endswith(f"{cpufeat.detect().level}.o\n")
    lines = run(qemu, "Nehalem", command("ship_levels.py", "pick", tmp_path), ENVIRONMENT).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["not x86-64-v4.o", "not x86-64-v3.o", "x86-64-v2.o"]
    assert "; avx2 is not reported (CPUID" in lines[1]


def test_explain_fallback_prints_each_dropped_feature(qemu: str) -> None:
    granted = here("explain_fallback.py", "x86-64,+popcnt")
    assert granted.startswith("x86-64,+popcnt: compiling for x86-64, ")
    lines = run(qemu, "Haswell", command("explain_fallback.py"), ENVIRONMENT).stdout.splitlines()
    assert lines[0].endswith(", level x86-64-v3")
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"  dropped {name}" for name in ("avx512f", "evex512", "avx512cd", "avx512bw", "avx512dq", "avx512vl")
    ]
