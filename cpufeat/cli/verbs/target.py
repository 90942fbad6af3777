"""``cpufeat target``: print the CPU, features, triple and level for a build script."""

from __future__ import annotations

import json

from cpufeat.cli.options import OK, add_machine_or_triple, add_on_missing, llvm_version, target_of
from cpufeat.cpus import cpus
from cpufeat.decisions import STAND_IN, Decision
from cpufeat.detection.detect import default_machine
from cpufeat.features import family
from cpufeat.llvm_tables import newest
from cpufeat.request import NATIVE, arch_of
from cpufeat.resolution import resolve
from cpufeat.support.value import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cpufeat.target import Target

_KEYS = ("triple", "cpu", "features", "level")


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "request",
        metavar="REQUEST",
        nargs="?",
        help="what to compile for (default: native); a CPU of another architecture stands for Linux there",
    )
    parser.add_argument("--print", choices=_KEYS, dest="key", help="print only the value of this key")
    parser.add_argument(
        "--llvm",
        type=llvm_version,
        default=newest(),
        metavar="N",
        help=f"the LLVM version whose names and features to print (default: {newest()})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the decisions made")
    add_machine_or_triple(parser)
    add_on_missing(parser)


def run(options: Namespace) -> int:
    """Print ``key=value`` lines that a shell can evaluate, a single value, or JSON."""
    request, target, decisions = _target(options)
    answer = {
        "triple": target.triple,
        "cpu": target.llvm_cpu(options.llvm),
        "features": target.llvm_features(options.llvm),
        "level": target.level,
    }
    if options.key:
        print(answer[options.key])
    elif options.json:
        input_ = {"request": request, "llvm": options.llvm}
        names = {"names": list(target.features), "options": list(target.options)}
        made = [vars(decision) for decision in (*decisions, *_stand_in(target, options.llvm))]
        print(json.dumps({**input_, **answer, **names, "decisions": made}, indent=2))
    else:
        print("\n".join(f"{key}={value}" for key, value in answer.items()))
    return OK


def _stand_in(target: Target, llvm: int) -> list[Decision]:
    """Return the decision to tune for another CPU, where this LLVM does not have the target's."""
    cpu = target.llvm_cpu(llvm)
    if cpu == target.cpu or target.cpu not in cpus(target.arch):
        return []
    evidence = f"data/{family(target.arch)}/cpus.tsv"
    return [Decision(STAND_IN, cpu, f"stands in for {target.cpu}, which LLVM {llvm} does not have", evidence)]


def _target(options: Namespace) -> tuple[str, Target, tuple[Decision, ...]]:
    if options.triple is None and options.request is not None:
        here = default_machine().arch
        arch = arch_of(options.request, here)
        options.triple = arch if arch != here else None
    if options.triple is not None:
        return target_of(options)
    resolution = resolve(options.request, on_missing=options.on_missing or "fallback")
    of_host = resolution.host.decisions if resolution.request == NATIVE else ()
    stand_ins = tuple(decision for decision in of_host if decision.kind == STAND_IN)
    return resolution.request, resolution.target, (*stand_ins, *resolution.decisions)
