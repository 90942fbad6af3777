"""The features found are those that LLVM's own host detection finds in the same place.

The places are this machine, every emulated CPU, recorded machines, and made-up ones that bring out each bit and each
difference. Where the two differ on purpose, DIFFERENCES says why.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers.corpora import needs_corpora
from helpers.environment import ENVIRONMENT
from helpers.machines import made_up
from helpers.paths import CORPUS, SCRIPTS
from helpers.qemu import NO_64_BIT, models, run, side_by_side

import cpufeat
from cpufeat import llvm_tables
from cpufeat.detection import dumps
from cpufeat.detection.cpuid import Cpuid
from cpufeat.features import find, implied, table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ARCH = "x86_64"
FEATURES = table(ARCH)
ASK_BOTH = str(SCRIPTS / "llvm_host.py")


class Difference(NamedTuple):
    """Features that one of the two finds and the other does not, in these versions of LLVM, for a reason."""

    found_by: str
    versions: range
    names: str
    reason: str


ALL = range(14, 23)
DIFFERENCES = [
    Difference("cpufeat", ALL, "x87 nopl", "LLVM's detection never names them; every 64-bit CPU has them"),
    Difference("cpufeat", range(14, 20), "3dnow 3dnowa", "LLVM's detection never named them"),
    Difference("cpufeat", range(20, 22), "evex512", "LLVM 20 names it only beside AVX-512F; alone it permits nothing"),
    Difference("cpufeat", range(22, 23), "evex512", "LLVM 22 has left it out of its detection"),
    Difference(
        "cpufeat", ALL, "xsave xsaveopt xsavec xsaves", "LLVM wants the AVX bit as well; XCR0 decides (SDM 1, 13.3)"
    ),
    Difference("cpufeat", ALL, "prfchw", "LLVM does not take it from 3DNow!, of which it is a part (AMD APM volume 3)"),
    Difference("cpufeat", range(20, 22), "avx10_2", "LLVM 20 takes the version number of leaf 24 for yes or no"),
    Difference("cpufeat", range(14, 22), "prefetchi", "LLVM 22 is the first to read AMD's bit for it"),
    Difference(
        "LLVM",
        ALL,
        "amx_tile amx_int8 amx_bf16 amx_fp16 amx_complex amx_fp8 amx_transpose amx_tf32 amx_avx512 amx_movrs",
        "faults until the process has asked Linux for the permission",
    ),
    Difference(
        "LLVM", ALL, "kl widekl", "faults unless the system has set CR4.KL (19:EBX[0]), which LLVM does not ask"
    ),
    Difference("LLVM", ALL, "lwp", "faults unless XCR0[62] is set, which LLVM does not ask"),
    Difference("LLVM", ALL, "shstk uintr usermsr", "faults unless the system enabled it, which LLVM does not ask"),
    Difference("LLVM", ALL, "rtm", "an erratum (data/x86/errata.tsv): transactions of Haswell give wrong results"),
    Difference("LLVM", range(20, 22), "egpr push2pop2 ppx", "faults unless XCR0[19] is set; LLVM 22 asks"),
    Difference("LLVM", range(20, 23), "ndd ccmp nf cf zu", "has a bit of its own (29:EBX[0]), which LLVM does not ask"),
]


def listed(version: int) -> set[tuple[str, str]]:
    """The differences that one LLVM may have: who finds it, and the feature; none that this LLVM does not know."""
    known = {find(ARCH, name).name for name in llvm_tables.load(ARCH, version).implied}
    return {
        (difference.found_by, name)
        for difference in DIFFERENCES
        for name in difference.names.split()
        if version in difference.versions and name in known
    }


def differences(answers: dict[str, Any]) -> set[tuple[str, str]]:
    """What one of the two finds and the other does not, of what this LLVM knows; what lacks its base is not usable."""
    known = {find(ARCH, name).name for name in llvm_tables.load(ARCH, answers["llvm"]).implied}
    named = {find(ARCH, name).name for name in answers["llvm features"]}
    yes = {find(ARCH, name).name for name, has in answers["llvm features"].items() if has}
    usable = {name for name in yes if implied(ARCH, name) & named <= yes}
    features = set(answers["features"])
    return {("cpufeat", name) for name in known & features - usable} | {
        ("LLVM", name) for name in known & usable - features
    }


def answers_of(process: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def ask_about(machines: Iterable[cpufeat.Recording], python: str) -> list[dict[str, Any]]:
    """Show recordings to cpufeat and to the LLVM of an interpreter."""
    lines = "\n".join(json.dumps(json.loads(machine.to_json())) for machine in machines)
    command = [python, ASK_BOTH, "--recorded"]
    return answers_of(
        subprocess.run(command, env=ENVIRONMENT, input=lines, capture_output=True, text=True, check=False)
    )


def test_llvm_detects_the_same_on_this_machine(llvm_python: str, llvm_version: int) -> None:
    command = [llvm_python, ASK_BOTH]
    process = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    (answers,) = answers_of(process)
    assert answers["llvm"] == llvm_version
    assert differences(answers) <= listed(llvm_version)


# --- machines that are nowhere


def test_invented_machines_show_exactly_the_listed_differences(llvm_python: str, llvm_version: int) -> None:
    generator = random.Random(1)
    answered = ask_about([made_up(generator) for _ in range(400)], llvm_python)
    assert len(answered) == 400
    assert set().union(*map(differences, answered)) == listed(llvm_version)


# --- machines on record


ERRATA = {("LLVM", name) for name in ("rdrnd", "rdseed", "rtm", "sahf")}
"""What LLVM takes CPUID's word for, and ``data/x86/errata.tsv`` withholds from some models."""
E_CORES = {
    *(("gracemont", cpu) for cpu in ("alderlake", "raptorlake", "meteorlake", "arrowlake")),
    *(("sierraforest", cpu) for cpu in ("arrowlake", "arrowlake-s", "lunarlake")),
}
"""An efficiency core bears the model number of the performance cores, by which LLVM goes; 1A:EAX[24-31] differs."""


def cores(path: Path) -> list[cpufeat.Recording]:
    """Each kind of core in a dump, as a machine of its own, with the state that the dump lets one infer."""
    _, machine = dumps.load(str(path))
    each = [cpufeat.Recording(arch=machine.arch, leaves={0: leaves}) for leaves in machine.leaves.values()]
    return [core.replace(xcr0=Cpuid(core).xcr0()[0]) for core in each]


@needs_corpora
def test_llvm_detects_the_same_on_recorded_machines(llvm_python: str, llvm_version: int) -> None:
    paths = sorted(CORPUS.glob("*/*.cpuid"))
    answered = ask_about((core for path in paths for core in cores(path)), llvm_python)
    assert len(answered) > 500
    assert set().union(*map(differences, answered)) <= listed(llvm_version) | ERRATA
    names = {(answers["cpu"], answers["llvm cpu"]) for answers in answered if answers["llvm cpu"] != "generic"}
    if llvm_version == llvm_tables.newest():
        assert {(ours, llvms) for ours, llvms in names if ours != llvms} == E_CORES


# --- emulated CPUs


NAMES = {
    ("btver2", "k8-sse3"): "max is a K8 by its model number, with AVX2; of AMD's CPUs it has all that btver2 has",
    ("cascadelake", "skylake-avx512"): "the stepping says Cascade Lake; LLVM wants AVX512VNNI, which TCG lacks",
    ("cooperlake", "skylake-avx512"): "the stepping says Cooper Lake; LLVM wants AVX512BF16, which TCG lacks",
    ("icelake-server", "tremont"): "QEMU's Ice Lake bears a Tremont's model number, with AVX2",
    ("znver1", "generic"): "LLVM does not know Hygon, whose Dhyana is a Zen",
}
"""Where cpufeat's name for an emulated CPU and LLVM's differ: the two, and the reason."""


NOT_TOLD_BY_QEMU = {("LLVM", "fsgsbase")}
"""It would run; the auxiliary vector, by which Linux tells that it does, is QEMU's own and does not."""


def test_llvm_detects_the_same_on_every_emulated_model(qemu: str) -> None:
    command = [sys.executable, ASK_BOTH]
    every = models(qemu)
    processes = side_by_side(lambda model: run(qemu, model, command, ENVIRONMENT), every)
    can_run = {
        model: process for model, process in zip(every, processes, strict=True) if NO_64_BIT not in process.stderr
    }
    assert len(can_run) > 100
    differing, names = {}, set()
    for model, process in can_run.items():
        (answers,) = answers_of(process)
        beyond = differences(answers) - listed(answers["llvm"]) - ERRATA - NOT_TOLD_BY_QEMU
        if beyond:
            differing[model] = beyond
        if answers["cpu"] != answers["llvm cpu"]:
            names.add((answers["cpu"], answers["llvm cpu"]))
    assert differing == {}
    assert names == NAMES.keys()
