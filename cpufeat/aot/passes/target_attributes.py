"""The target that functions carry in their own attributes.

LLVM takes ``"target-features"`` of a function *instead of* the TargetMachine's string, never in addition: a function
that says ``+sse4.2`` loses the machine's ``-avx`` and gets back all that the CPU's name implies. So these attributes
are put out of force, and the machine's explicit string holds for every function, also for those that LLVM itself adds.
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

    from cpufeat.aot.llvm.job import Asked
    from cpufeat.target import Target

_DEFINITION, _GROUP = "\ndefine ", "\nattributes #"
"""What begins a line of printed IR: nothing else in it does so, since strings show ends of lines as ``\\0A``."""
_STRING = re.compile(r'"[^"]*"')
_IN_GROUP = re.compile(r" #(\d+)(?![\w.$-])")
_STRING_ATTRIBUTE = re.compile(r'"([^"]*)"(?:="([^"]*)")?')
_OVERRIDES = ("target-cpu", "target-features", "tune-cpu")
_SHOWN = 8


def asked(attributes: Iterable[str]) -> Asked | None:
    """Return what a function's attributes, as LLVM prints them, ask for; None if they leave it to the machine."""
    own = dict(chain.from_iterable(_STRING_ATTRIBUTE.findall(text) for text in attributes))
    return (own.get("target-cpu", ""), own.get("target-features", "")) if own.keys() & set(_OVERRIDES) else None


def asked_in(text: str) -> list[Asked | None]:
    """Return what each function that a module defines asks for, in order, from the module as LLVM prints it."""
    groups = dict(line.split(" = ", 1) for line in _lines(text, _GROUP))
    asks = {number: asked([attributes]) for number, attributes in groups.items()}
    found = (_IN_GROUP.search(_STRING.sub("", line)) for line in _lines(text, _DEFINITION))
    return [asks[group[1]] if group else None for group in found]


def _lines(text: str, begin: str) -> list[str]:
    return [part.partition("\n")[0] for part in text.split(begin)[1:]]


def disarm(text: str) -> str:
    r"""Return a module, as LLVM prints it, in which no function overrides the machine's target.

    In printed IR all string attributes of functions stand in groups, one a line, and a quote inside a string is
    ``\22``. They are renamed, not removed: a group must not be empty.
    """
    first, *groups = text.split(_GROUP)
    lines = (group.partition("\n") for group in groups)
    return _GROUP.join([first, *(_STRING_ATTRIBUTE.sub(_renamed, line) + end + rest for line, end, rest in lines)])


def _renamed(attribute: re.Match[str]) -> str:
    return attribute[0].replace('"', '"asked-', 1) if attribute[1] in _OVERRIDES else attribute[0]


def lowered(asks: dict[Asked, list[str]], target: Target, version: int) -> dict[FeatureSet, list[str]]:
    """Return, by the features that ``target`` does not permit, the functions whose attributes ask for them.

    ``version`` is the LLVM whose CPUs the attributes mean.
    """
    excess: dict[FeatureSet, list[str]] = {}
    for ask, functions in asks.items():
        beyond = (_features(ask, target, version) - target.features).isa
        if beyond:
            excess.setdefault(beyond, []).extend(functions)
    return excess


def decision(beyond: FeatureSet, functions: list[str], target: Target) -> Decision:
    """Return the decision to compile functions without features that they ask for."""
    rests_on = frozenset().union(*(implied(beyond.arch, name) - {name} for name in beyond))
    heads = [name for name in beyond if name not in rests_on]
    reason = f"asks for {_some(heads)}, which the target does not permit: compiled for {target.cpu} as the rest"
    return Decision("function", _some(functions), reason, "target-cpu and target-features of the function")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _features(ask: Asked, target: Target, version: int) -> FeatureSet:
    cpu, changes = ask
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
