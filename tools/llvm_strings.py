"""Hand every feature string of cpufeat to the LLVM that it is for, and look at the subtarget that LLVM makes of it.

    python tools/llvm_strings.py [--zig PROGRAM | --llc PROGRAM] [--arch ARCH]

The LLVM is that of the installed llvmlite, of a Zig (see llvm_tables.py), or of an llc. The strings are those of every
level and CPU of every architecture, of each of these without a feature at random, and of sets at random. LLVM must
compile for each without a word. Where it tells, the subtarget must have the features that are meant, and no others:

- x86 and AArch64, but with llc: by the inliner, as in llvm_tables.py;
- RISC-V, from LLVM 17 on: by the extensions that the assembly names (`.attribute 5, "rv64i2p1_..."`).

Prints a line for each architecture, and what is wrong; exit status 1 if anything is.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cpufeat import Target, TargetError, llvm_tables, tables  # noqa: E402
from cpufeat.cpus import cpus  # noqa: E402
from cpufeat.features import FeatureSet, family, find, table  # noqa: E402
from cpufeat.levels import baseline, levels, required_features  # noqa: E402
from cpufeat.triples import complete  # noqa: E402
from tools.llvm_tables import INLINED, Function, bare, features_of_callers  # noqa: E402
from tools.llvms import I686, X86_64, Llc, Llvmlite, Zig  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.llvms import Source

SETS = 40
"""How many sets of features at random an architecture is asked about."""
CONTRADICTORY = ("arm", "loongarch", "powerpc", "riscv")
"""Families whose LLVM refuses some sets: Thumb-2 without Armv6T2, 32 and 64 bits, 64 bits and SPE, D and Zdinx."""
X86_TRIPLES: dict[str, dict[str, tuple[str, ...]]] = {"x86_64": {X86_64: ("+64bit",)}, "i686": {I686: ()}}
UNTOLD = {"64bit", "32bit", "i", "e", "zcf"}
"""What the name of a RISC-V architecture says in another way, or adds by itself where C and F are."""
DENIED = {17: {"zvknha", "zvknhb"}}
"""What an LLVM gets less of than a target has: LLVM 17 takes Zvknhb to have Zvknha, and names both for Zvkn."""


class Question(NamedTuple):
    """What LLVM is given, and the names of its features that are on."""

    cpu: str
    features: str
    on: frozenset[str]


def targets(arch: str, triple: str) -> Iterator[Target]:
    """Yield the targets of an architecture whose strings are tried."""
    generator = random.Random(f"{arch} 1")
    hardware = [name for name, feature in table(arch).items() if feature.kind in ("isa", "privileged")]
    required = required_features(arch)
    named = list[Target]()
    for name in dict.fromkeys([*levels(arch), *cpus(arch)]):
        try:
            named.append(Target.parse(name, triple))
        except TargetError:
            continue  # a 32-bit CPU has no 64-bit code
    yield from named
    for target in named:
        removed = generator.choice([*(target.features - required), "no-feature"])
        kept = [name for name in target.features if removed not in FeatureSet(arch, [name]).closed().names]
        yield Target(triple, target.cpu, FeatureSet(arch, kept).closed())
    if family(arch) in CONTRADICTORY:
        return
    base = Target.parse(baseline(arch), triple).features
    for _ in range(SETS):
        sample = FeatureSet(arch, generator.sample(hardware, min(len(hardware), generator.choice((1, 5, 20)))))
        yield Target(triple, generator.choice(named).cpu, (base | sample).closed())


def questions(arch: str, triple: str, version: int) -> list[Question]:
    """Return the distinct questions to a version of LLVM."""
    strings = ((target.llvm_cpu(version), target.llvm_features(version)) for target in targets(arch, triple))
    return [
        Question(cpu, features, frozenset(name[1:] for name in features.split(",") if name[0] == "+"))
        for cpu, features in dict.fromkeys(strings)
    ]


def inlined_differences(llvm: Source, arch: str, version: int, asked: Sequence[Question]) -> Iterator[str]:
    """Yield where the inliner finds a subtarget with other features than its string says."""
    architecture = INLINED[family(arch)]
    if arch in X86_TRIPLES:
        architecture = architecture._replace(triples=X86_TRIPLES[arch])
    rows = tables.rows(f"{family(arch)}/llvm-{version}.tsv")
    features = [name for kind, name, of_class, _ in rows if kind == "feature" and of_class == "isa"]
    known = {feature[1:] for feature in asked[0].features.split(",")}
    callers = [
        Function(question.cpu, architecture.tune_cpu, (*architecture.untuned, *question.features.split(",")))
        for question in asked
    ]
    *answers, unseen = features_of_callers(llvm, architecture, features, [*callers, bare(architecture)])
    told = known & set(features) - unseen - architecture.unchecked.keys()
    for question, answer in zip(asked, answers, strict=True):
        if wrong := sorted((answer ^ question.on) & told):
            yield f"{question.cpu}: {' '.join(wrong)} otherwise than in {question.features}"


def named_differences(arch: str, version: int, question: Question, assembly: str) -> Iterator[str]:
    """Yield where the assembly of RISC-V names other extensions than the string."""
    architecture = re.search(r'\.attribute\s+5, "rv\d+([^"]*)"', assembly)
    if architecture is None:
        yield f"{question.cpu}: no architecture in the assembly"
        return
    extensions = [re.sub(r"\d+p\d+$", "", part) for part in architecture[1].split("_")]
    named = {find(arch, name).name for name in extensions}
    meant = {find(arch, name).name for name in question.on}
    sums = {name for name, feature in table(arch).items() if "&" in feature.bit}  # are named where all their parts are
    asked = {find(arch, name).name for name in llvm_tables.load(arch, version).implied}
    asked -= UNTOLD | sums | DENIED.get(version, set())
    if wrong := sorted((named ^ meant) & asked):
        yield f"{question.cpu}: {' '.join(wrong)} otherwise than in {question.features}"


def differences(llvm: Source | Llc, arch: str, triple: str, asked: Sequence[Question]) -> Iterator[str]:
    """Yield what LLVM says of the strings, and where a subtarget is not what the string says."""
    version = llvm.version[0]
    names_extensions = family(arch) == "riscv" and version >= 17
    if isinstance(llvm, Llvmlite):
        yield from llvm.complaints(triple, [(question.cpu, question.features) for question in asked])
    else:
        for question in asked:
            compiled = llvm.compiled(triple, question.cpu, question.features)
            if compiled.stderr or compiled.returncode:
                said = compiled.stderr.decode().partition("\n")[0]
                yield f"{question.cpu}: {said} (exit status {compiled.returncode}) for {question.features}"
            elif names_extensions:
                yield from named_differences(arch, version, question, compiled.stdout.decode())
    if family(arch) in INLINED and not isinstance(llvm, Llc):
        yield from inlined_differences(llvm, arch, version, asked)


def main() -> int:
    """Run the command line, and return its exit status."""
    parser = argparse.ArgumentParser(description="Hand every feature string to the LLVM that it is for.")
    parser.add_argument("--zig", type=Path, metavar="PROGRAM", help="ask this Zig, not the llvmlite that is installed")
    parser.add_argument("--llc", type=Path, metavar="PROGRAM", help="ask this llc")
    parser.add_argument("--arch", help="only this architecture, as the kernel calls it")
    options = parser.parse_args()

    llvm = Zig(options.zig) if options.zig else Llc(options.llc) if options.llc else Llvmlite()
    wrong = 0
    for arch, *_ in tables.rows("architectures.tsv"):
        triple = complete(arch)
        if options.arch not in (None, arch) or not llvm.has_target(triple):
            continue
        asked = questions(arch, triple, llvm.version[0])
        found = list(differences(llvm, arch, triple, asked))
        wrong += len(found)
        print(f"LLVM {llvm.version[0]} {arch}: {len(asked)} strings, {len(found)} differences")
        print("".join(f"  {line[:200]}\n" for line in found[:3]), end="", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
