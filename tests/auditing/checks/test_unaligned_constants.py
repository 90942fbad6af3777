"""The seed of it all (https://github.com/wasmerio/wasmer/issues/5496): 16-byte constants that linking left unaligned.

Code for plain x86-64 faults, the same code for AVX works, and the audit says which instruction it will be and why,
without running it. No emulator is asked: it may not check alignment.
"""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers.requirements import tool

import cpufeat
from cpufeat import ArtifactError, Target, aot

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
define <4 x i32> @mix(<4 x i32> %a) noinline {
  %r = xor <4 x i32> %a, <i32 1, i32 20, i32 300, i32 4000>
  ret <4 x i32> %r
}
@input = global <4 x i32> zeroinitializer
define i32 @main() {
  %a = load volatile <4 x i32>, ptr @input
  %r = call <4 x i32> @mix(<4 x i32> %a)
  %e = extractelement <4 x i32> %r, i32 1
  ret i32 %e
}
"""
SCRIPT = "SECTIONS { .constants ALIGN(16) : SUBALIGN(8) { QUAD(0) *(.rodata.cst16) } } INSERT AFTER .text;"
RIGHT = 20


def linked_past_cpufeat(artifact: aot.Artifact, folder: Path) -> Path:
    """Link with a script that drops the alignment of constants."""
    compiler = tool("cc")
    script, code, program = folder / "script", folder / "module.o", folder / "program"
    script.write_text(SCRIPT)
    artifact.save(code)
    subprocess.run([compiler, str(code), "-o", str(program), f"-Wl,-T,{script}"], check=True)
    return program


def objdump(option: str, program: Path) -> list[str]:
    command = [tool("objdump"), option, str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def run(program: Path) -> int:
    return subprocess.run([str(program)], check=False).returncode


def test_plain_code_faults_and_the_audit_says_where(tmp_path: Path) -> None:
    program = linked_past_cpufeat(aot.compile(MODULE, Target.parse("x86-64")), tmp_path)
    assert run(program) == -signal.SIGSEGV
    (fault,) = (fault for fault in cpufeat.audit(program).misaligned if fault.function == "mix")
    assert fault.instruction.startswith("xorps ")
    assert (fault.needs, fault.has) == (16, 8)
    assert ".constants" in fault.symbol
    start = next(int(line.split()[3], 16) for line in objdump("-h", program) if " .constants" in line)
    assert fault.operand == start + 8
    line = next(line for line in objdump("-d", program) if line.startswith(f"{fault.address:8x}:"))
    assert "xorps" in line


def test_the_same_code_compiled_for_avx_runs(tmp_path: Path) -> None:
    target = Target.parse("x86-64,+avx")
    if not target.runs_on(cpufeat.detect()):
        pytest.skip("needs a CPU with AVX: qemu-user cannot emulate faults of alignment")
    program = linked_past_cpufeat(aot.compile(MODULE, target), tmp_path)
    assert run(program) == RIGHT
    assert [fault for fault in cpufeat.audit(program).misaligned if fault.function == "mix"] == []


def test_linking_with_cpufeat_keeps_or_checks_the_alignment(tmp_path: Path) -> None:
    artifact = aot.compile(MODULE, Target.parse("x86-64"))
    artifact.link(tmp_path / "program")
    assert run(tmp_path / "program") == RIGHT
    assert cpufeat.audit(tmp_path / "program").misaligned == ()
    (tmp_path / "script").write_text(SCRIPT)
    with pytest.raises(ArtifactError, match=r"lost an alignment: section \.rodata\.cst16"):
        artifact.link(tmp_path / "other", arguments=[f"-Wl,-T,{tmp_path / 'script'}"])
    assert not (tmp_path / "other").exists()
