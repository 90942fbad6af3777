"""Write what the installed LLVM knows of an architecture's features and CPUs: data/ARCH/llvm-NN.tsv.

    python tools/llvm_tables.py [--check] [--arch x86]

Only llvmlite is asked, and NN is the major version of its LLVM. With --check nothing is written: the committed table
is compared, comments apart, and a difference is printed with exit status 1.

The names are what LLVM lists for the feature string `+help`, in LLVM's order, which is by ASCII. The rest comes from
the inliner: it puts a callee with `"target-features"="+f"` into a caller exactly when the caller's subtarget has
every bit of the callee's (`areInlineCompatible` of the target's TargetTransformInfo). So a caller with
`"target-cpu"="c"` shows what c has, and one with `"target-features"="+f"` what f implies, by however many steps.
Callers and callees are tuned for one and the same CPU, since the tuning flags of a CPU are bits like any others.

A feature row's class is

- `mode`: chosen by the triple, never by a CPU, so not asked about;
- `tuning`: the check ignores it, or a CPU named as "tune-cpu", which brings no ISA feature, brings it;
- `isa`: every other. Options of the code generator that LLVM checks like ISA (retpoline, soft-float) are among them.

x86 needs more than that:

- Each question is asked in 32-bit and in 64-bit mode, and the answer is yes where both say so: 64-bit mode forces
  SSE2, and 32-bit mode masks what only 64-bit mode can run (APX, UINTR).
- LLVM 20 reads `+avx512...` on its default CPUs as if `+evex512` followed, unless the string mentions evex512. The
  table holds this as an implication: whoever closes a set under the table never writes `-evex512` beside `+avx512f`,
  which would take the 512-bit registers away.
- The check ignores four features that are no tuning, and no feature is taken to imply any of them. `64bit` is told by
  LLVM aborting in 64-bit mode on a CPU without it, `cx16` by a 16-byte compare-and-swap, `nopl` by the padding
  between functions. `sahf` changes nothing that LLVM emits, so it is inferred: LLVM's 64-bit CPUs have it from the
  generations on that brought SSSE3 (Intel, Core 2) and SSE4a (AMD, family 10h).
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import llvmlite
from llvmlite import binding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
LLVM = binding.llvm_version_info[0]
I686, X86_64 = "i686-unknown-linux-gnu", "x86_64-unknown-linux-gnu"

CpuFeatures = dict[str, set[str]]
Row = tuple[str, str, str, str]


class Function(NamedTuple):
    """The attributes that decide a function's subtarget."""

    cpu: str
    tune_cpu: str
    features: tuple[str, ...] = ()


class Architecture(NamedTuple):
    """What must be known of an architecture to ask LLVM about it."""

    base_cpu: str
    bare: tuple[str, ...]  # takes from the base CPU what it has
    literal: tuple[str, ...]  # keeps LLVM from reading more into a feature string than it says
    triples: dict[str, tuple[str, ...]]  # each with the features without which LLVM refuses a CPU there
    modes: frozenset[str]
    unchecked: dict[str, Callable[[CpuFeatures], set[str]]]  # feature -> those of the CPUs that have it


def target_machine(triple: str, cpu: str, features: str = "") -> binding.TargetMachine:
    """Return an optimising TargetMachine; LLVM is initialised on the way, which can be repeated."""
    if LLVM < 20:  # later llvmlites do this themselves, and refuse the call
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2)


def child(function: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call a function of this module in another process, for LLVM writes to file descriptor 2 there, or aborts."""
    call = f"import sys; sys.path.insert(0, sys.argv[1]); import llvm_tables; llvm_tables.{function}(*sys.argv[2:])"
    command = [sys.executable, "-c", call, str(Path(__file__).resolve().parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this module again


def listed_names(triple: str, cpu: str) -> tuple[list[str], list[str]]:
    """Return the CPUs and the features that LLVM lists, in its order."""
    listing = child("target_machine", triple, cpu, "+help").stderr
    cpus, features = listing.split("Available features for this target:")
    return re.findall(r"^  (\S+) +- ", cpus, re.M), re.findall(r"^  (\S+) +- ", features, re.M)


def define(name: str, function: Function, body: str) -> str:
    """Return the IR of a function that returns nothing."""
    attributes = {
        "target-cpu": function.cpu,
        "tune-cpu": function.tune_cpu,
        "target-features": ",".join(function.features),
    }
    written = " ".join(f'"{key}"="{value}"' for key, value in attributes.items())
    return f"define void @{name}() inlinehint {written} {{\n{body}  ret void\n}}\n"


def parse(triple: str, *text: str) -> binding.ModuleRef:
    """Return the module of these pieces of IR."""
    return binding.parse_assembly("\n".join([f'target triple = "{triple}"', *text]))


def run_inliner(module: binding.ModuleRef, machine: binding.TargetMachine) -> None:
    """Run the inliner over a module, with whichever pass manager this llvmlite has."""
    if hasattr(binding, "create_module_pass_manager"):
        passes = binding.create_module_pass_manager()
        machine.add_analysis_passes(passes)
        passes.add_function_inlining_pass(225)
        passes.run(module)
        return
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)


def inlined(triple: str, callers: Sequence[Function], callees: Sequence[Function]) -> list[set[int]]:
    """Return, for each caller, the indices of the callees that LLVM inlines into it."""
    calls = "".join(f"  call void @callee{index}()\n" for index in range(len(callees)))
    module = parse(
        triple,
        "declare void @opaque()",
        *(define(f"callee{index}", callee, "  call void @opaque()\n") for index, callee in enumerate(callees)),
        *(define(f"caller{index}", caller, calls) for index, caller in enumerate(callers)),
    )
    run_inliner(module, target_machine(triple, callees[0].cpu))
    bodies = re.findall(r"^define [^\n]*@caller\d+\(\)[^\n]*\n(.*?)^}", str(module), re.M | re.S)
    everything = set(range(len(callees)))
    return [everything - {int(index) for index in re.findall(r"@callee(\d+)\(", body)} for body in bodies]


def held(architecture: Architecture, features: Sequence[str], callers: Sequence[Function]) -> list[set[str]]:
    """Return, for each caller, those of the features that LLVM's check does not miss in it."""
    base = architecture.base_cpu
    literal = [change for change in architecture.literal if change[1:] in features]
    answers = [set(features) for _ in callers]
    for triple, needed in architecture.triples.items():
        start = (*needed, *architecture.bare, *literal)
        callees = [Function(base, base, (*start, f"+{name}")) for name in features]
        asked = [caller._replace(features=(*needed, *caller.features)) for caller in callers]
        for answer, found in zip(answers, inlined(triple, asked, callees), strict=True):
            answer &= {features[index] for index in found}
    return answers


def enter_64bit_mode(*cpus: str) -> None:
    """Generate 64-bit code for one CPU after another, and name each when done."""
    for cpu in cpus:
        target_machine(X86_64, cpu).emit_object(parse(X86_64, "define void @f() {\n  ret void\n}"))
        sys.stdout.write(f"{cpu}\n")
        sys.stdout.flush()


def cpus_with_64bit(cpus: CpuFeatures) -> set[str]:
    """Return the CPUs for which LLVM generates 64-bit code, where for others it aborts."""
    accepted = set[str]()
    left = list(cpus)
    while left:
        attempt = child("enter_64bit_mode", *left)
        if attempt.returncode and "64-bit code requested" not in attempt.stderr:
            raise RuntimeError(attempt.stderr)
        done = attempt.stdout.split()
        accepted.update(done)
        left = left[len(done) + 1 :]
    return accepted


def cpus_with_cx16(cpus: CpuFeatures) -> set[str]:
    """Return the CPUs for which LLVM compares and swaps 16 bytes by an instruction, not by a call."""
    pointer = "ptr" if LLVM > 15 else "i128*"  # llvmlite's LLVM 15 still has typed pointers
    swap = f"  cmpxchg {pointer} @word, i128 0, i128 1 seq_cst seq_cst\n"
    functions = [define(f"f{index}", Function(cpu, "generic", ("+64bit",)), swap) for index, cpu in enumerate(cpus)]
    assembly = target_machine(X86_64, "generic").emit_assembly(parse(X86_64, "@word = global i128 0", *functions))
    bodies = re.split(r"^f\d+:", assembly, flags=re.M)[1:]
    return {cpu for cpu, body in zip(cpus, bodies, strict=True) if "cmpxchg16b" in body}


def cpus_with_nopl(cpus: CpuFeatures) -> set[str]:
    """Return the CPUs for which LLVM pads 32-bit code with anything but single bytes."""
    functions = [define(f"f{index}", Function(cpu, "generic"), "") for index, cpu in enumerate(["generic", *cpus])]
    code = target_machine(I686, "generic").emit_object(parse(I686, *functions))
    sections = binding.ObjectFileRef.from_data(code).sections()
    text = next(section.data() for section in sections if section.name() == b".text")
    # Each function is one RET at a multiple of 16, and the padding before it is made as its own subtarget allows.
    return {cpu for index, cpu in enumerate(cpus) if text[16 * index + 1 : 16 * index + 16] != b"\x90" * 15}


def cpus_with_sahf(cpus: CpuFeatures) -> set[str]:
    """Return the 64-bit CPUs that have SSSE3 or SSE4a."""
    return {cpu for cpu, features in cpus.items() if "64bit" in features and features & {"ssse3", "sse4a"}}


ARCHITECTURES = {
    "x86": Architecture(
        base_cpu="generic",
        bare=("-x87", "-cx8"),
        literal=("-evex512",),
        triples={I686: (), X86_64: ("+64bit",)},
        modes=frozenset({"16bit-mode", "32bit-mode", "64bit-mode"}),
        unchecked={"64bit": cpus_with_64bit, "cx16": cpus_with_cx16, "nopl": cpus_with_nopl, "sahf": cpus_with_sahf},
    ),
}


def table(architecture: Architecture) -> list[Row]:
    """Return the rows (kind, name, class, features) for the LLVM in this process."""
    base, bare = architecture.base_cpu, architecture.bare
    cpus, listed = listed_names(next(iter(architecture.triples)), base)
    features = [name for name in listed if name not in architecture.modes]

    tuned = [Function(base, cpu, bare) for cpu in cpus]
    enabled = [Function(base, base, (*bare, f"+{name}")) for name in features]
    untuned = [Function(cpu, base) for cpu in cpus]
    answers = iter(held(architecture, features, tuned + enabled + untuned))

    tuning = set[str]().union(*(next(answers) for _ in tuned)) - architecture.unchecked.keys()
    checked = set(features) - tuning - architecture.unchecked.keys()
    implied = {name: checked & next(answers) - {name} for name in features}
    has = {cpu: checked & next(answers) for cpu in cpus}
    for name, cpus_with in architecture.unchecked.items():
        for cpu in cpus_with(has):
            has[cpu].add(name)

    def class_of(name: str) -> str:
        return "mode" if name in architecture.modes else "tuning" if name in tuning else "isa"

    def spelled(names: Iterable[str]) -> str:
        return " ".join(sorted(names)) or "-"

    # What LLVM reads into a string is no bit of the feature, so it does not carry over to what implies the feature.
    closed = {name: others.union(*(implied[other] for other in others)) for name, others in implied.items()}
    rows = [("feature", name, class_of(name), spelled(closed.get(name, ()))) for name in listed]
    return rows + [("cpu", cpu, "-", spelled(has[cpu])) for cpu in cpus]


def written(rows: Iterable[Row]) -> str:
    """Return the text of a table."""
    version = ".".join(map(str, binding.llvm_version_info))
    lines = ["\t".join(row) for row in [("kind", "name", "class", "features"), *rows]]
    return (
        f"# Written by tools/llvm_tables.py with llvmlite {llvmlite.__version__} (LLVM {version}); do not edit.\n"
        "# A feature's row lists all that it implies, a CPU's all that it has besides tuning.\n"
    ) + "".join(f"{line}\n" for line in lines)


def differences(name: str, committed: str, installed: str) -> list[str]:
    """Return the lines of a unified diff between two tables' texts, comments apart."""
    before, after = (
        [line for line in text.splitlines() if not line.startswith("#")] for text in (committed, installed)
    )
    return list(difflib.unified_diff(before, after, f"{name} (committed)", f"{name} (installed)", lineterm="", n=0))


def main() -> int:
    """Run the command line, and return its exit status."""
    parser = argparse.ArgumentParser(description="Write what the installed LLVM knows: data/ARCH/llvm-NN.tsv.")
    parser.add_argument("--check", action="store_true", help="compare with the committed table instead of writing")
    parser.add_argument("--arch", choices=ARCHITECTURES, default="x86")
    options = parser.parse_args()

    name = f"data/{options.arch}/llvm-{LLVM}.tsv"
    path = ROOT / name
    text = written(table(ARCHITECTURES[options.arch]))
    if not options.check:
        path.write_text(text, encoding="utf-8", newline="\n")
        return 0
    found = differences(name, path.read_text(encoding="utf-8") if path.exists() else "", text)
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
