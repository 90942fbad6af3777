"""Parse the ISA string of RISC-V: ``rv64imafdc_zicsr_zba1p0``, in ``isa`` and ``hart isa`` of ``/proc/cpuinfo``.

lscpu prints it with spaces for the underscores.

Source: RISC-V unprivileged specification, "ISA Extension Naming Conventions".
"""

from __future__ import annotations

_DIGITS = "0123456789"
_BEGIN_LONG_NAMES = "sxz"
_GENERAL = ("i", "m", "a", "f", "d", "zicsr", "zifencei")
"""The extensions that ``g`` stands for."""


def extensions(isa: str) -> frozenset[str]:
    """Return the names of the extensions in a string, without versions; none if it is not an ISA string.

    ``v`` counts only beside a name after an underscore: ``rv64imafdcv`` is how kernels from before its version 1.0 name
    the draft 0.7.1 of T-Head's cores, whose instructions are encoded differently.
    """
    isa = isa.strip().lower().replace(" ", "_")
    if isa[:4] not in ("rv32", "rv64"):
        return frozenset()
    words = isa[4:].split("_")
    names = {name for word in words for name in _names(word)}
    if "g" in names:
        names.update(_GENERAL)
    return frozenset(names if len(words) > 1 else names - {"v"})


def _names(word: str) -> list[str]:
    """Split what stands between two underscores: single letters, then at most one longer name."""
    start = min((at for at in map(word.find, _BEGIN_LONG_NAMES) if at >= 0), default=len(word))
    long_name = _without_version(word[start:])
    return [*_letters(word[:start]), *([long_name] if long_name else [])]


def _letters(word: str) -> list[str]:
    """Return the letters, without versions (``i2p1``): a ``p`` between two digits is a point."""
    return [
        letter
        for at, letter in enumerate(word)
        if letter.isalpha() and not (letter == "p" and word[at - 1 : at].isdigit() and word[at + 1 : at + 2].isdigit())
    ]


def _without_version(name: str) -> str:
    """Return ``zba`` for ``zba1p0`` and ``zba1``: no name ends in a digit."""
    major = name.rstrip(_DIGITS)
    if major != name and major[-1:] == "p" and major[-2:-1].isdigit():
        return major[:-1].rstrip(_DIGITS)
    return major
