"""What a CPU can really run, and what to compile for it.

Importing this package reads no file and loads no dependency; each public name is loaded when it is first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cpufeat.auditing import Audit as Audit
    from cpufeat.auditing import audit as audit
    from cpufeat.errors import ArtifactError as ArtifactError
    from cpufeat.errors import AuditError as AuditError
    from cpufeat.errors import CompileError as CompileError
    from cpufeat.errors import CpufeatError as CpufeatError
    from cpufeat.errors import CpufeatWarning as CpufeatWarning
    from cpufeat.errors import DumpError as DumpError
    from cpufeat.errors import LinkError as LinkError
    from cpufeat.errors import MissingFeaturesError as MissingFeaturesError
    from cpufeat.errors import TargetError as TargetError
    from cpufeat.errors import UnknownNameError as UnknownNameError
    from cpufeat.errors import VerifyError as VerifyError
    from cpufeat.features import Feature as Feature
    from cpufeat.features import FeatureSet as FeatureSet
    from cpufeat.host import Host as Host
    from cpufeat.host import detect as detect
    from cpufeat.machine import Machine as Machine
    from cpufeat.machine import ThisMachine as ThisMachine
    from cpufeat.recording import Recording as Recording
    from cpufeat.resolution import Resolution as Resolution
    from cpufeat.resolution import resolve as resolve
    from cpufeat.resolution import target_for_host as target_for_host
    from cpufeat.target import Target as Target

__version__ = "0.1.0"

_HOME = {
    "Audit": "auditing",
    "audit": "auditing",
    "ArtifactError": "errors",
    "AuditError": "errors",
    "CompileError": "errors",
    "CpufeatError": "errors",
    "CpufeatWarning": "errors",
    "DumpError": "errors",
    "LinkError": "errors",
    "MissingFeaturesError": "errors",
    "TargetError": "errors",
    "UnknownNameError": "errors",
    "VerifyError": "errors",
    "Feature": "features",
    "FeatureSet": "features",
    "Host": "host",
    "detect": "host",
    "Machine": "machine",
    "Recording": "recording",
    "ThisMachine": "machine",
    "Resolution": "resolution",
    "resolve": "resolution",
    "target_for_host": "resolution",
    "Target": "target",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sys

    module = f"{__name__}.{_HOME[name]}"
    __import__(module)
    value: object = getattr(sys.modules[module], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
