"""Whether a module that was made for one triple may be compiled for another."""

from __future__ import annotations

import re

_ARCHITECTURES = {"i386": "i686", "i486": "i686", "i586": "i686", "amd64": "x86_64", "arm64": "aarch64"}
_SYSTEMS = {"macos": "darwin", "macosx": "darwin", "win": "windows"}
_KNOWN_SYSTEMS = frozenset(
    (
        *("linux", "darwin", "windows", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos", "fuchsia"),
        *("haiku", "hurd", "serenity", "aix", "zos", "ios", "tvos", "watchos", "uefi", "wasi", "emscripten", "cuda"),
    )
)
_SYSTEM_VERSION = re.compile(r"[\d.]+$")
_ENVIRONMENT_VERSION = re.compile(r"(\d+\.[\d.]+|(?<=android)\d+|(?<=androideabi)\d+)$")
"""``gnu2.31`` is a version of ``gnu``, ``gnux32`` is another environment."""


def conflict(own: str, wanted: str) -> str:
    """Return what a module's own triple and the target's differ in, empty if code for one is code for the other.

    The vendor and versions do not matter, nor what either leaves out: ``x86_64-linux-gnu`` is
    ``x86_64-pc-linux-gnu``. ``unknown-unknown-unknown``, which ``llvmlite.ir`` writes, says nothing.
    """
    named = zip(("architecture", "system", "environment"), parts(own), parts(wanted), strict=True)
    both = [(word, mine, theirs) for word, mine, theirs in named if mine and theirs]
    return ", ".join(f"{word} {mine} and {theirs}" for word, mine, theirs in both if mine != theirs)


def normalized(triple: str) -> str:
    """Return a triple with the vendor that people leave out, as ``llvm::Triple::normalize`` does.

    In ``x86_64-windows-gnu``, as it is, LLVM sees a vendor ``windows`` and no system that it knows.
    """
    arch, _, rest = triple.partition("-")
    system = _SYSTEM_VERSION.sub("", rest.partition("-")[0].lower())
    return f"{arch}-unknown-{rest}" if _SYSTEMS.get(system, system) in _KNOWN_SYSTEMS else triple


def parts(triple: str) -> tuple[str, str, str]:
    """Return architecture, system and environment, empty where unknown; the vendor may be left out, as in LLVM."""
    arch, *rest = ("" if part in ("unknown", "none") else part for part in triple.lower().split("-"))
    arch = _ARCHITECTURES.get(arch, arch)
    for part, environment in zip(rest, [*rest[1:], ""], strict=False):
        plain = _SYSTEM_VERSION.sub("", part)
        system = _SYSTEMS.get(plain, plain)
        if system in _KNOWN_SYSTEMS:
            return arch, system, _ENVIRONMENT_VERSION.sub("", environment)
    return arch, "", ""
