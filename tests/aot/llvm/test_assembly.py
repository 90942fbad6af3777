"""Assembly that reads files, in each way that LLVM has to spell it, and assembly that only looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.requirements import needs_opaque_pointers

from cpufeat import CompileError, Target, aot
from cpufeat.aot.llvm.assembly import may_read_files

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("llvmlite")
BASELINE = Target.parse("x86-64", "x86_64-unknown-linux-gnu")
CALL = "define void @f() {{ call void asm sideeffect {}\nret void }}\n@cbin = internal global i8 0"
SPELLINGS = {
    "module assembly": r'module asm ".incbin \22FILE\22"',
    "upper case": r'module asm ".INCBIN \22FILE\22"',
    "an escape": r'module asm "\2Eincbi\6E \22FILE\22"',
    "a comment and a string before": '@"asm" = global i8 0\nmodule ; it\'s "asm"\n asm ".incbin \\22FILE\\22"',
    "after a label": r'module asm "x: .incbin \22FILE\22"',
    "between quotes": r'module asm "\22.incbin\22 \22FILE\22"',
    "another file": r'module asm ".include \22FILE.s\22"',
    "a macro": r'module asm ".macro get a\0A.in\5Ca \22FILE\22\0A.endm\0Aget cbin"',
    "a loop": r'module asm ".irp a,cbin\0A.in\5Ca \22FILE\22\0A.endr"',
    "inline assembly": CALL.format(r'".pushsection .data\0A.incbin \22FILE\22\0A.popsection", ""()'),
    "an operand": CALL.format(r'".pushsection .data\0A.in${0:P} \22FILE\22\0A.popsection", "i"(ptr @cbin)'),
}
HARMLESS = [
    'define void @f() { call void asm sideeffect "nop", ""()\nret void }',
    'call i64 asm "movq %fs:${1:P}, $0", "=r,i"(ptr @x)',
    'call void asm sideeffect "mov $$5, $0; lea 4($1), $0", "r,r"(i64 1, i64 2)',
    'call void asm sideeffect ".L${:uid}_x: jmp .L${:uid}_x", ""()',
    r'module asm ".section .rodata\0A.ascii \22a\5Cn\22"',
    r'@s = constant [8 x i8] c".incbin\00"' + '\nmodule asm ".globl x"',
    "define void @asm_include() { ret void } ; .include",
]


@needs_opaque_pointers
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_module_that_reads_a_file_is_found_in_any_spelling(spelling: str, tmp_path: Path, monkeypatch) -> None:
    """LLVM does read the file, so that the object has its content, and that of the next one."""
    monkeypatch.setenv("CPUFEAT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "data"
    module = SPELLINGS[spelling].replace("FILE", str(file))
    for content in (b"OLDOLD01", b"NEWNEW02"):
        file.write_bytes(content)
        (tmp_path / "data.s").write_text(f'.ascii "{content.decode()}"\n')
        assert content in aot.compile(module, BASELINE).object
    assert may_read_files(module)
    with pytest.raises(
        CompileError, match=r"its assembly may read files \(\.incbin, \.include or macros\), and may not"
    ):
        aot.compile(module, BASELINE, files=False)


@pytest.mark.parametrize("module", HARMLESS)
def test_assembly_that_reads_nothing_is_not_suspected(module: str) -> None:
    assert not may_read_files(module)


def test_bitcode_that_reads_a_file_is_found(tmp_path: Path) -> None:
    from llvmlite import binding

    (tmp_path / "data").write_bytes(b"OLDOLD01")
    text = SPELLINGS["module assembly"].replace("FILE", str(tmp_path / "data"))
    bitcode = binding.parse_assembly(text).as_bitcode()
    assert b"OLDOLD01" in aot.compile(bitcode, BASELINE).object
    with pytest.raises(CompileError, match="its assembly may read files"):
        aot.compile(bitcode, BASELINE, files=False)
