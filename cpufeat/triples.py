"""Normalize target triples that people write, and spell the triple of a machine.

LLVM's code generators read a triple by position. In ``x86_64-windows-gnu`` they see a vendor ``windows`` and no system
that they know, and emit ELF: the normalized form is ``x86_64-unknown-windows-gnu``.
"""

from __future__ import annotations

from cpufeat.tables import architecture, of_triple, row

_VENDORS = ("apple", "pc", "ibm", "suse", "oe", "intel", "amd", "nvidia", "fsl", "mti", "img", "scei", "sie", "mesa")
SYSTEMS = (
    *("linux", "darwin", "macos", "windows", "win32", "mingw", "cygwin", "freebsd", "netbsd", "openbsd", "dragonfly"),
    *("kfreebsd", "solaris", "haiku", "hurd", "serenity", "managarm", "aix", "zos", "fuchsia", "rtems", "liteos"),
    *("hermit", "uefi", "ios", "tvos", "watchos", "bridgeos", "driverkit", "xros", "visionos", "wasi", "emscripten"),
    *("cuda", "ps4", "ps5", "elfiamcu"),
)
"""The names of systems; a version may follow."""
_ENVIRONMENTS = (
    *("gnu", "musl", "android", "eabi", "msvc", "itanium", "cygnus", "simulator", "macabi", "coreclr", "code16"),
    *("ohos", "pauthtest", "llvm", "mlibc"),
)
_FORMATS = ("elf", "coff", "macho", "wasm", "goff")
_UNKNOWN, _NONE = "unknown", "none"
_WINDOWS = {"windows": "", "win32": "", "mingw": "gnu", "cygwin": "cygnus"}
"""The names of Windows, and the environment that each implies."""


def triple_of(arch: str, system: str, libc: str = "", version: str = "") -> str:
    """Return the triple of code for a machine, as LLVM and clang write it there.

    ``version`` is the system's, and is used where its triples have one (``data/systems.tsv``). Raises UnknownNameError
    for an architecture that has no tables.
    """
    spelled = architecture(arch)
    known = row("systems.tsv", system, libc or "-")
    if known is None:
        last = f"{system}-{libc}{spelled.abi}" if libc else f"{system}{version}"
        return f"{spelled.triple}-unknown-{last}"
    _, _, form, renamed = known
    renamed_arch, _, name = renamed.partition("=")
    return f"{name if arch == renamed_arch else spelled.triple}-{form.format(version=version)}"


def complete(triple: str) -> str:
    """Return a triple as :func:`normalized` does; an architecture alone stands for its triple on Linux with glibc.

    Raises UnknownNameError for an architecture alone that has no tables.
    """
    return normalized(triple) if "-" in triple else triple_of(of_triple(triple), "linux", "gnu")


def normalized(triple: str) -> str:
    """Return a triple with each part in its place: architecture, vendor, system, environment.

    Source: ``llvm::Triple::normalize`` of LLVM 22, without the parts that only GPUs have. The architecture stays as it
    is written.
    """
    parts, fixed = triple.split("-"), {0}
    kinds = ((1, _is_vendor), (2, _is_system), (3, _is_environment))
    fixed |= {place for place, is_kind in kinds if place < len(parts) and is_kind(parts[place])}
    for place, is_kind in ((1, _is_vendor), (2, _is_system), (3, _is_environment_or_format)):
        found_at = next((at for at, part in enumerate(parts) if at not in fixed and is_kind(part)), None)
        if place not in fixed and found_at is not None:
            parts = _moved(parts, found_at, place, fixed)
            fixed.add(place)
    if fixed == {0, 3} and parts[1:3] == [_NONE, ""]:
        parts[1:3] = ["", _NONE]
    return "-".join(_spelled([part or _UNKNOWN for part in parts]))


def _is_vendor(part: str) -> bool:
    return part in _VENDORS


def _is_system(part: str) -> bool:
    return part.startswith(SYSTEMS)


def _is_environment(part: str) -> bool:
    return part.startswith(_ENVIRONMENTS)


def _is_environment_or_format(part: str) -> bool:
    return _is_environment(part) or part.endswith(_FORMATS)


def _moved(parts: list[str], at: int, place: int, fixed: set[int]) -> list[str]:
    """Move a part left, or right by inserting empty parts before it; the fixed parts stay in their places."""
    free = [part for index, part in enumerate(parts) if index not in fixed]
    start, end = (index - sum(place_ < index for place_ in fixed) for index in (at, place))
    if start > end:
        free.insert(end, free.pop(start))
    free[start:start] = [""] * (end - start)
    for index in sorted(fixed):
        free.insert(index, parts[index])
    return free


def _spelled(parts: list[str]) -> list[str]:
    """Unify the spellings of Windows, of Android on 32-bit Arm and of SUSE's hard-float ABI."""
    arch, vendor, system, environment, *others = (*parts, "", "", "")[: max(4, len(parts))]
    if system.startswith(tuple(_WINDOWS)):
        implied = next(environment_ for name, environment_ in _WINDOWS.items() if system.startswith(name))
        named = implied or environment
        known = [named] if _is_environment(named) else []
        return [arch, vendor, "windows", *(known + _format(parts[3:]) or ["msvc"])]
    if environment.startswith("androideabi"):
        environment = environment.replace("eabi", "", 1)
    if vendor == "suse" and environment.startswith("gnueabi"):
        environment = "gnueabihf"
    return [arch, vendor, system, environment, *others][: len(parts)]


def _format(parts: list[str]) -> list[str]:
    """Return the object format that is named, unless it is COFF, the one of Windows."""
    return [part for part in parts if part.endswith(_FORMATS) and not part.endswith("coff")][:1]
