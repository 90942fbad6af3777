"""Ask an LLVM: the one in the llvmlite that is installed, or the one in a Zig, which contains clang.

Both take IR as text. What makes LLVM complain, or abort, runs in another process.
"""

from __future__ import annotations

import ctypes
import functools
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llvmlite import binding

ROOT = Path(__file__).resolve().parent.parent
I686, X86_64 = "i686-unknown-linux-gnu", "x86_64-unknown-linux-gnu"
NO_64BIT = "64-bit code requested"
"""What LLVM says before it aborts in 64-bit mode on a CPU without it."""
EMPTY = "define void @f() {\n  ret void\n}\n"


class Image(NamedTuple):
    """A library or a program with LLVM in it, as it lies in memory."""

    address: int
    content: bytes
    data: int
    """The offset from which on it holds pointers."""

    def holds(self, address: int, text: bytes) -> bool:
        """Whether these bytes are at an address."""
        return address >= self.address and self.content.startswith(text, address - self.address)

    def pointers(self, text: bytes) -> Iterator[int]:
        """Yield the offset of each word that is the address of these bytes."""
        for match in re.finditer(re.escape(text), self.content):
            word = struct.pack("<Q", self.address + match.start())
            found = re.compile(re.escape(word)).finditer(self.content, self.data)
            yield from (pointer.start() for pointer in found)


class Llvmlite:
    """The LLVM in llvmlite."""

    def __init__(self) -> None:
        import llvmlite
        from llvmlite import binding

        self.version: tuple[int, ...] = binding.llvm_version_info
        self.origin = f"llvmlite {llvmlite.__version__}"
        self._binding = binding

    def target(self, triple: str) -> binding.Target:
        """Return LLVM's target for a triple; LLVM is initialised on the way, which can be repeated."""
        if self.version[0] < 20:  # later llvmlites do this themselves, and refuse the call
            self._binding.initialize()
        self._binding.initialize_all_targets()
        self._binding.initialize_all_asmprinters()
        return self._binding.Target.from_triple(triple)

    def has_target(self, triple: str) -> bool:
        """Whether this LLVM generates code for a triple."""
        try:
            return bool(self.target(triple))
        except RuntimeError:
            return False

    def machine(self, triple: str, cpu: str, features: str = "") -> binding.TargetMachine:
        """Return an optimising TargetMachine."""
        return self.target(triple).create_target_machine(cpu=cpu, features=features, opt=2)

    def listing(self, triple: str) -> str:
        """Return what LLVM prints for the feature string ``+help``."""
        return _child("machine", triple, "", "+help").stderr

    def optimised(self, triple: str, text: str) -> str:
        """Return IR after inlining."""
        module, machine = self._parse(triple, text), self.machine(triple, "generic")
        if hasattr(self._binding, "create_module_pass_manager"):
            passes = self._binding.create_module_pass_manager()
            machine.add_analysis_passes(passes)
            passes.add_function_inlining_pass(225)
            passes.run(module)
        else:
            options = self._binding.create_pipeline_tuning_options(speed_level=2)
            builder = self._binding.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
        return str(module)

    def assembly(self, triple: str, text: str) -> str:
        """Return the assembly of IR."""
        return str(self.machine(triple, "generic").emit_assembly(self._parse(triple, text)))

    def code(self, triple: str, text: str) -> bytes:
        """Return the section ``.text`` of the object of IR."""
        content = self.machine(triple, "generic").emit_object(self._parse(triple, text))
        sections = self._binding.ObjectFileRef.from_data(content).sections()
        return next(bytes(section.data()) for section in sections if section.name() == b".text")

    def accepts_in_64bit_mode(self, cpus: Sequence[str]) -> set[str]:
        """Return the x86 CPUs for which LLVM generates 64-bit code, where for others it aborts."""
        accepted = set[str]()
        remaining = list(cpus)
        while remaining:
            attempt = _child("enter_64bit_mode", *remaining)
            if attempt.returncode and NO_64BIT not in attempt.stderr:
                raise RuntimeError(attempt.stderr)
            entered = attempt.stdout.split()
            accepted.update(entered)
            remaining = remaining[len(entered) + 1 :]
        return accepted

    def enter_64bit_mode(self, *cpus: str) -> None:
        """Generate 64-bit code for one CPU after another, and name each when done."""
        for cpu in cpus:
            self.machine(X86_64, cpu).emit_object(self._parse(X86_64, EMPTY))
            sys.stdout.write(f"{cpu}\n")
            sys.stdout.flush()

    def complaints(self, triple: str, strings: Sequence[tuple[str, str]]) -> list[str]:
        """Return what LLVM writes when it compiles for each CPU and feature string."""
        process = _child("compile_for", triple, *(f"{cpu} {features}" for cpu, features in strings))
        status = [f"exit status {process.returncode}"] if process.returncode else []
        return [*process.stderr.splitlines(), *status]

    def compile_for(self, triple: str, *strings: str) -> None:
        """Generate code for each CPU and feature string, with a space between them."""
        for string in strings:
            cpu, features = string.split(" ")
            self.machine(triple, cpu, features).emit_object(self._parse(triple, EMPTY))

    @functools.cached_property
    def image(self) -> Image:
        """The library in this process's memory, on Linux. Its last two mappings are what the loader fills, and data."""
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        mappings = [line.split(maxsplit=2) for line in lines if "libllvmlite" in line]
        spans = [[int(address, 16) for address in span.split("-")] for span, _, _ in mappings]
        base = spans[0][0]
        content = bytearray(spans[-1][1] - base)
        for (start, end), (_, mode, _) in zip(spans, mappings, strict=True):
            if mode.startswith("r"):
                content[start - base : end - base] = ctypes.string_at(start, end - start)
        return Image(base, bytes(content), spans[-2][0] - base)

    def _parse(self, triple: str, text: str) -> binding.ModuleRef:
        return self._binding.parse_assembly(f'target triple = "{triple}"\n{text}')


def _child(method: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call a method of Llvmlite in another process, for LLVM writes to file descriptor 2 there, or aborts."""
    call = f"import sys; sys.path.insert(0, sys.argv[1]); import llvms; llvms.Llvmlite().{method}(*sys.argv[2:])"
    command = [sys.executable, "-c", call, str(Path(__file__).resolve().parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Zig:
    """The LLVM in the program of a Zig for x86-64 Linux, as in the wheels of ``ziglang``: asked through its clang."""

    def __init__(self, program: Path) -> None:
        self.program = program
        printed = subprocess.run([program, "cc", "--version"], capture_output=True, text=True, check=True).stdout
        found = re.match(r"clang version (\d+)\.(\d+)\.(\d+)", printed)
        if found is None:
            raise RuntimeError(f"{program}: {printed}")
        self.version = tuple(map(int, found.groups()))
        zig = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
        self.origin = f"Zig {zig.strip()}"

    def clang(self, triple: str, text: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        """Run clang's compiler proper over IR."""
        command = [str(self.program), "clang", "-cc1", "-triple", triple, *options, "-x", "ir", "-o", "-", "-"]
        module = f'target triple = "{triple}"\n{text}'.encode()
        return subprocess.run(command, input=module, capture_output=True, check=False)

    def has_target(self, triple: str) -> bool:
        """Whether this LLVM generates code for a triple."""
        return self.clang(triple, EMPTY, "-S").returncode == 0

    def compiled(self, triple: str, cpu: str, features: str) -> subprocess.CompletedProcess[bytes]:
        """Compile an empty function for a CPU and a feature string.

        They are the function's own, for clang refuses some of LLVM's names of CPUs; on RISC-V, those of the module,
        which the assembly then names.
        """
        if triple.startswith("riscv"):
            switches = [option for feature in features.split(",") for option in ("-target-feature", feature)]
            return self.clang(triple, EMPTY, "-S", "-target-cpu", cpu, *switches)
        attributes = f'"target-cpu"="{cpu}" "target-features"="{features}" {{'
        return self.clang(triple, EMPTY.replace("{", attributes), "-S")

    def listing(self, triple: str) -> str:
        """Return what LLVM prints for the feature string ``+help``."""
        return self.clang(triple, EMPTY, "-S", "-target-feature", "+help").stderr.decode()

    def optimised(self, triple: str, text: str) -> str:
        """Return IR after inlining."""
        return self._output(triple, text, "-O2", "-emit-llvm").decode()

    def assembly(self, triple: str, text: str) -> str:
        """Return the assembly of IR."""
        return self._output(triple, text, "-O2", "-S").decode()

    def code(self, triple: str, text: str) -> bytes:
        """Return the section ``.text`` of the object of IR."""
        sys.path.insert(0, str(ROOT))
        from cpufeat.binary_format.elf import SHF_EXECINSTR, Elf

        elf = Elf(self._output(triple, text, "-O2", "-emit-obj"), ValueError)
        return bytes(next(elf.content_of(section) for section in elf.sections if section.flags & SHF_EXECINSTR))

    def accepts_in_64bit_mode(self, cpus: Sequence[str]) -> set[str]:
        """Return the x86 CPUs for which LLVM generates 64-bit code, where for others it aborts."""
        accepted = set[str]()
        for cpu in cpus:
            attempt = self.clang(X86_64, EMPTY.replace("{", f'"target-cpu"="{cpu}" {{'), "-S")
            if attempt.returncode and NO_64BIT.encode() not in attempt.stderr:
                raise RuntimeError(attempt.stderr.decode())
            if not attempt.returncode:
                accepted.add(cpu)
        return accepted

    @functools.cached_property
    def image(self) -> Image:
        """The program as the kernel maps it: it is linked to fixed addresses."""
        sys.path.insert(0, str(ROOT))
        from cpufeat.binary_format.elf import ET_EXEC, PT_LOAD, Elf

        content = self.program.read_bytes()
        elf = Elf(content, ValueError)
        if elf.header.type != ET_EXEC:
            raise RuntimeError(f"{self.program} is not linked to fixed addresses")
        loaded = [segment for segment in elf.segments if segment.type == PT_LOAD]
        base = loaded[0].vaddr
        mapped = bytearray(loaded[-1].vaddr + loaded[-1].filesz - base)
        for segment in loaded:
            at = segment.vaddr - base
            mapped[at : at + segment.filesz] = content[segment.offset : segment.offset + segment.filesz]
        return Image(base, bytes(mapped), loaded[-2].vaddr - base)

    def _output(self, triple: str, text: str, *options: str) -> bytes:
        process = self.clang(triple, text, *options)
        if process.returncode:
            raise RuntimeError(process.stderr.decode())
        return process.stdout


class Llc:
    """LLVM's llc, as distributions have it."""

    def __init__(self, program: Path) -> None:
        self.program = program
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"LLVM version (\d+)\.(\d+)\.(\d+)", printed)
        if found is None:
            raise RuntimeError(f"{program}: {printed}")
        self.version = tuple(map(int, found.groups()))

    def has_target(self, triple: str) -> bool:
        """Whether this LLVM generates code for a triple."""
        return self._run(f"-mtriple={triple}").returncode == 0

    def compiled(self, triple: str, cpu: str, features: str) -> subprocess.CompletedProcess[bytes]:
        """Compile an empty function for a CPU and a feature string."""
        return self._run(f"-mtriple={triple}", f"-mcpu={cpu}", f"-mattr={features}")

    def _run(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(self.program), *options, "-o", "-", "-"]
        return subprocess.run(command, input=EMPTY.encode(), capture_output=True, check=False)


Source = Llvmlite | Zig
