"""Find Zig in the package ``ziglang``, and name its C compiler, linker and C library for a triple."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from cpufeat.aot.llvm import triples
from cpufeat.errors import TargetError
from cpufeat.support.extras import origin
from cpufeat.tables import architecture, has_tables
from cpufeat.triples import normalized

_SYSTEMS = {"darwin": "macos", "": "freestanding"}
_CPUS = {"i686": "i686"}
"""The CPU to name where Zig's default is above the architecture's lowest: Pentium 4, and a C library with SSE2."""

_WITHOUT_SYSTEM = re.compile(r"[^-]+(-(unknown|none))?|[^-]+-[^-]+-(unknown|none)(-(eabi|eabihf|elf|macho|coff))?")


def program() -> str:
    """Return the path of Zig's executable. Raises MissingExtraError if ``ziglang`` is not installed."""
    return str(Path(origin("ziglang", "c")).with_name("zig.exe" if sys.platform == "win32" else "zig"))


def compiler(triple: str) -> list[str]:
    """Return the command of Zig's C compiler and linker for the lowest CPU of a triple's architecture.

    Options and files are appended to it. Raises MissingExtraError if ``ziglang`` is not installed.
    """
    arch = triples.parts(triple)[0]
    return [program(), "cc", "-target", target(triple), *([f"-mcpu={_CPUS[arch]}"] if arch in _CPUS else [])]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment for a run of Zig that keeps its files in a folder.

    Only the C libraries that it builds, a minute each, go to its global cache, where that can be written: not in many
    containers and services.
    """
    chosen = {} if has_global_cache() else {"ZIG_GLOBAL_CACHE_DIR": str(folder / "global")}
    return {**os.environ, **chosen, "ZIG_LOCAL_CACHE_DIR": str(folder), "NO_COLOR": "1"}


def has_global_cache() -> bool:
    """Whether Zig can write to the folder that it takes for its global cache (``resolveGlobalCacheDir`` in its source).

    On Windows, where a user's folders can be written, it is not looked for.
    """
    if sys.platform == "win32":
        return True
    chosen, caches, home = (os.environ.get(name) for name in ("ZIG_GLOBAL_CACHE_DIR", "XDG_CACHE_HOME", "HOME"))
    if not (chosen or caches or home):
        return False
    folder = Path(chosen or (Path(caches, "zig") if caches else Path(home or "", ".cache", "zig")))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def target(triple: str) -> str:
    """Return Zig's spelling of an LLVM triple: ``x86_64-linux-gnu.2.28`` for ``x86_64-unknown-linux-gnu2.28``.

    A version of Darwin, the kernel, is ignored; ``macosx14.1`` is a version of the system. Raises TargetError for a
    system unknown to LLVM.
    """
    arch, system, environment = triples.parts(triple)
    spelled = normalized(triple.lower())
    if not system and not _WITHOUT_SYSTEM.fullmatch(spelled):
        raise TargetError(f"{triple!r} names no system known to LLVM (without a system it is {arch}-none-elf)")
    system_version = re.search(rf"-(?:macosx?|(?!darwin){system or '-'})(\d[\d.]*)", spelled)
    environment_version = spelled.rpartition("-")[2].removeprefix(environment) if environment else ""
    if has_tables(arch):
        arch = architecture(arch).zig or arch
    if (arch, environment) == ("arm", "android"):
        environment = "androideabi"
    words = (
        arch,
        _SYSTEMS.get(system, system) + (_version(system_version[1]) if system_version else ""),
        environment + (f".{environment_version}" if environment_version else ""),
    )
    return "-".join(word for word in words if word)


def _version(version: str) -> str:
    """Return a system's version as Zig wants it, with two numbers at least."""
    return f".{version}" if "." in version else f".{version}.0"
