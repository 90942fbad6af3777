"""Whether a module that was made for one triple may be compiled for another."""

from __future__ import annotations

import re

from cpufeat.errors import UnknownNameError
from cpufeat.tables import of_triple
from cpufeat.triples import SYSTEMS, normalized

_DARWIN = re.compile(r"macosx?$")
_SYSTEM_VERSION = re.compile(r"[\d.]+$")
_ENVIRONMENT_VERSION = re.compile(r"(\d+\.[\d.]+|(?<=android)\d+)$")
"""``gnu2.31`` is a version of ``gnu``, ``gnux32`` is another environment."""


def conflict(own: str, wanted: str) -> str:
    """Return what a module's own triple and the target's differ in, empty if code for one is code for the other.

    The vendor and versions do not matter, nor what either leaves out: ``x86_64-linux-gnu`` is
    ``x86_64-pc-linux-gnu``. ``unknown-unknown-unknown``, which ``llvmlite.ir`` writes, says nothing.
    """
    named = zip(("architecture", "system", "environment"), parts(own), parts(wanted), strict=True)
    both = [(word, mine, theirs) for word, mine, theirs in named if mine and theirs]
    return ", ".join(f"{word} {mine} and {theirs}" for word, mine, theirs in both if mine != theirs)


def parts(triple: str) -> tuple[str, str, str]:
    """Return architecture, system and environment, without versions, empty where unknown.

    An architecture that cpufeat knows is called as it calls it, macOS is ``darwin``.
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
