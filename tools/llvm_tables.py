"""Write what an LLVM knows of each architecture's features and CPUs: data/ARCH/llvm-NN.tsv.

    python tools/llvm_tables.py [--check] [--arch ARCH] [--zig PROGRAM]

The LLVM is that of the installed llvmlite, or that of a Zig, for the versions that no llvmlite has: 0.11 has LLVM 16,
0.12 has 17, 0.13 has 18, 0.14 has 19, 0.16 has 21. Its program is in the wheel of ziglang, `ziglang/zig`. Both give the
same tables where they have the same LLVM. NN is the major version. With --check nothing is written: the committed
tables are compared, comments apart, and a difference is printed with exit status 1. An architecture that this LLVM
lacks is passed over.

The names are what LLVM lists for the feature string `+help`, in LLVM's order, which is by ASCII. The rest comes from
one of two places. Where both can be asked, they say the same.

**The inliner** (x86, aarch64) puts a callee with `"target-features"="+f"` into a caller exactly when the caller's
subtarget has every bit of the callee's (`areInlineCompatible` of the target's TargetTransformInfo). So a caller with
`"target-cpu"="c"` shows what c has, and one with `"target-features"="+f"` what f implies, by however many steps.
Callers and callees are tuned for one and the same CPU, since the tuning flags of a CPU are bits like any others.

**LLVM's own tables** (the others), which TableGen wrote into the library. A feature's entry holds its name, its bit
and the bits that it directly implies; a CPU's holds those of its features and those of its tuning (MCSubtargetInfo.h:
`SubtargetFeatureKV`, `SubtargetSubTypeKV`). The listed names lead to them, in llvmlite's library as Linux has loaded it
into this process, and in Zig's program. What a
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
- LLVM 18 to 21 read `+avx512...` on their default CPUs as if `+evex512` followed, unless the string mentions evex512.
  The table holds this as an implication: whoever closes a set under the table never writes `-evex512` beside
  `+avx512f`, which would take the 512-bit registers away.
- The check ignores four features that are no tuning, and no feature is taken to imply any of them. `64bit` is told by
  LLVM aborting in 64-bit mode on a CPU without it, `cx16` by a 16-byte compare-and-swap, `nopl` by the padding
  between functions. `sahf` changes nothing that LLVM emits, so it is inferred: LLVM's 64-bit CPUs have it from the
  generations on that brought SSSE3 (Intel, Core 2) and SSE4a (AMD, family 10h).
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.llvms import I686, X86_64, Llvmlite, Zig  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tools.llvms import Source

Sets = dict[str, set[str]]
Row = tuple[str, str, str, str]
Words = tuple[int, ...]


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
    unchecked: dict[str, Callable[[Source, Sets], set[str]]]  # feature -> those of the CPUs that have it


def listed_names(llvm: Source, triple: str) -> tuple[list[str], list[str]]:
    """Return the CPUs and the features that LLVM lists, in its order."""
    cpus, features = llvm.listing(triple).split("Available features for this target:")
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


def inlined(llvm: Source, triple: str, callers: Sequence[Function], callees: Sequence[Function]) -> list[set[int]]:
    """Return, for each caller, the indices of the callees that LLVM inlines into it."""
    calls = "".join(f"  call void @callee{index}()\n" for index in range(len(callees)))
    functions = [
        "declare void @opaque()\n",
        *(define(f"callee{index}", callee, "  call void @opaque()\n") for index, callee in enumerate(callees)),
        *(define(f"caller{index}", caller, calls) for index, caller in enumerate(callers)),
    ]
    optimised = llvm.optimised(triple, "".join(functions))
    bodies = re.findall(r"^define [^\n]*@caller\d+\(\)[^\n]*\n(.*?)^}", optimised, re.M | re.S)
    all_callees = set(range(len(callees)))
    return [all_callees - {int(index) for index in re.findall(r"@callee(\d+)\(", body)} for body in bodies]


def bare(architecture: Inlining, *features: str) -> Function:
    """Return a function that has these features, what they imply, and nothing else."""
    without = (*architecture.untuned, *architecture.bare)
    return Function(architecture.base_cpu, architecture.tune_cpu, (*without, *features))


def features_of_callers(
    llvm: Source, architecture: Inlining, features: Sequence[str], callers: Sequence[Function]
) -> list[set[str]]:
    """Return, for each caller, those of the features that LLVM's check does not miss in it."""
    literal = [change for change in architecture.literal if change[1:] in features]
    callees = [bare(architecture, *literal, f"+{name}") for name in features]
    answers = [set(features) for _ in callers]
    for triple, needed in architecture.triples.items():
        callers_there, callees_there = (
            [function._replace(features=(*needed, *function.features)) for function in functions]
            for functions in (callers, callees)
        )
        for answer, callees_inlined in zip(answers, inlined(llvm, triple, callers_there, callees_there), strict=True):
            answer &= {features[index] for index in callees_inlined}
    return answers


def closure(names: Iterable[str], direct: Sets) -> set[str]:
    """Return the names and all that they imply, by however many steps."""
    closed = set(names)
    while not closed.issuperset(added := set[str]().union(*(direct[name] for name in closed))):
        closed |= added
    return closed


def cpus_with_64bit(llvm: Source, cpus: Sets) -> set[str]:
    """Return the CPUs for which LLVM generates 64-bit code."""
    return llvm.accepts_in_64bit_mode(list(cpus))


def cpus_with_cx16(llvm: Source, cpus: Sets) -> set[str]:
    """Return the CPUs for which LLVM compares and swaps 16 bytes by an instruction, not by a call."""
    pointer = "ptr" if llvm.version[0] > 15 else "i128*"  # llvmlite's LLVM 15 still has typed pointers
    swap = f"  cmpxchg {pointer} @word, i128 0, i128 1 seq_cst seq_cst\n"
    functions = [define(f"f{index}", Function(cpu, "generic", ("+64bit",)), swap) for index, cpu in enumerate(cpus)]
    assembly = llvm.assembly(X86_64, "@word = global i128 0\n" + "".join(functions))
    bodies = re.split(r"^f\d+:", assembly, flags=re.M)[1:]
    return {cpu for cpu, body in zip(cpus, bodies, strict=True) if "cmpxchg16b" in body}


def cpus_with_nopl(llvm: Source, cpus: Sets) -> set[str]:
    """Return the CPUs for which LLVM pads 32-bit code with anything but single bytes."""
    functions = [define(f"f{index}", Function(cpu, "generic"), "") for index, cpu in enumerate(["generic", *cpus])]
    text = llvm.code(I686, "".join(functions))
    # Each function is one RET at a multiple of 16, and the padding before it is made as its own subtarget allows.
    return {cpu for index, cpu in enumerate(cpus) if text[16 * index + 1 : 16 * index + 16] != b"\x90" * 15}


def cpus_with_sahf(_: Source, cpus: Sets) -> set[str]:
    """Return the 64-bit CPUs that have SSSE3 or SSE4a."""
    return {cpu for cpu, features in cpus.items() if "64bit" in features and features & {"ssse3", "sse4a"}}


def ask_inliner(llvm: Source, architecture: Inlining) -> Facts:
    """Return what the inliner says."""
    modes, unchecked = architecture.modes, architecture.unchecked
    cpus, listed = listed_names(llvm, next(iter(architecture.triples)))
    features = [name for name in listed if name not in modes]
    callers = [
        *(Function(cpu, architecture.tune_cpu, architecture.untuned) for cpu in cpus),
        *(bare(architecture, f"+{name}") for name in features),
        *(Function(architecture.base_cpu, cpu) for cpu in cpus),
        bare(architecture),
    ]
    answers = features_of_callers(llvm, architecture, features, callers)
    always = answers.pop()
    has, implied, brought = answers[: len(cpus)], answers[len(cpus) : -len(cpus)], answers[-len(cpus) :]

    tuning = set[str]().union(*brought) - set[str]().union(*(answer - always for answer in has)) - unchecked.keys()
    checked = set(features) - tuning - unchecked.keys()
    direct = {name: checked & answer - {name} for name, answer in zip(features, implied, strict=True)}
    cpu_features = {cpu: checked & answer for cpu, answer in zip(cpus, has, strict=True)}
    for name, cpus_with in unchecked.items():
        for cpu in cpus_with(llvm, cpu_features):
            cpu_features[cpu].add(name)
    return Facts(
        {name: "mode" if name in modes else "tuning" if name in tuning else "isa" for name in listed},
        # What LLVM reads into a string is no bit of the feature, so it does not carry over to what implies the feature.
        {name: closure(direct.get(name, ()), direct) for name in listed},
        cpu_features,
    )


def entries(llvm: Source, names: Sequence[str], sizes: Sequence[int]) -> Iterator[list[Words]]:
    """Yield the arrays whose entries, of one of the sizes in 64-bit words, begin with pointers to the names."""
    image = llvm.image
    keys = [name.encode() + b"\0" for name in names]
    for start, size in itertools.product(image.pointers(keys[0]), sizes):
        words = image.content[start : start + 8 * size * len(keys)]
        if len(words) == 8 * size * len(keys):
            array = list(struct.iter_unpack(f"<{size}Q", words))
            if all(image.holds(entry[0], key) for key, entry in zip(keys, array, strict=True)):
                yield array


def have_bits(array: Sequence[Words]) -> bool:
    """Whether these are the entries of features: each has a bit of its own, among those that an entry has room for."""
    bits = {entry[2] & 0xFFFFFFFF for entry in array}
    return len(bits) == len(array) and max(bits) < 64 * (len(array[0]) - 3)


def read_tables(llvm: Source, triple: str) -> Facts:
    """Return what LLVM's own tables say."""
    cpus, features = listed_names(llvm, triple)
    # Clang has tables of the same names that begin alike (PPCTargetParser.cpp, from LLVM 21 on).
    array = next(filter(have_bits, entries(llvm, features, range(4, 24))), None)
    if array is None:
        raise RuntimeError(f"{llvm.origin}: no table of {features[0]} ... {features[-1]} in its library")
    width = len(array[0]) - 3
    feature_entries = dict(zip(features, array, strict=True))
    bits = {name: entry[2] & 0xFFFFFFFF for name, entry in feature_entries.items()}

    def named(words: Sequence[int]) -> set[str]:
        return {name for name, bit in bits.items() if words[bit // 64] >> bit % 64 & 1}

    direct = {name: named(entry[3:]) for name, entry in feature_entries.items()}
    cpu_entries = dict(zip(cpus, next(entries(llvm, cpus, [2 * width + 2])), strict=True))
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


def facts_of(llvm: Source, arch: str) -> Facts:
    """Return what an LLVM knows of an architecture."""
    return ask_inliner(llvm, INLINED[arch]) if arch in INLINED else read_tables(llvm, READ[arch])


def triple_of(arch: str) -> str:
    """Return a triple of an architecture."""
    return READ.get(arch) or next(iter(INLINED[arch].triples))


def table(facts: Facts) -> list[Row]:
    """Return the rows: kind, name, class, features."""
    features = [("feature", name, kind, spelled(facts.implied[name])) for name, kind in facts.classes.items()]
    return features + [("cpu", cpu, "-", spelled(names)) for cpu, names in facts.has.items()]


def spelled(names: Iterable[str]) -> str:
    """Return the cell that holds these names."""
    return " ".join(sorted(names)) or "-"


def written(llvm: Source, rows: Iterable[Row]) -> str:
    """Return the text of a table."""
    version = ".".join(map(str, llvm.version))
    lines = ["\t".join(row) for row in [("kind", "name", "class", "features"), *rows]]
    return (
        f"# Written by tools/llvm_tables.py with {llvm.origin} (LLVM {version}); do not edit.\n"
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
    parser = argparse.ArgumentParser(description="Write what an LLVM knows: data/ARCH/llvm-NN.tsv.")
    parser.add_argument("--check", action="store_true", help="compare with the committed tables instead of writing")
    parser.add_argument("--arch", choices=[*INLINED, *READ], help="only this one")
    parser.add_argument("--zig", type=Path, metavar="PROGRAM", help="ask this Zig, not the llvmlite that is installed")
    options = parser.parse_args()

    llvm: Source = Zig(options.zig) if options.zig else Llvmlite()
    changes = list[str]()
    for arch in [options.arch] if options.arch else [*INLINED, *READ]:
        if not llvm.has_target(triple_of(arch)):
            continue
        name = f"data/{arch}/llvm-{llvm.version[0]}.tsv"
        path = ROOT / name
        text = written(llvm, table(facts_of(llvm, arch)))
        if options.check:
            changes += differences(name, path.read_text(encoding="utf-8") if path.exists() else "", text)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    sys.stdout.writelines(f"{line}\n" for line in changes)
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main())
