"""Detect what a CPU can really run, select targets for it, and check what binaries need.

Importing this package reads no file and loads no dependency; each public name is loaded when it is first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cpufeat.auditing import Audit as Audit
    from cpufeat.auditing import audit as audit
    from cpufeat.detection.detect import detect as detect
    from cpufeat.detection.host import Host as Host
    from cpufeat.detection.machine import Machine as Machine
    from cpufeat.detection.recording import Recording as Recording
    from cpufeat.detection.systems import ThisMachine as ThisMachine
    from cpufeat.errors import ArtifactError as ArtifactError
    from cpufeat.errors import AuditError as AuditError
    from cpufeat.errors import CompileError as CompileError
    from cpufeat.errors import CpufeatError as CpufeatError
    from cpufeat.errors import CpufeatWarning as CpufeatWarning
    from cpufeat.errors import DumpError as DumpError
    from cpufeat.errors import LinkError as LinkError
    from cpufeat.errors import MissingExtraError as MissingExtraError
    from cpufeat.errors import MissingFeaturesError as MissingFeaturesError
    from cpufeat.errors import OptionError as OptionError
    from cpufeat.errors import TargetError as TargetError
    from cpufeat.errors import UnknownNameError as UnknownNameError
    from cpufeat.errors import VerifyError as VerifyError
    from cpufeat.features import Feature as Feature
    from cpufeat.features import FeatureSet as FeatureSet
    from cpufeat.resolution import Resolution as Resolution
    from cpufeat.resolution import resolve as resolve
    from cpufeat.resolution import target_for_host as target_for_host
    from cpufeat.running.check import check as check
    from cpufeat.running.verify import verify as verify
    from cpufeat.support.version import __version__ as __version__
    from cpufeat.target import Target as Target

_HOME = {
    "Audit": "cpufeat.auditing",
    "audit": "cpufeat.auditing",
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
    "Feature": "cpufeat.features",
    "FeatureSet": "cpufeat.features",
    "Host": "cpufeat.detection.host",
    "detect": "cpufeat.detection.detect",
    "Machine": "cpufeat.detection.machine",
    "Recording": "cpufeat.detection.recording",
    "ThisMachine": "cpufeat.detection.systems",
    "Resolution": "cpufeat.resolution",
    "resolve": "cpufeat.resolution",
    "__version__": "cpufeat.support.version",
    "check": "cpufeat.running.check",
    "verify": "cpufeat.running.verify",
    "target_for_host": "cpufeat.resolution",
    "Target": "cpufeat.target",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sys

    __import__(_HOME[name])
    value: object = getattr(sys.modules[_HOME[name]], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
