"""An example of every public value and of every error, and what worker processes do with them."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, NoReturn

import pytest

import cpufeat
from cpufeat import aot, errors
from cpufeat.aot.frontend import module
from cpufeat.aot.llvm.job import EmitError, LimitError
from cpufeat.auditing.dataflow.facts import BudgetExceededError
from cpufeat.auditing.report import IsaNote, Misaligned, Undecoded, Unknown
from cpufeat.detection.host import Core
from cpufeat.features import table
from cpufeat.running.death import Death
from cpufeat.running.file_check import Check, Lack
from cpufeat.running.verify import Run
from helpers.llvm_data import features_of
from helpers.machines import INTEL, machine

if TYPE_CHECKING:
    from collections.abc import Iterator

IR = """define void @f(ptr %a) {
 %b = load <8 x float>, ptr %a
 %c = fadd <8 x float> %b, %b
 store <8 x float> %c, ptr %a
 ret void
}
"""
TRIPLE = "x86_64-unknown-linux-gnu"

ERRORS: tuple[Exception, ...] = (
    errors.CpufeatError("what went wrong"),
    errors.UnknownNameError("x86 feature", "avx3", ("avx", "avx2")),
    errors.MissingExtraError("audit", "No module named 'lief'"),
    errors.MissingFeaturesError("haswell", {"avx2": "not reported (CPUID 7.0:EBX[5] is 0)"}),
    errors.DumpError("dump.txt: line 3: no number"),
    errors.TargetError("'native' is relative to a host"),
    errors.OptionError("opt must be one of 0, 1, 2, 3, not 5"),
    errors.CompileError("kernel.ll: function f: it hung", "f"),
    EmitError("LLVM aborted", "f"),
    LimitError("more than 600 s", "f"),
    errors.LinkError("cc was not found"),
    errors.ArtifactError("no note of cpufeat"),
    errors.AuditError("a.txt: not a binary"),
    errors.VerifyError("a.so: a library"),
    errors.CpufeatWarning("x86-64-v4: left out avx512f"),
    BudgetExceededError(),
)
"""One of every class that cpufeat defines."""


def values() -> list[object]:
    """Values that contain one of every public class."""
    recording = machine(INTEL, 6, 143, features_of("sapphirerapids"), xcr0=0x7)
    host = cpufeat.detect(recording).replace(cores=(Core("sapphirerapids", 2), Core("atom", 1)))
    with pytest.warns(cpufeat.CpufeatWarning, match="left out"):
        explanation = cpufeat.explain("haswell,+avx512f,+prefer_256_bit", machine=recording)
    artifact = aot.compile(IR, targets=[cpufeat.Target.parse(level, TRIPLE) for level in ("x86-64-v3", "x86-64")])
    audit = cpufeat.audit(artifact.object).replace(
        misaligned=(Misaligned(4096, "f", "addps xmm0, [rip]", 8196, "table", 16, 4),),
        note=IsaNote("x86-64-v3", "", ("it says nothing of avx",)),
        undecoded=(Undecoded(4100, 3, ".text+0x4", "data"),),
        unknown=(Unknown(4100, ".text+0x4", "06", "f", "", "no instruction that is known", certain=True),),
    )
    lack = Lack("avx2", "not reported", "f", "exported", ".text+0x4", 4, "vpaddd ymm0, ymm0, ymm1", certain=True)
    check = Check("app", "nehalem", "may not run", reasons=("it uses avx2",), lacks=(lack,), rebuild=(("x86-64-v2",),))
    death = Death("/lib/libfoo.so", "foo", 0x1040, "vpabsb ymm0, ymm0", ("avx2",))
    run = Run("Nehalem", "x86-64-v2", "qemu-x86_64", "died", signal="SIGILL", stdout=b"\x00out", variants=("x86-64",))
    run = run.replace(death=death)
    feature = table("x86_64")["avx512vnni"]
    source = module.read(IR)
    return [recording, host, explanation, explanation.resolution, artifact, audit, check, run, feature, source]


def modules() -> Iterator[str]:
    """The name of every module of cpufeat, each imported; not those that are programs, or run in frozen ones."""
    for info in pkgutil.walk_packages(cpufeat.__path__, "cpufeat."):
        if ".__" not in info.name:
            importlib.import_module(info.name)
            yield info.name


def unchanged(value: object) -> object:
    """Return a value, from a worker process."""
    return value


def failing(index: int) -> NoReturn:
    """Raise an error in a worker process."""
    raise ERRORS[index]
