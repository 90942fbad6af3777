"""Write what the installed LLVM knows of an architecture's features and CPUs: data/ARCH/llvm-NN.tsv.

    python tools/llvm_tables.py [--check] [--arch x86]

Only llvmlite is asked, and NN is its LLVM's major version. With --check nothing is written; the committed table is
compared (comments apart) and a difference is printed with exit status 1.

The names are what LLVM lists for the attribute `+help`, in LLVM's own order, which is by ASCII. The rest comes from
the inliner, which puts a callee with `"target-features"="+f"` into a caller exactly when the caller's subtarget has
every bit of the callee's (`areInlineCompatible` of each target's TargetTransformInfo). So a caller with
`"target-cpu"="c"` shows what c has, and one with `"target-features"="+f"` what f implies, through every step. Both
start from the architecture's barest CPU and are tuned for it, since a CPU's tuning flags are bits like any others.

A feature row's class is

- `mode`: chosen by the triple, never by a CPU;
- `tuning`: either the check ignores it, or a CPU brings it as "tune-cpu", which carries no ISA feature;
- `isa`: every other, which includes code generation options (retpoline, soft-float) that LLVM checks like ISA.

x86 needs more than that:

- Each question is asked in 32-bit and in 64-bit mode, and the answer is yes where both say so: 64-bit mode forces
  SSE2, and 32-bit mode masks what only 64-bit mode can run (APX, UINTR).
- LLVM 18 to 21 read `+avx512f` in an attribute as `+avx512f,+evex512` unless `evex512` is mentioned. The tables hold
  this as an implication, because whoever writes `-evex512` beside `+avx512f` loses the 512-bit registers.
- The check ignores three features that are no tuning. `64bit` is seen by LLVM refusing, with an abort, 64-bit mode on
  a CPU without it; `nopl` by the padding between two functions. `sahf` changes nothing that LLVM emits, so it is
  inferred: LLVM's 64-bit CPUs have it from the generation on that brought SSSE3 (Intel) or SSE4a (AMD). No feature
  is taken to imply any of the three.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
from llvmlite import binding

DATA = Path(__file__).resolve().parent.parent / "data"


class Function(NamedTuple):
    """The attributes of a function that decide its subtarget."""

    cpu: str
    features: tuple[str, ...] = ()


class Architecture(NamedTuple):
    """What the generator must know of an architecture to ask LLVM about it."""

    triples: dict[str, tuple[str, ...]]  # each with the features without which LLVM does not accept a CPU there
    base_cpu: str
    bare: tuple[str, ...]  # what makes the base CPU barer still
    literal: tuple[str, ...]  # what keeps LLVM from reading more into an attribute than it says
    modes: frozenset[str]
    unchecked: dict[str, Callable[[dict[str, set[str]]], set[str]]]  # ISA feature -> the CPUs (of these) that have it


def target_machine(triple: str, cpu: str, features: str = "") -> Any:
    """An optimising TargetMachine. LLVM is initialised on the way, which is harmless when repeated."""
    if binding.llvm_version_info[0] < 20:  # later llvmlites initialise themselves and refuse the call
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2)


def child(function: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a function of this module in a process of its own, since LLVM writes to file descriptor 2, or aborts."""
    call = f"import sys, llvm_tables; llvm_tables.{function}(*sys.argv[1:])"
    command = [sys.executable, "-c", call, *arguments]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)


def listed_names(triple: str, cpu: str) -> tuple[list[str], list[str]]:
    """The CPUs and the features that LLVM lists, in its order."""
    text = child("target_machine", triple, cpu, "+help").stderr
    cpus, features = text.split("Available features for this target:")
    return re.findall(r"^  (\S+) +- ", cpus, re.M), re.findall(r"^  (\S+) +- ", features, re.M)


def define(name: str, function: Function, tune_cpu: str, calls: Iterable[str]) -> str:
    """IR of a function that makes these calls."""
    attributes = {"target-cpu": function.cpu, "tune-cpu": tune_cpu, "target-features": ",".join(function.features)}
    written = " ".join(f'"{key}"="{value}"' for key, value in attributes.items())
    body = "\n".join(f"  call void @{callee}()" for callee in calls)
    return f"define void @{name}() inlinehint {written} {{\n{body}\n  ret void\n}}"


def run_inliner(module: Any, machine: Any) -> None:
    """Run the inliner over a module, by whichever pass manager this llvmlite has."""
    if hasattr(binding, "create_module_pass_manager"):
        passes = binding.create_module_pass_manager()
        machine.add_analysis_passes(passes)
        passes.add_function_inlining_pass(225)
        passes.run(module)
        return
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)


def inlined(
    triple: str, callers: Sequence[tuple[Function, str]], callees: Sequence[Function], base_cpu: str
) -> list[set[int]]:
    """For each caller, with the CPU that it is tuned for, the indices of the callees that LLVM inlines into it."""
    names = [f"callee{index}" for index in range(len(callees))]
    text = [f'target triple = "{triple}"', "declare void @opaque()"]
    text += [define(name, callee, base_cpu, ["opaque"]) for name, callee in zip(names, callees, strict=True)]
    text += [define(f"caller{index}", *caller, names) for index, caller in enumerate(callers)]
    module = binding.parse_assembly("\n".join(text))
    run_inliner(module, target_machine(triple, base_cpu))
    bodies = re.findall(r"^define [^\n]*@caller\d+\(\)[^\n]*\n(.*?)^}", str(module), re.M | re.S)
    everything = set(range(len(callees)))
    return [everything - {int(index) for index in re.findall(r"@callee(\d+)\(", body)} for body in bodies]


def held(
    architecture: Architecture, features: Sequence[str], callers: Sequence[tuple[Function, str]]
) -> list[set[str]]:
    """For each caller, with the CPU that it is tuned for, the features that LLVM's check finds in it."""
    literal = [change for change in architecture.literal if change[1:] in features]
    answers = [set(features) for _ in callers]
    for triple, needed in architecture.triples.items():
        start = (*needed, *architecture.bare, *literal)
        callees = [Function(architecture.base_cpu, (*start, f"+{name}")) for name in features]
        asked = [(caller._replace(features=(*needed, *caller.features)), tune_cpu) for caller, tune_cpu in callers]
        for answer, found in zip(answers, inlined(triple, asked, callees, architecture.base_cpu), strict=True):
            answer &= {features[index] for index in found}
    return answers


def enter_64bit_mode(*cpus: str) -> None:
    """Generate 64-bit code for one CPU after another, printing each that LLVM accepted."""
    for cpu in cpus:
        module = binding.parse_assembly("define void @f() {\n  ret void\n}")
        target_machine("x86_64-unknown-linux-gnu", cpu).emit_object(module)
        print(cpu, flush=True)


def cpus_with_64bit(cpus: dict[str, set[str]]) -> set[str]:
    """The CPUs for which LLVM does not abort in 64-bit mode."""
    accepted: list[str] = []
    left = list(cpus)
    while left:
        done = child("enter_64bit_mode", *left).stdout.split()
        accepted += done
        left = left[len(done) + 1 :]
    return set(accepted)


def cpus_with_nopl(cpus: dict[str, set[str]]) -> set[str]:
    """The CPUs for which LLVM pads with anything longer than one byte in 32-bit mode."""
    triple = "i686-unknown-linux-gnu"
    functions = [define("first", Function("i386"), "i386", [])]
    functions += [define(f"f{index}", Function(cpu), "i386", []) for index, cpu in enumerate(cpus)]
    machine = target_machine(triple, "i386")
    code = machine.emit_object(binding.parse_assembly("\n".join([f'target triple = "{triple}"', *functions])))
    sections = binding.ObjectFileRef.from_data(code).sections()
    text = next(section.data() for section in sections if section.name() == b".text")
    # Each function is one RET on a 16-byte boundary, and the padding before a boundary is made for what follows it.
    return {cpu for index, cpu in enumerate(cpus) if text[16 * index + 1 : 16 * index + 16] != b"\x90" * 15}


def cpus_with_cx16(cpus: dict[str, set[str]]) -> set[str]:
    """The CPUs for which LLVM compares and exchanges 16 bytes by an instruction, not by a call."""
    triple, pointer = "x86_64-unknown-linux-gnu", "i128*" if binding.llvm_version_info[0] < 20 else "ptr"
    swap = f"  cmpxchg {pointer} @word, i128 0, i128 1 seq_cst seq_cst\n"
    functions = [
        f'define void @f() "target-cpu"="{cpu}" "target-features"="+64bit" {{\n{swap}  ret void\n}}'.replace("@f", f"@f{index}") for index, cpu in enumerate(cpus)
    ]
    module = binding.parse_assembly("\n".join([f'target triple = "{triple}"', "@word = global i128 0", *functions]))
    bodies = target_machine(triple, "i386", "+64bit").emit_assembly(module).split(".globl\tf")[1:]
    return {cpu for cpu, body in zip(cpus, bodies, strict=True) if "cmpxchg16b" in body}


def cpus_with_sahf(cpus: dict[str, set[str]]) -> set[str]:
    """The 64-bit CPUs of the generations that brought SSSE3 or SSE4a, and later ones."""
    return {cpu for cpu, features in cpus.items() if "64bit" in features and features & {"ssse3", "sse4a"}}


ARCHITECTURES = {
    "x86": Architecture(
        triples={"i686-unknown-linux-gnu": (), "x86_64-unknown-linux-gnu": ("+64bit",)},
        base_cpu="generic",
        bare=("-x87", "-cx8"),
        literal=("-evex512",),
        modes=frozenset({"16bit-mode", "32bit-mode", "64bit-mode"}),
        unchecked={"64bit": cpus_with_64bit, "cx16": cpus_with_cx16, "nopl": cpus_with_nopl, "sahf": cpus_with_sahf},
    ),
}


def closed(implied: dict[str, set[str]]) -> dict[str, set[str]]:
    """The implications with those of what is implied; one round does, as only a guess of LLVM's is not transitive."""
    return {name: others.union(*(implied[other] for other in others)) for name, others in implied.items()}


def table(architecture: Architecture) -> list[tuple[str, str, str, str]]:
    """The rows (kind, name, class, features) of the LLVM in this process."""
    base, bare = architecture.base_cpu, architecture.bare
    cpus, listed = listed_names(next(iter(architecture.triples)), base)
    features = [name for name in listed if name not in architecture.modes]

    tuned = [(Function(base, bare), cpu) for cpu in [base, *cpus]]
    enabled = [(Function(base, (*bare, f"+{name}")), base) for name in features]
    untuned = [(Function(cpu), base) for cpu in cpus]
    answers = iter(held(architecture, features, tuned + enabled + untuned))

    tuning = set[str]().union(*(next(answers) for _ in tuned)) - architecture.unchecked.keys()
    checked = set(features) - tuning - architecture.unchecked.keys()
    implied = closed({name: checked & next(answers) - {name} for name in features})
    has = {cpu: checked & next(answers) for cpu in cpus}
    for name, cpus_with in architecture.unchecked.items():
        for cpu in cpus_with(has):
            has[cpu].add(name)

    def spelled(names: set[str]) -> str:
        return " ".join(name for name in listed if name in names) or "-"

    def feature_class(name: str) -> str:
        return "mode" if name in architecture.modes else "tuning" if name in tuning else "isa"

    rows = [("feature", name, feature_class(name), spelled(implied.get(name, set()))) for name in listed]
    return rows + [("cpu", cpu, "-", spelled(has[cpu])) for cpu in cpus]


def written(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """The text of a table."""
    version = ".".join(map(str, binding.llvm_version_info))
    head = [
        f"# Written by tools/llvm_tables.py with llvmlite {llvmlite.__version__} (LLVM {version}); do not edit.",
        "# A feature's row lists all that it implies, a CPU's all that it has besides tuning.",
    ]
    lines = ["\t".join(row) for row in [("kind", "name", "class", "features"), *rows]]
    return "\n".join([*head, *lines, ""])


def without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Write what the installed LLVM knows: data/ARCH/llvm-NN.tsv.")
    parser.add_argument("--check", action="store_true", help="compare with the committed table instead of writing it")
    parser.add_argument("--arch", choices=ARCHITECTURES, default="x86")
    options = parser.parse_args()

    path = DATA / options.arch / f"llvm-{binding.llvm_version_info[0]}.tsv"
    text = written(table(ARCHITECTURES[options.arch]))
    if not options.check:
        path.write_text(text, encoding="utf-8", newline="\n")
        return 0
    committed = path.read_text(encoding="utf-8") if path.exists() else ""
    name = path.relative_to(DATA.parent).as_posix()
    difference = difflib.unified_diff(
        without_comments(committed), without_comments(text), f"{name}, committed", f"{name}, installed", lineterm="", n=0
    )
    lines = list(difference)
    print("\n".join(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
