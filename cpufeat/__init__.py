"""Detect what a CPU can really run, select targets for it, and check what binaries need.

``target_for_host`` answers what to compile for on this machine; ``detect``, ``resolve`` and ``explain`` say what it is,
what a request becomes on it, and why. ``audit`` tells what a binary needs, ``check`` whether it runs on a CPU,
``verify`` runs it on others, and ``aot`` compiles for one target or several. All values are immutable, compare by their
contents, and can be pickled; all errors derive from ``CpufeatError``, but a wrong type is a TypeError.

Importing this package reads no file and loads no dependency; each public name is loaded when it is first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cpufeat import aot
    from cpufeat.auditing import Audit, audit
    from cpufeat.decisions import Decision, Withheld
    from cpufeat.detection.detect import detect
    from cpufeat.detection.dumps import load_machine
    from cpufeat.detection.host import Core, Host
    from cpufeat.detection.machine import Machine
    from cpufeat.detection.recording import Recording
    from cpufeat.detection.systems import ThisMachine
    from cpufeat.errors import (
        ArtifactError,
        AuditError,
        CompileError,
        CpufeatError,
        CpufeatWarning,
        DumpError,
        LinkError,
        MissingExtraError,
        MissingFeaturesError,
        OptionError,
        TargetError,
        UnknownNameError,
        VerifyError,
    )
    from cpufeat.explanation import Explanation, explain
    from cpufeat.features import Feature, FeatureSet
    from cpufeat.resolution import Resolution, resolve, target_for_host
    from cpufeat.running.check import check
    from cpufeat.running.file_check import Check
    from cpufeat.running.verify import Run, verify
    from cpufeat.support.version import __version__
    from cpufeat.target import Target

__all__ = [
    "ArtifactError",
    "Audit",
    "AuditError",
    "Check",
    "CompileError",
    "Core",
    "CpufeatError",
    "CpufeatWarning",
    "Decision",
    "DumpError",
    "Explanation",
    "Feature",
    "FeatureSet",
    "Host",
    "LinkError",
    "Machine",
    "MissingExtraError",
    "MissingFeaturesError",
    "OptionError",
    "Recording",
    "Resolution",
    "Run",
    "Target",
    "TargetError",
    "ThisMachine",
    "UnknownNameError",
    "VerifyError",
    "Withheld",
    "__version__",
    "aot",
    "audit",
    "check",
    "detect",
    "explain",
    "load_machine",
    "resolve",
    "target_for_host",
    "verify",
]

_HOME = {
    "aot": "cpufeat.aot",
    "Audit": "cpufeat.auditing",
    "audit": "cpufeat.auditing",
    "Decision": "cpufeat.decisions",
    "Withheld": "cpufeat.decisions",
    "detect": "cpufeat.detection.detect",
    "load_machine": "cpufeat.detection.dumps",
    "Core": "cpufeat.detection.host",
    "Host": "cpufeat.detection.host",
    "Machine": "cpufeat.detection.machine",
    "Recording": "cpufeat.detection.recording",
    "ThisMachine": "cpufeat.detection.systems",
    "ArtifactError": "cpufeat.errors",
    "AuditError": "cpufeat.errors",
    "CompileError": "cpufeat.errors",
    "CpufeatError": "cpufeat.errors",
    "CpufeatWarning": "cpufeat.errors",
    "DumpError": "cpufeat.errors",
    "LinkError": "cpufeat.errors",
    "MissingExtraError": "cpufeat.errors",
    "MissingFeaturesError": "cpufeat.errors",
    "OptionError": "cpufeat.errors",
    "TargetError": "cpufeat.errors",
    "UnknownNameError": "cpufeat.errors",
    "VerifyError": "cpufeat.errors",
    "Explanation": "cpufeat.explanation",
    "explain": "cpufeat.explanation",
    "Feature": "cpufeat.features",
    "FeatureSet": "cpufeat.features",
    "Resolution": "cpufeat.resolution",
    "resolve": "cpufeat.resolution",
    "target_for_host": "cpufeat.resolution",
    "Check": "cpufeat.running.file_check",
    "check": "cpufeat.running.check",
    "Run": "cpufeat.running.verify",
    "verify": "cpufeat.running.verify",
    "__version__": "cpufeat.support.version",
    "Target": "cpufeat.target",
}
"""The module of each public name."""

if not TYPE_CHECKING:  # or type checkers would take every name for one of this package

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import sys

        __import__(_HOME[name])
        module = sys.modules[_HOME[name]]
        value = getattr(module, name, module)  # aot is a module itself
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
