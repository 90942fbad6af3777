"""Tools that a test needs and that pip cannot install."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from cpufeat import llvm_tables

if TYPE_CHECKING:
    from typing import NoReturn

DEBIAN = {
    "bash": ("bash",),
    "binutils": ("ar", "as", "nm", "objdump", "readelf", "strip"),
    "fish": ("fish",),
    "gcc": ("cc", "gcc"),
    "groff-base": ("groff",),
    "llvm": ("llc", "llvm-objdump", "llvm-readobj", "llvm-strip"),
    "mandoc": ("mandoc",),
    "qemu-user": ("qemu-aarch64", "qemu-i386", "qemu-x86_64"),
    "rustc": ("rustc",),
    "zsh": ("zsh",),
}
"""Debian's packages, and the tools in them that tests use."""
needs_opaque_pointers = pytest.mark.skipif(llvm_tables.installed() < 15, reason="LLVM before 15 has typed pointers")


def tool(name: str) -> str:
    """Return the path of a tool of the system, or of a program that a path names."""
    return shutil.which(name) or unavailable(name, f"apt-get install {_package(name)}")


def _package(name: str) -> str:
    return next(package for package, tools in DEBIAN.items() if name in tools)


def unavailable(requirement: str, how_to_get_it: str) -> NoReturn:
    """Skip a test for want of a tool; in CI, fail it."""
    stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    stop(f"needs {requirement}: {how_to_get_it}")
