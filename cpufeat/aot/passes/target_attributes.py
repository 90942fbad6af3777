"""Disable the attributes ``target-cpu`` and ``target-features`` of functions, so that the TargetMachine's apply.

LLVM takes ``"target-features"`` of a function *instead of* the TargetMachine's string, never in addition: a function
that says ``+sse4.2`` loses the machine's ``-avx`` and gets back all that the CPU's name implies. So these attributes
are renamed to ones that LLVM ignores, and the machine's explicit string applies to every function, also to those that
LLVM itself adds.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from cpufeat import llvm_tables
from cpufeat.decisions import Decision
from cpufeat.errors import UnknownNameError
from cpufeat.features import FeatureSet, find, implied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpufeat.aot.llvm.job import RequestedTarget
    from cpufeat.aot.llvm.module_text import Module
    from cpufeat.target import Target

_GROUP = re.compile(r"^attributes #\d+ = .*$", re.MULTILINE)
_STRING_ATTRIBUTE = re.compile(r'"([^"]*)"(?:="([^"]*)")?')
_OVERRIDES = ("target-cpu", "target-features", "tune-cpu")
_SHOWN = 8


def requested_target(attributes: Iterable[str]) -> RequestedTarget | None:
    """Return the target that a function's printed attributes request; None if they leave it to the machine."""
    values = dict(chain.from_iterable(_STRING_ATTRIBUTE.findall(text) for text in attributes))
    return (
        (values.get("target-cpu", ""), values.get("target-features", "")) if values.keys() & set(_OVERRIDES) else None
    )


def requested_targets(module: Module) -> list[RequestedTarget | None]:
    """Return the target that each defined function requests, in order; None as in :func:`requested_target`."""
    requests = {group: requested_target([attributes]) for group, attributes in module.groups.items()}
    return [
        next((requests[group] for group in function.groups if group in requests), None)
        for function in module.functions.values()
    ]


def neutralize(module: Module) -> Module:
    """Return the module with no function that overrides the machine's target.

    In printed IR all string attributes of functions are in groups. They are renamed, not removed: a group must not be
    empty.
    """
    return module.replace(rest=_GROUP.sub(lambda line: _STRING_ATTRIBUTE.sub(_renamed, line[0]), module.rest))


def _renamed(attribute: re.Match[str]) -> str:
    return attribute[0].replace('"', '"asked-', 1) if attribute[1] in _OVERRIDES else attribute[0]


def lowered(requests: dict[RequestedTarget, list[str]], target: Target, version: int) -> dict[FeatureSet, list[str]]:
    """Return, by the features that ``target`` does not permit, the functions whose attributes ask for them.

    ``version`` is the LLVM whose CPUs the attributes mean.
    """
    excess: dict[FeatureSet, list[str]] = {}
    for requested, functions in requests.items():
        beyond = (_features(requested, target, version) - target.features).isa
        if beyond:
            excess.setdefault(beyond, []).extend(functions)
    return excess


def decision(beyond: FeatureSet, functions: list[str], target: Target) -> Decision:
    """Return the decision to compile functions without features that they ask for."""
    depends_on = frozenset().union(*(implied(beyond.arch, name) - {name} for name in beyond))
    heads = [name for name in beyond if name not in depends_on]
    reason = f"asks for {_shortened(heads)}, which the target does not permit: compiled for {target.cpu} as the rest"
    return Decision("function", _shortened(functions), reason, "target-cpu and target-features of the function")


def _shortened(names: list[str]) -> str:
    omitted = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + omitted


def _features(requested: RequestedTarget, target: Target, version: int) -> FeatureSet:
    cpu, changes = requested
    features = llvm_tables.load(target.arch, version).cpu_features(cpu) or FeatureSet(target.arch)
    for change in changes.split(","):
        name = _known(target.arch, change[1:])
        if name and change[0] == "+":
            features = (features | FeatureSet(target.arch, [name])).closed()
        elif name and change[0] == "-":
            features = features.without([name])
    return features


def _known(arch: str, spelling: str) -> str:
    """LLVM ignores features that it does not know, with a warning."""
    try:
        return find(arch, spelling).name
    except UnknownNameError:
        return ""
