"""Hand attribute strings to LLVM and print what its subtargets then have. Needs llvmlite and tools/llvm_tables.py only.

    python llvm_subtarget.py < questions

A question is a line of JSON: a triple, a CPU, an attribute string and the features to ask about. The answer is a line
too: those features that LLVM finds in a function without attributes, whose subtarget is the TargetMachine's, and in one
that has the same CPU and string as its own attributes. LLVM complains on standard error.
"""

from __future__ import annotations

import json
import re
import sys

from llvm_tables import ARCHITECTURES, Function, define, parse, run_inliner, target_machine

BASE, BARE = ARCHITECTURES["x86"].base_cpu, ARCHITECTURES["x86"].bare


def subtargets(triple: str, cpu: str, attributes: str, names: list[str]) -> list[list[str]]:
    """The features, of ``names``, of each of the two functions."""
    barest = ("+64bit", *BARE, *(["-evex512"] if "evex512" in names else []))
    callees = [Function(BASE, cpu, (*barest, f"+{name}")) for name in names]
    calls = "".join(f"  call void @callee{index}()\n" for index in range(len(names)))
    module = parse(
        triple,
        "declare void @opaque()",
        *(define(f"callee{index}", callee, "  call void @opaque()\n") for index, callee in enumerate(callees)),
        f"define void @caller0() {{\n{calls}  ret void\n}}\n",
        define("caller1", Function(cpu, cpu, (attributes,)), calls),
    )
    machine = target_machine(triple, cpu, attributes)
    run_inliner(module, machine)
    machine.emit_object(parse(triple, "define i32 @f(i32 %0) {\n  ret i32 %0\n}"))
    bodies = re.findall(r"^define [^\n]*@caller\d\(\).*?^}", str(module), re.M | re.S)
    called = [{int(index) for index in re.findall(r"@callee(\d+)\(", body)} for body in bodies]
    return [[name for index, name in enumerate(names) if index not in indices] for indices in called]


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(subtargets(*json.loads(line))) + "\n")
