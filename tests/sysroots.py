"""Unpack Debian's Python of other architectures into a folder, for test_foreign.py to run under qemu-user.

    python tests/sysroots.py FOLDER [arm64 armhf ppc64el s390x]
    CPUFEAT_SYSROOTS=FOLDER python -m pytest tests/test_foreign.py

Needs apt-get, dpkg and Debian's sources; installs nothing, and leaves the system's package lists alone. For arm64,
llvmlite comes from PyPI as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ARCHITECTURES = ("arm64", "armhf", "ppc64el", "s390x")
PACKAGES = (
    *("python3-minimal", "libpython3-stdlib", "libc6", "libstdc++6", "libgcc-s1", "zlib1g"),
    *("libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1"),
)
_CONFIGURATION = """APT::Architecture "{0}"; APT::Architectures {{ "{0}"; }};
Dir::State::Lists "{1}/lists"; Dir::State::Status "/dev/null"; Dir::Cache "{1}";
"""


def tool(name: str) -> str:
    """Return the path of a program of Debian's; ends the script where there is none."""
    return shutil.which(name) or sys.exit(f"needs {name}, as Debian has it")


def unpack(architecture: str, folder: Path) -> None:
    """Unpack the packages into ``folder``. Raises CalledProcessError."""
    private = folder / "apt"
    (private / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (private / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    configuration = private / "apt.conf"
    configuration.write_text(_CONFIGURATION.format(architecture, private))
    environment = {**os.environ, "APT_CONFIG": str(configuration)}
    packages = [*PACKAGES, *_versioned(private, environment)]
    subprocess.run([tool("apt-get"), "-q", "download", *packages], cwd=private, env=environment, check=True)
    for package in private.glob("*.deb"):
        subprocess.run([tool("dpkg"), "-x", package, folder], check=True)
    for link in folder.rglob("*"):
        if link.is_symlink() and link.readlink().is_absolute():
            target = folder / link.readlink().relative_to("/")
            link.unlink()
            link.symlink_to(os.path.relpath(target, link.parent))
    if architecture == "arm64":
        _llvmlite(folder)


def _versioned(private: Path, environment: dict[str, str]) -> list[str]:
    """Return the packages of the Python that is this Debian's default."""
    # One of several lists that cannot be had is no matter as long as the packages are found.
    subprocess.run([tool("apt-get"), "-q", "update"], cwd=private, env=environment, check=False)
    show = [tool("apt-cache"), "show", "python3-minimal"]
    shown = subprocess.run(show, env=environment, capture_output=True, text=True, check=True).stdout
    version = next(
        word for word in shown.replace(",", " ").split() if word.startswith("python3.") and "-minimal" in word
    )
    python = version.removesuffix("-minimal")
    return [f"{python}-minimal", f"lib{python}-minimal", f"lib{python}-stdlib"]


def _llvmlite(folder: Path) -> None:
    python = next(folder.glob("usr/bin/python3.*[0-9]")).name.removeprefix("python")
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", *platforms, "-d", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "-q", "download", *options, "llvmlite"], check=True)
    with zipfile.ZipFile(next(folder.glob("llvmlite-*.whl"))) as wheel:
        wheel.extractall(folder / "wheels")


if __name__ == "__main__":
    for name in sys.argv[2:] or ARCHITECTURES:
        unpack(name, Path(sys.argv[1]).resolve() / name)
