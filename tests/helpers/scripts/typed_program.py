"""A user's program that touches all of the public API: .ci/run checks it with mypy and pyright, and runs it."""

# ruff: noqa: S301, T201
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import pickle
import tempfile
import warnings
from pathlib import Path

import cpufeat
from cpufeat import aot

IR = "define i32 @answer() {\n ret i32 42\n}\n"


def select() -> cpufeat.Target:
    """Ask what to compile for, and why."""
    host: cpufeat.Host = cpufeat.detect()
    cores: list[cpufeat.Core] = list(host.cores)
    resolution: cpufeat.Resolution = cpufeat.resolve("native", host=host, on_missing="error")
    decisions: tuple[cpufeat.Decision, ...] = resolution.decisions
    explanation: cpufeat.Explanation = cpufeat.explain("native")
    withheld: dict[str, cpufeat.Withheld] = host.withheld
    missing: cpufeat.Withheld | None = host.why_missing(next(iter(host.features)))
    print(cpufeat.__version__, cores, len(decisions), explanation.verdict, len(withheld), missing)
    target: cpufeat.Target = cpufeat.target_for_host()
    print(target <= host, host >= target, (target & host).key, target.llvm_cpu(), len(target.llvm_features(20)))
    return cpufeat.Target.parse("x86-64-v2", "x86_64-unknown-linux-gnu")


def rows(names: list[str]) -> list[cpufeat.Feature]:
    """Name the type of a row, which no public function returns."""
    return [feature for feature in map(dict[str, cpufeat.Feature]().get, names) if feature is not None]


def look_up(features: cpufeat.FeatureSet) -> list[str]:
    """Use a set of features."""
    some: bool = "sse4.1" in features and features.isa <= features
    return list(features - features.without(["sse4.2"])) if some else []


def replay(folder: Path) -> cpufeat.Machine:
    """Write a recording, and read it."""
    recording = cpufeat.Recording(files={"/proc/cpuinfo": b"flags : fpu\n"})
    _ = (folder / "machine.json").write_text(recording.to_json())
    machine: cpufeat.Machine = cpufeat.load_machine(folder / "machine.json")
    return machine if machine == recording else cpufeat.ThisMachine()


def build(folder: Path, target: cpufeat.Target) -> None:
    """Compile, save, link, audit, check, verify and load."""
    artifact: aot.Artifact = aot.compile(IR, targets=[target, "x86-64"], opt=1, guard=False)
    variants: tuple[aot.Variant, ...] = artifact.variants
    artifact.save(folder / "answer.o")
    aot.link([artifact], folder / "copy.o", kind="object")
    audit: cpufeat.Audit = cpufeat.audit(folder / "answer.o")
    check: cpufeat.Check = cpufeat.check(folder / "answer.o", "nehalem")
    library: aot.Library = aot.Artifact.open(folder / "answer.o").load()
    address: int = library["answer"]
    print(len(variants), audit.needs, check.verdict, address != 0)


def compile_c(file: Path) -> aot.Source:
    """Compile C; needs an extra of its own."""
    return aot.from_c(file, "x86_64-unknown-linux-gnu")


def emulate(file: Path) -> list[str]:
    """Run a program on emulated CPUs."""
    runs: list[cpufeat.Run] = list(cpufeat.verify(file, ["Nehalem"], time_limit=5.0))
    return [run.result for run in runs]


ERRORS: tuple[type[Exception], ...] = (
    cpufeat.CpufeatError,
    cpufeat.ArtifactError,
    cpufeat.AuditError,
    cpufeat.CompileError,
    cpufeat.DumpError,
    cpufeat.LinkError,
    cpufeat.MissingExtraError,
    cpufeat.MissingFeaturesError,
    cpufeat.OptionError,
    cpufeat.TargetError,
    cpufeat.UnknownNameError,
    cpufeat.VerifyError,
    FileNotFoundError,
)


def wrong(folder: Path) -> None:
    """Meet errors, and a name that there is not."""
    for attempt in (compile_c, emulate):
        try:
            attempt(folder / "absent")
        except ERRORS as error:
            print(type(error).__name__)
    try:
        cpufeat.target_for_host("haswel")
    except cpufeat.UnknownNameError as error:
        print(error.kind, error.name, error.nearest)
    try:
        print(cpufeat.nothing)  # type: ignore[attr-defined]  # pyright: ignore
    except AttributeError as error:
        print(error)
    try:
        print(aot.nothing)  # type: ignore[attr-defined]  # pyright: ignore
    except AttributeError as error:
        print(error)


def main() -> None:
    """Do all of it."""
    warnings.simplefilter("error", cpufeat.CpufeatWarning)
    target = select()
    again = pickle.loads(pickle.dumps(target))
    print(again == target, look_up(target.features))
    with tempfile.TemporaryDirectory() as name:
        print(type(replay(Path(name))).__name__)
        build(Path(name), target)
        wrong(Path(name))


if __name__ == "__main__":
    main()
