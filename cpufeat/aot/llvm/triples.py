"""Take normalized triples (:mod:`cpufeat.triples`) apart, and tell whether those of a module and a target conflict."""

from __future__ import annotations

import re

from cpufeat.errors import UnknownNameError
from cpufeat.tables import of_triple
from cpufeat.triples import SYSTEMS, normalized

_DARWIN = re.compile(r"macosx?$")
_SYSTEM_VERSION = re.compile(r"[\d.]+$")
_ENVIRONMENT_VERSION = re.compile(r"(\d+\.[\d.]+|(?<=android)\d+)$")
"""``gnu2.31`` is a version of ``gnu``, ``gnux32`` is another environment."""


def conflict(module_triple: str, target_triple: str) -> str:
    """Return how a module's triple conflicts with the target's, in words; empty if they are compatible.

    Vendors and versions are not compared, nor parts that either omits: ``x86_64-linux-gnu`` is
    ``x86_64-pc-linux-gnu``. ``unknown-unknown-unknown``, which ``llvmlite.ir`` writes, is compatible with all.
    """
    compared = zip(("architecture", "system", "environment"), parts(module_triple), parts(target_triple), strict=True)
    differing = [(part, first, second) for part, first, second in compared if first and second and first != second]
    return ", ".join(f"{part} {first} and {second}" for part, first, second in differing)


def parts(triple: str) -> tuple[str, str, str]:
    """Return architecture, system and environment, without versions; empty where unknown.

    Architectures have cpufeat's names, macOS is ``darwin``.
    """
    spelled, _, system, environment = (*normalized(triple.lower()).split("-"), "", "", "")[:4]
    try:
        arch = of_triple(spelled)
    except UnknownNameError:
        arch = "" if spelled == "unknown" else spelled
    if not system.startswith(SYSTEMS):
        return arch, "", ""
    system = _DARWIN.sub("darwin", _SYSTEM_VERSION.sub("", system))
    return arch, system, _ENVIRONMENT_VERSION.sub("", environment)
