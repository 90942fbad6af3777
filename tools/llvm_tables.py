"""Write what the installed LLVM knows of each architecture's features and CPUs: data/ARCH/llvm-NN.tsv.

    python tools/llvm_tables.py [--check] [--arch ARCH]

Only llvmlite is asked, and NN is the major version of its LLVM. With --check nothing is written: the committed tables
are compared, comments apart, and a difference is printed with exit status 1. An architecture that this LLVM lacks is
passed over.

The names are what LLVM lists for the feature string `+help`, in LLVM's order, which is by ASCII. The rest comes from
one of two places. Where both can be asked, they say the same.

**The inliner** (x86, aarch64) puts a callee with `"target-features"="+f"` into a caller exactly when the caller's
subtarget has every bit of the callee's (`areInlineCompatible` of the target's TargetTransformInfo). So a caller with
`"target-cpu"="c"` shows what c has, and one with `"target-features"="+f"` what f implies, by however many steps.
Callers and callees are tuned for one and the same CPU, since the tuning flags of a CPU are bits like any others.

**LLVM's own tables** (the others), which TableGen wrote into the library. A feature's entry holds its name, its bit
and the bits that it directly implies; a CPU's holds those of its features and those of its tuning (MCSubtargetInfo.h:
`SubtargetFeatureKV`, `SubtargetSubTypeKV`). The listed names lead to them in this process's memory, on Linux. What a
subtarget adds by its triple (POWER's 64bit) is not in them; a CPU's own word size (RISC-V's 64bit) is.

The inliner does not serve there. LLVM 14 and 15 compare attributes as text for riscv, powerpc and s390x; Arm's check
wants most bits equal; a POWER CPU has an unlisted bit of its own; RISC-V and LoongArch abort LLVM on many sets. On the
other hand LLVM 23 has no pointers to the names in its tables any more (llvm/llvm-project#206331, #207580), and they
lack AArch64's second names of CPUs.

A feature row's class is

- `mode`: chosen by the triple, never by a CPU, so not asked about;
- `tuning`: the inliner's check ignores it (or reverses it, as for AArch64's execute-only), or some CPU brings it when
  named as "tune-cpu" and none when named as "target-cpu";
- `isa`: every other. Options of the code generator (retpoline, reserve-x18) are among them, and so are the tuning
  flags where LLVM does not tell them from what a CPU has (arm, powerpc).

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
import ctypes
import difflib
import functools
import itertools
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

Sets = dict[str, set[str]]
Row = tuple[str, str, str, str]


class Facts(NamedTuple):
    """What LLVM knows of an architecture. The keys are in LLVM's order."""

    classes: dict[str, str]  # every feature's
    implied: Sets  # all that a feature implies
    has: Sets  # all that a CPU has


class Function(NamedTuple):
    """The attributes that decide a function's subtarget."""

    cpu: str
    tune_cpu: str
    features: tuple[str, ...] = ()


class Inlining(NamedTuple):
    """What must be known of an architecture to ask the inliner about it."""

    base_cpu: str
    bare: tuple[str, ...]  # takes from the base CPU what it has
    tune_cpu: str
    untuned: tuple[str, ...]  # takes from the tuning for that CPU what the check heeds
    literal: tuple[str, ...]  # keeps LLVM from reading more into a feature string than it says
    triples: dict[str, tuple[str, ...]]  # each with the features without which LLVM refuses a CPU there
    modes: frozenset[str]
    unchecked: dict[str, Callable[[Sets], set[str]]]  # feature -> those of the CPUs that have it


def target(triple: str) -> binding.Target:
    """Return LLVM's target for a triple; LLVM is initialised on the way, which can be repeated."""
    if LLVM < 20:  # later llvmlites do this themselves, and refuse the call
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(triple)


def target_machine(triple: str, cpu: str, features: str = "") -> binding.TargetMachine:
    """Return an optimising TargetMachine."""
    return target(triple).create_target_machine(cpu=cpu, features=features, opt=2)


def child(function: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call a function of this module in another process, for LLVM writes to file descriptor 2 there, or aborts."""
    call = f"import sys; sys.path.insert(0, sys.argv[1]); import llvm_tables; llvm_tables.{function}(*sys.argv[2:])"
    command = [sys.executable, "-c", call, str(Path(__file__).resolve().parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this module again


def listed_names(triple: str) -> tuple[list[str], list[str]]:
    """Return the CPUs and the features that LLVM lists, in its order."""
    listing = child("target_machine", triple, "", "+help").stderr
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
    all_callees = set(range(len(callees)))
    return [all_callees - {int(index) for index in re.findall(r"@callee(\d+)\(", body)} for body in bodies]


def bare(architecture: Inlining, *features: str) -> Function:
    """Return a function that has these features, what they imply, and nothing else."""
    without = (*architecture.untuned, *architecture.bare)
    return Function(architecture.base_cpu, architecture.tune_cpu, (*without, *features))


def features_of_callers(architecture: Inlining, features: Sequence[str], callers: Sequence[Function]) -> list[set[str]]:
    """Return, for each caller, those of the features that LLVM's check does not miss in it."""
    literal = [change for change in architecture.literal if change[1:] in features]
    callees = [bare(architecture, *literal, f"+{name}") for name in features]
    answers = [set(features) for _ in callers]
    for triple, needed in architecture.triples.items():
        callers_there, callees_there = (
            [function._replace(features=(*needed, *function.features)) for function in functions]
            for functions in (callers, callees)
        )
        for answer, callees_inlined in zip(answers, inlined(triple, callers_there, callees_there), strict=True):
            answer &= {features[index] for index in callees_inlined}
    return answers


def closure(names: Iterable[str], direct: Sets) -> set[str]:
    """Return the names and all that they imply, by however many steps."""
    closed = set(names)
    while not closed.issuperset(added := set[str]().union(*(direct[name] for name in closed))):
        closed |= added
    return closed


def enter_64bit_mode(*cpus: str) -> None:
    """Generate 64-bit code for one CPU after another, and name each when done."""
    for cpu in cpus:
        target_machine(X86_64, cpu).emit_object(parse(X86_64, "define void @f() {\n  ret void\n}"))
        sys.stdout.write(f"{cpu}\n")
        sys.stdout.flush()


def cpus_with_64bit(cpus: Sets) -> set[str]:
    """Return the CPUs for which LLVM generates 64-bit code, where for others it aborts."""
    accepted = set[str]()
    remaining = list(cpus)
    while remaining:
        attempt = child("enter_64bit_mode", *remaining)
        if attempt.returncode and "64-bit code requested" not in attempt.stderr:
            raise RuntimeError(attempt.stderr)
        entered = attempt.stdout.split()
        accepted.update(entered)
        remaining = remaining[len(entered) + 1 :]
    return accepted


def cpus_with_cx16(cpus: Sets) -> set[str]:
    """Return the CPUs for which LLVM compares and swaps 16 bytes by an instruction, not by a call."""
    pointer = "ptr" if LLVM > 15 else "i128*"  # llvmlite's LLVM 15 still has typed pointers
    swap = f"  cmpxchg {pointer} @word, i128 0, i128 1 seq_cst seq_cst\n"
    functions = [define(f"f{index}", Function(cpu, "generic", ("+64bit",)), swap) for index, cpu in enumerate(cpus)]
    assembly = target_machine(X86_64, "generic").emit_assembly(parse(X86_64, "@word = global i128 0", *functions))
    bodies = re.split(r"^f\d+:", assembly, flags=re.M)[1:]
    return {cpu for cpu, body in zip(cpus, bodies, strict=True) if "cmpxchg16b" in body}


def cpus_with_nopl(cpus: Sets) -> set[str]:
    """Return the CPUs for which LLVM pads 32-bit code with anything but single bytes."""
    functions = [define(f"f{index}", Function(cpu, "generic"), "") for index, cpu in enumerate(["generic", *cpus])]
    code = target_machine(I686, "generic").emit_object(parse(I686, *functions))
    sections = binding.ObjectFileRef.from_data(code).sections()
    text = next(section.data() for section in sections if section.name() == b".text")
    # Each function is one RET at a multiple of 16, and the padding before it is made as its own subtarget allows.
    return {cpu for index, cpu in enumerate(cpus) if text[16 * index + 1 : 16 * index + 16] != b"\x90" * 15}


def cpus_with_sahf(cpus: Sets) -> set[str]:
    """Return the 64-bit CPUs that have SSSE3 or SSE4a."""
    return {cpu for cpu, features in cpus.items() if "64bit" in features and features & {"ssse3", "sse4a"}}


def ask_inliner(architecture: Inlining) -> Facts:
    """Return what the inliner says."""
    modes, unchecked = architecture.modes, architecture.unchecked
    cpus, listed = listed_names(next(iter(architecture.triples)))
    features = [name for name in listed if name not in modes]
    callers = [
        *(Function(cpu, architecture.tune_cpu, architecture.untuned) for cpu in cpus),
        *(bare(architecture, f"+{name}") for name in features),
        *(Function(architecture.base_cpu, cpu) for cpu in cpus),
        bare(architecture),
    ]
    answers = features_of_callers(architecture, features, callers)
    always = answers.pop()
    has, implied, brought = answers[: len(cpus)], answers[len(cpus) : -len(cpus)], answers[-len(cpus) :]

    tuning = set[str]().union(*brought) - set[str]().union(*(answer - always for answer in has)) - unchecked.keys()
    checked = set(features) - tuning - unchecked.keys()
    direct = {name: checked & answer - {name} for name, answer in zip(features, implied, strict=True)}
    cpu_features = {cpu: checked & answer for cpu, answer in zip(cpus, has, strict=True)}
    for name, cpus_with in unchecked.items():
        for cpu in cpus_with(cpu_features):
            cpu_features[cpu].add(name)
    return Facts(
        {name: "mode" if name in modes else "tuning" if name in tuning else "isa" for name in listed},
        # What LLVM reads into a string is no bit of the feature, so it does not carry over to what implies the feature.
        {name: closure(direct.get(name, ()), direct) for name in listed},
        cpu_features,
    )


class Library(NamedTuple):
    """LLVM's library as it lies in this process's memory."""

    address: int
    content: bytearray
    pointers: memoryview  # the part of it that holds pointers, by 64-bit words


@functools.cache
def library() -> Library:
    """Return llvmlite's library. Its last two mappings are what the loader fills with pointers, and its data."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mappings = [line.split(maxsplit=2) for line in lines if "libllvmlite" in line]
    spans = [[int(address, 16) for address in span.split("-")] for span, _, _ in mappings]
    base = spans[0][0]
    content = bytearray(spans[-1][1] - base)
    for (start, end), (_, mode, _) in zip(spans, mappings, strict=True):
        if mode.startswith("r"):
            content[start - base : end - base] = ctypes.string_at(start, end - start)
    return Library(base, content, memoryview(content)[spans[-2][0] - base :].cast("Q"))


def entries(names: Sequence[str]) -> list[list[int]]:
    """Return the entries, as 64-bit words, of the array in which each begins with a pointer to one of the names."""
    base, content, pointers = library()
    keys = [name.encode() + b"\0" for name in names]
    first = {base + match.start() for match in re.finditer(re.escape(keys[0]), content)}
    starts = [index for index, word in enumerate(pointers) if word in first]
    for start, size in itertools.product(starts, range(4, 24)):
        ends = range(start + size, len(pointers) + 1, size)
        array = [pointers[end - size : end].tolist() for end in ends[: len(keys)]]
        if len(array) == len(keys) and all(
            content.startswith(key, entry[0] - base) for key, entry in zip(keys, array, strict=True)
        ):
            return array
    raise RuntimeError(f"LLVM {LLVM}: no table of {names[0]} ... {names[-1]} in its library")


def read_tables(triple: str) -> Facts:
    """Return what LLVM's own tables say."""
    cpus, features = listed_names(triple)
    feature_entries = dict(zip(features, entries(features), strict=True))
    bits = {name: entry[2] & 0xFFFFFFFF for name, entry in feature_entries.items()}

    def named(words: Sequence[int]) -> set[str]:
        return {name for name, bit in bits.items() if words[bit // 64] >> bit % 64 & 1}

    direct = {name: named(entry[3:]) for name, entry in feature_entries.items()}
    width = len(feature_entries[features[0]]) - 3
    cpu_entries = dict(zip(cpus, entries(cpus), strict=True))
    has = {cpu: closure(named(entry[1:]), direct) for cpu, entry in cpu_entries.items()}
    brought = (closure(named(entry[1 + width :]), direct) for entry in cpu_entries.values())
    tuning = set[str]().union(*brought) - set[str]().union(*has.values())
    return Facts(
        {name: "tuning" if name in tuning else "isa" for name in features},
        {name: closure(direct_names, direct) - tuning for name, direct_names in direct.items()},
        has,
    )


INLINED = {
    "x86": Inlining(
        base_cpu="generic",
        bare=("-x87", "-cx8"),
        tune_cpu="generic",
        untuned=(),
        literal=("-evex512",),
        triples={I686: (), X86_64: ("+64bit",)},
        modes=frozenset({"16bit-mode", "32bit-mode", "64bit-mode"}),
        unchecked={"64bit": cpus_with_64bit, "cx16": cpus_with_cx16, "nopl": cpus_with_nopl, "sahf": cpus_with_sahf},
    ),
    "aarch64": Inlining(
        base_cpu="generic",
        bare=("-fp-armv8", "-ete", "-trbe", "-perfmon"),
        tune_cpu="cortex-a35",
        untuned=("-a35",),
        literal=(),
        triples={"aarch64-unknown-linux-gnu": ()},
        modes=frozenset(),
        unchecked={},
    ),
}
READ = {
    "arm": "arm-unknown-linux-gnueabihf",
    "riscv": "riscv64-unknown-linux-gnu",
    "powerpc": "powerpc64le-unknown-linux-gnu",
    "s390x": "s390x-unknown-linux-gnu",
    "loongarch": "loongarch64-unknown-linux-gnu",
}


def facts_of(arch: str) -> Facts:
    """Return what the LLVM in this process knows of an architecture."""
    return ask_inliner(INLINED[arch]) if arch in INLINED else read_tables(READ[arch])


def has_target(arch: str) -> bool:
    """Whether this LLVM has a target for an architecture."""
    try:
        return bool(target(READ.get(arch) or next(iter(INLINED[arch].triples))))
    except RuntimeError:
        return False


def table(facts: Facts) -> list[Row]:
    """Return the rows: kind, name, class, features."""
    features = [("feature", name, kind, spelled(facts.implied[name])) for name, kind in facts.classes.items()]
    return features + [("cpu", cpu, "-", spelled(names)) for cpu, names in facts.has.items()]


def spelled(names: Iterable[str]) -> str:
    """Return the cell that holds these names."""
    return " ".join(sorted(names)) or "-"


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
    parser.add_argument("--check", action="store_true", help="compare with the committed tables instead of writing")
    parser.add_argument("--arch", choices=[*INLINED, *READ], help="only this one")
    options = parser.parse_args()

    changes = list[str]()
    for arch in filter(has_target, [options.arch] if options.arch else [*INLINED, *READ]):
        name = f"data/{arch}/llvm-{LLVM}.tsv"
        path = ROOT / name
        text = written(table(facts_of(arch)))
        if options.check:
            changes += differences(name, path.read_text(encoding="utf-8") if path.exists() else "", text)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.writelines(f"{line}\n" for line in changes)
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main())
