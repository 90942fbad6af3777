"""Python of other architectures, run here by qemu-user, for test_live_architectures.py.

    CPUFEAT_FOREIGN_ROOTS=FOLDER python -m pytest tests/detection/test_live_architectures.py

FOLDER is filled when a test first asks for an architecture: with Debian's packages, unpacked and not installed, from
wherever apt gets this system's own; for aarch64 also with llvmlite, by pip. Without the variable nothing is fetched.
``CPUFEAT_FOREIGN_ONLY=arm64`` lets the others be, by Debian's names with commas between them. To fill FOLDER up front:

    CPUFEAT_FOREIGN_ROOTS=FOLDER PYTHONPATH=tests python -m helpers.foreign_python arm64
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from helpers.paths import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "CPUFEAT_FOREIGN_ROOTS"
ONLY = "CPUFEAT_FOREIGN_ONLY"
HOW = f"{VARIABLE}=FOLDER python -m pytest tests/detection/test_live_architectures.py"
SUITE, PYTHON = "trixie", "python3.13"
"""The Debian that has all of these architectures, and its Python."""
PACKAGES = (
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libc6", "libffi8"),
    *("libexpat1", "zlib1g", "libgcc-s1", "libstdc++6"),
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MINUTES = 60
LARGEST = 300 << 20
"""Bytes that llvmlite's wheel may unpack to."""


class Foreign(NamedTuple):
    """An architecture: what Debian calls it, what the kernel calls it, and the program that emulates it."""

    debian: str
    arch: str
    emulator: str


ARM64 = Foreign("arm64", "aarch64", "qemu-aarch64")
ARMHF = Foreign("armhf", "armv7l", "qemu-arm")
I386 = Foreign("i386", "i686", "qemu-i386")
PPC64EL = Foreign("ppc64el", "ppc64le", "qemu-ppc64le")
RISCV64 = Foreign("riscv64", "riscv64", "qemu-riscv64")
S390X = Foreign("s390x", "s390x", "qemu-s390x")


def run(foreign: Foreign, cpu: str, arguments: Sequence[str], files: Mapping[str, str], private: Path) -> str:
    """Run the architecture's Python on a CPU model with these arguments, and return what it prints.

    ``files`` are what it finds at some absolute paths; ``private`` is an empty folder. Skips where it cannot be had.
    """
    emulator = shutil.which(foreign.emulator)
    if not emulator:
        pytest.skip(f"needs {foreign.emulator}: apt-get install qemu-user")
    root = unpacked(foreign)
    for entry in root.iterdir():
        (private / entry.name).symlink_to(entry)
    for path, content in files.items():
        place = private / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    environment = {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(root / "wheels")]), "LC_ALL": "C.UTF-8"}
    command = [emulator, "-L", str(private), "-cpu", cpu, str(root / "usr" / "bin" / PYTHON), "-s", "-B", *arguments]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=2 * MINUTES)
    assert process.returncode == 0, process.stderr
    return process.stdout


def unpacked(foreign: Foreign) -> Path:
    """Return the folder with an architecture's packages, which is made if it is not there. Skips with the reason."""
    chosen = os.environ.get(VARIABLE)
    wanted = os.environ.get(ONLY, foreign.debian).split(",")
    if not chosen or foreign.debian not in wanted:
        pytest.skip(f"not asked to run on {foreign.debian}: {HOW}")
    root = Path(chosen).absolute() / f"{SUITE}-{foreign.debian}"
    problem = _make(foreign, root)
    if problem:
        pytest.skip(f"cannot get Debian's packages for {foreign.debian}: {problem}")
    return root


@functools.cache
def _make(foreign: Foreign, final: Path) -> str:
    """Make the folder, whole or not at all, and return why it cannot be made, empty if it is there."""
    if final.is_dir():
        return ""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return "needs apt-get and dpkg-deb"
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent) as private:
        root = Path(private) / "root"
        try:
            _unpack(foreign, Path(private), root)
            if foreign is ARM64:
                _add_llvmlite(Path(private), root)
        except subprocess.CalledProcessError as error:
            return f"{Path(error.cmd[0]).name}: {(error.stderr.strip() or str(error)).splitlines()[-1]}"
        except (OSError, LookupError, subprocess.TimeoutExpired, zipfile.BadZipFile) as error:
            return str(error)
        try:
            root.rename(final)
        except OSError as error:  # another process of the tests was faster
            return "" if final.is_dir() else str(error)
    return ""


def _run(command: list[str], folder: Path) -> str:
    limit = 10 * MINUTES
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=limit)
    return run.stdout


def _unpack(foreign: Foreign, private: Path, root: Path) -> None:
    for folder in ("lists/partial", "cache/archives/partial"):
        (private / folder).mkdir(parents=True)
    (private / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_archive(private)} {SUITE} main\n")
    settings = {
        "APT::Architecture": foreign.debian,
        "APT::Architectures": foreign.debian,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Dir::Etc::SourceList": str(private / "sources.list"),
        "Dir::Etc::SourceParts": os.devnull,
        "Dir::State::Lists": str(private / "lists"),
        "Dir::State::Status": os.devnull,
        "Dir::Cache": str(private / "cache"),
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]
    _run([*apt, "update"], private)
    _run([*apt, "download", *PACKAGES], private)
    for package in sorted(private.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(root)], private)
    for name in ("lib", "lib64"):
        if (root / "usr" / name).is_dir() and not (root / name).exists():
            (root / name).symlink_to(Path("usr") / name)
    for path in [path for path in root.rglob("*") if path.is_symlink() and path.readlink().is_absolute()]:
        place = root / path.readlink().relative_to("/")
        path.unlink()
        path.symlink_to(os.path.relpath(place, path.parent))


def _archive(folder: Path) -> str:
    """Return where this system gets Debian from. Raises LookupError where it is another system."""
    listed = _run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)"], folder).split("\n")
    entries = (line.split() for line in listed if line.startswith("Debian main "))
    archive = next((uri for _, _, uri in entries if "security" not in uri), None)
    if archive is None:
        raise LookupError("apt has no source of Debian: apt-get update")
    return archive


def _add_llvmlite(private: Path, root: Path) -> None:
    """Unpack the llvmlite that is installed here, as built for aarch64."""
    import llvmlite

    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28, 34)]
    version = f"--python-version={PYTHON.removeprefix('python')}"
    options = ["-q", "--no-deps", "--only-binary=:all:", version, *platforms, "--dest", str(private)]
    _run([sys.executable, "-m", "pip", "download", *options, f"llvmlite=={llvmlite.__version__}"], private)
    (wheel,) = private.glob("llvmlite-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise LookupError(f"{wheel.name} is larger than expected")
        archive.extractall(root / "wheels")


if __name__ == "__main__":
    for architecture in (ARM64, ARMHF, I386, PPC64EL, RISCV64, S390X):
        if architecture.debian in sys.argv[1:]:
            unpacked(architecture)
