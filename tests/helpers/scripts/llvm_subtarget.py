"""Hand attribute strings to LLVM and print what its subtargets then have. Needs nothing but llvmlite.

    python llvm_subtarget.py < questions

A question is a line of JSON: a triple, a CPU, an attribute string and the features to ask about. The answer is a line
too: those features that LLVM finds in a function without attributes, whose subtarget is the TargetMachine's, and in one
that has the same CPU and string as its own attributes. LLVM complains on standard error.

LLVM's inliner tells: it puts a function into its caller only if the caller's subtarget has all that the function's has.
So each feature gets a function of its own, tuned like the caller and with nothing else but what 64-bit code must have.
"""

from __future__ import annotations

import json
import re
import sys

from llvmlite import binding

BAREST = ("+64bit", "-x87", "-cx8", "-evex512")
LLVM = binding.llvm_version_info[0]


def target_machine(triple: str, cpu: str, attributes: str) -> binding.TargetMachine:
    if LLVM < 20:  # later llvmlites do this by themselves, and refuse the call
        binding.initialize()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=attributes, opt=2)


def run_inliner(module: binding.ModuleRef, machine: binding.TargetMachine) -> None:
    if LLVM < 20:
        passes = binding.create_module_pass_manager()
        machine.add_analysis_passes(passes)
        passes.add_function_inlining_pass(225)
        passes.run(module)
        return
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)


def define(name: str, body: str, **attributes: str) -> str:
    written = " ".join(f'"{key.replace("_", "-")}"="{value}"' for key, value in attributes.items())
    return f"define void @{name}() {written} {{\n{body}  ret void\n}}\n"


def subtargets(triple: str, cpu: str, attributes: str, names: list[str]) -> list[list[str]]:
    """The features, of ``names``, of each of the two functions."""
    barest = [change for change in BAREST if change[1:] in names]
    calls = "".join(f"  call void @callee{index}()\n" for index in range(len(names)))
    functions = [f'target triple = "{triple}"\ndeclare void @opaque()\n']
    for index, name in enumerate(names):
        features = ",".join([*barest, f"+{name}"])
        body = "  call void @opaque()\n"
        functions.append(define(f"callee{index}", body, target_cpu="generic", tune_cpu=cpu, target_features=features))
    functions.append(define("caller0", calls))
    functions.append(define("caller1", calls, target_cpu=cpu, target_features=attributes))
    module = binding.parse_assembly("".join(functions))
    machine = target_machine(triple, cpu, attributes)
    run_inliner(module, machine)
    machine.emit_object(binding.parse_assembly(f'target triple = "{triple}"\n' + define("empty", "")))
    bodies = re.findall(r"^define [^\n]*@caller\d\(\).*?^}", str(module), re.M | re.S)
    called = [{int(index) for index in re.findall(r"@callee(\d+)\(", body)} for body in bodies]
    return [[name for index, name in enumerate(names) if index not in indices] for indices in called]


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(subtargets(*json.loads(line))) + "\n")
