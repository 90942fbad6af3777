"""Run emitted IR: in this process against any recorded machine, or compiled into a program."""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llvmlite import binding

from cpufeat.aot.llvm import llvmlite_setup
from cpufeat.aot.llvm.builder import Body
from cpufeat.aot.runtime.detection import feature_tests, usable
from cpufeat.aot.worker import codegen, pipeline
from cpufeat.errors import TargetError
from cpufeat.features import FeatureSet, table
from cpufeat.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cpufeat.detection.instructions import Registers
    from cpufeat.detection.machine import Machine

LINUX, LINUX_ON_ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
WITH_SUBLEAVES = (0x4, 0x7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1A, 0x1D, 0x1E, 0x1F, 0x20, 0x24)
OSXSAVE = 1 << 27
OF_XGETBV = (1, 0)
"""The leaf that says whether there is XGETBV: the function that executes it reads that by itself."""
X86_CODE, PICK = "@__cpufeat_run_cpuid", "@__cpufeat_pick"

_INSTRUCTIONS = """
declare void @asked_cpuid(i32, i32, i8*)
declare i64 @asked_xgetbv()
declare i64 @asked_permitted()
define internal i128 @__cpufeat_cpuid(i32 %leaf, i32 %subleaf) {
  %written = alloca i128, align 16
  %bytes = bitcast i128* %written to i8*
  call void @asked_cpuid(i32 %leaf, i32 %subleaf, i8* %bytes)
  %result = load i128, i128* %written, align 16
  ret i128 %result
}
define internal i64 @__cpufeat_xgetbv() {
  %result = call i64 @asked_xgetbv()
  ret i64 %result
}
define internal i64 @__cpufeat_permitted() {
  %result = call i64 @asked_permitted()
  ret i64 %result
}
"""
_FUNCTIONS = {
    "asked_cpuid": ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p),
    "asked_xgetbv": ctypes.CFUNCTYPE(ctypes.c_uint64),
    "asked_permitted": ctypes.CFUNCTYPE(ctypes.c_uint64),
    "getauxval": ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64),
    "elf_aux_info": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
    "sysctlbyname": ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
    ),
    "IsProcessorFeaturePresent": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int),
    "getenv": ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p),
}
_numbers = itertools.count()


def lowest(triple: str) -> Target:
    """A target of the baseline."""
    return Target.parse("armv8-a" if triple.startswith(("aarch64", "arm64")) else "x86-64", triple)


@functools.cache
def selectable_features(triple: str) -> list[str]:
    """The ISA features that can be tested at run time on a system, with all that they depend on."""
    arch, tests = lowest(triple).arch, feature_tests(lowest(triple))

    def is_testable(name: str) -> bool:
        try:
            usable(Body("f"), tests, FeatureSet(arch, [name]))
        except TargetError:
            return False
        return True

    return [name for name, row in table(arch).items() if row.kind == "isa" and is_testable(name)]


def features_text(triple: str) -> str:
    """Define ``void features(i8*)``: for each of :func:`selectable_features` a byte that says whether it is usable."""
    target = lowest(triple)
    tests, body, outer = feature_tests(target), Body("usable"), Body("features")
    stores = []
    for at, name in enumerate(selectable_features(triple)):
        bit = body.let(f"zext i1 {usable(body, tests, FeatureSet(target.arch, [name]))} to i8")
        stores.append(f"  store i8 {bit}, i8* {body.let(f'getelementptr i8, i8* %out, i64 {at}')}\n")
    parameters = ", ".join(["i8* %out", *(f"i64 %{word}" for word in tests.words)])
    arguments = ", ".join(filter(None, ["i8* %out", tests.arguments(outer)]))
    return f"""{tests.primitives()}{tests.helpers()}{body.constants()}
define internal void @usable({parameters}) {{
{body.instructions()}{"".join(stores)}  ret void
}}
define void @features(i8* %out) {{
{outer.instructions()}  call void @usable({arguments})
  ret void
}}
"""


class CompiledIR:
    """A module compiled into this process, whose questions to the machine go to :attr:`machine`."""

    def __init__(self, text: str, triple: str, *, asks_here: bool = False) -> None:
        """Compile a module; with ``asks_here`` it really asks this machine."""
        self.machine: Any = None
        self.cpu: int | None = None
        self.variables: dict[str, str] = {}
        self.read: list[tuple[int, int]] = []
        self._callbacks: list[Any] = []
        instructions = feature_tests(lowest(triple)).primitives()
        assert instructions in text
        if not asks_here:
            text = self._diverted(text.replace(instructions, _INSTRUCTIONS) if X86_CODE in instructions else text)
        llvmlite_setup.initialize()
        module = binding.parse_assembly(text.replace(f"define internal i32 {PICK}(", f"define i32 {PICK}("))
        module.verify()
        target = binding.Target.from_triple(binding.get_process_triple())
        self._engine = binding.create_mcjit_compiler(module, target.create_target_machine(opt=2))
        self._engine.finalize_object()

    def _diverted(self, text: str) -> str:
        """Let what is called be methods of this object."""
        number = next(_numbers)
        for name, prototype in _FUNCTIONS.items():
            self._callbacks.append(prototype(getattr(self, f"_{name}")))
            binding.add_symbol(f"{name}_{number}", ctypes.cast(self._callbacks[-1], ctypes.c_void_p).value)
            text = text.replace(f"@{name}(", f"@{name}_{number}(")
        return text

    def address(self, name: str) -> int:
        """Where a function begins."""
        start = self._engine.get_function_address(name)
        assert start
        return int(start)

    def features(self, machine: Machine, triple: str, cpu: int | None = None) -> set[str]:
        """What :func:`features_text` finds on one processor of a machine."""
        names = selectable_features(triple)
        self.machine, self.cpu, self.read = machine, cpu, []
        out = ctypes.create_string_buffer(len(names))
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address("features"))(ctypes.addressof(out))
        again = {leaf for leaf in self.read if self.read.count(leaf) > 1}
        assert again <= {OF_XGETBV}, "a leaf was read twice"
        assert self.read.count(OF_XGETBV) <= 2
        return {name for name, bit in zip(names, out.raw, strict=True) if bit}

    def pick(self, machine: Machine, **variables: str) -> int:
        """Call ``@__cpufeat_pick`` on a machine, in an environment."""
        self.machine, self.cpu, self.read, self.variables = machine, None, [], variables
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(self.address("__cpufeat_pick"))())

    def _registers(self, leaf: int, subleaf: int) -> Registers:
        return self.machine.cpuid(leaf, subleaf if leaf in WITH_SUBLEAVES else 0, self.cpu) or (0, 0, 0, 0)

    def _asked_cpuid(self, leaf: int, subleaf: int, out: int) -> None:
        self.read.append((leaf, subleaf))
        words = b"".join(word.to_bytes(4, "little") for word in self._registers(leaf, subleaf))
        ctypes.memmove(out, words, len(words))

    def _asked_xgetbv(self) -> int:
        assert self._registers(1, 0)[2] & OSXSAVE, "XGETBV faults here"
        return int(self.machine.xgetbv() or 0)

    def _asked_permitted(self) -> int:
        return int(self.machine.permitted_states())

    def _getauxval(self, kind: int) -> int:
        """Every Linux has a vector: a recording of x86 without one says nothing, which Python takes for yes."""
        says_nothing = self.machine.arch == "x86_64" and self.machine.getauxval(16) is None
        return int(self.machine.getauxval(kind) or (2 if says_nothing and kind == 26 else 0))

    def _elf_aux_info(self, kind: int, out: int, size: int) -> int:
        value = self.machine.getauxval({25: 16, 26: 26}[kind])
        if value is not None:
            ctypes.memmove(out, value.to_bytes(size, "little"), size)
        return 0 if value is not None else 2

    def _sysctlbyname(self, name: bytes, out: int, length: int, new: int | None, new_length: int) -> int:
        assert (new, new_length) == (None, 0)
        value = self.machine.sysctl(name.decode())
        if value is None:
            return -1
        ctypes.memmove(out, value.to_bytes(4, "little"), 4)
        ctypes.c_size_t.from_address(length).value = 4
        return 0

    def _IsProcessorFeaturePresent(self, number: int) -> int:  # noqa: N802
        return int(bool(self.machine.processor_feature(number)))

    def _getenv(self, name: bytes) -> int | None:
        value = self.variables.get(name.decode())
        self._kept = ctypes.create_string_buffer(value.encode()) if value is not None else None
        return ctypes.addressof(self._kept) if self._kept else None


def compile_all(python: str, modules: Mapping[str, tuple[str, str, int]], folder: Path) -> None:
    """Write an object for each module (text, triple, optimization level), by the LLVM of an interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(Path(codegen.__file__).parents[3])}
    command, content = [python, __file__, str(folder)], json.dumps(modules)
    process = subprocess.run(command, input=content, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def _compile(text: str, triple: str, opt: int) -> bytes:
    """Compile without any assembler: there is one only for the machine that LLVM runs on."""
    module = binding.parse_assembly(text)
    target = binding.Target.from_triple(triple)
    machine = target.create_target_machine(opt=opt, reloc="pic", codemodel="default")
    module.triple, module.data_layout = triple, str(machine.target_data)
    module.verify()
    pipeline.optimize(module, machine, opt)
    return bytes(machine.emit_object(module))


if __name__ == "__main__":
    if binding.llvm_version_info[0] < 20:
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    for name, module in json.load(sys.stdin).items():
        Path(sys.argv[1], name).write_bytes(_compile(*module))
