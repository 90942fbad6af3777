"""Run an instruction of each feature under kernels that withhold some, in qemu-system, and hold cpufeat against it.

    python -m tools.execute_features.system WORK --kernel VMLINUZ --modules FOLDER [--cpu CPU ...] [--append TEXT ...]

Every CPU is tried with every kernel command line. The kernel is one of a distribution: FOLDER is its
``/lib/modules/VERSION``, from which the initial RAM disk takes what it needs to mount this system's root, read only,
over 9p. Nothing else of the guest is made: it runs this Python and this cpufeat.
"""

from __future__ import annotations

import argparse
import itertools
import json
import lzma
import re
import subprocess
import sys
from pathlib import Path

from tools.execute_features.compare import differences
from tools.execute_features.places import TUNABLES, version
from tools.execute_features.program import HERE, ROOT, build, executed

ARCH = "x86_64"
MODULES = ("virtio_pci", "9pnet_virtio", "9p")
MINUTES = 60
_BEGIN, _END = "=== ", "ended with "
_PRINTED = re.compile(r"^(?:run |guard |\{).*$", re.MULTILINE)
"""What the commands print, among the kernel's messages."""


def initial_disk(init: Path, modules: list[bytes], commands: str) -> bytes:
    """Return a RAM disk in the kernel's format (Linux Documentation/driver-api/early-userspace/buffer-format.rst)."""
    folder, program, file = 0o040755, 0o100755, 0o100644
    entries = [("host", folder, b""), ("modules", folder, b""), ("dev", folder, b"")]
    entries += [("init", program, init.read_bytes()), ("commands", file, commands.encode())]
    entries += [(f"modules/{number:02}", file, content) for number, content in enumerate(modules)]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1))


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % value for value in numbers) + path
    return header.ljust(-(-len(header) // 4) * 4, b"\0") + content.ljust(-(-len(content) // 4) * 4, b"\0")


def needed_modules(folder: Path) -> list[bytes]:
    """Return the modules by which a guest mounts 9p, each after what it depends on; those built in have no file."""
    files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    loaded: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name not in files or name in loaded:
            return
        content = files[name].read_bytes()
        if files[name].suffix == ".xz":
            content = lzma.decompress(content)
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends[1].decode().split(",") if depends else ():
            add(other)
        loaded[name] = content

    for name in MODULES:
        add(name)
    return list(loaded.values())


def boot(qemu: list[str], kernel: str, disk: Path, cpu: str, append: str) -> str:
    """Boot a guest and return what it prints."""
    share = "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"
    command = [*qemu, "-accel", "tcg", "-m", "1024", "-cpu", cpu, "-nographic", "-no-reboot", "-net", "none"]
    command += ["-kernel", kernel, "-initrd", str(disk), "-virtfs", share]
    command += ["-append", f"console=ttyS0 quiet panic=-1 no_timer_check {append}"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10 * MINUTES
    )
    return done.stdout + done.stderr


def answers(output: str) -> list[str]:
    """Return what each command printed. Raises ValueError, with everything, where one did not run to its end."""
    parts = output.replace("\r", "").split(_BEGIN)
    ended = [part for part in parts if part.startswith(_END)]
    if len(ended) != 2 or any(part.split()[2] != "0" for part in ended):
        raise ValueError(output[-5000:])
    return ["\n".join(_PRINTED.findall(parts[index])) for index in (1, 3)]


def main() -> int:
    """Compare on each CPU under each command line; 1 if a difference has no reason in ``explained.tsv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="a folder for the program and the RAM disk")
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--modules", required=True, type=Path)
    parser.add_argument("--cpu", action="append", default=[], help="as qemu's -cpu takes it")
    parser.add_argument("--append", action="append", default=[], help="parameters of the kernel")
    parser.add_argument("--qemu", default="qemu-system-x86_64", help="the command, with options of your own")
    options = parser.parse_args()
    program = build(ARCH, options.work).absolute()
    init = options.work / "init"
    build_init = ["-m", "ziglang", "cc", "-target", f"{ARCH}-linux-musl", "-static", "-O1", "-o", str(init)]
    subprocess.run([sys.executable, *build_init, str(HERE / "init.c")], check=True)
    settings = f"PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 GLIBC_TUNABLES={TUNABLES}"
    commands = f"{program}\n/usr/bin/env {settings} {sys.executable} -S {HERE / 'detect.py'}\n"
    disk = options.work / "initrd"
    disk.write_bytes(initial_disk(init, needed_modules(options.modules), commands))
    qemu, unexplained = options.qemu.split(), 0
    for cpu, append in itertools.product(options.cpu or ["max"], options.append or [""]):
        ran, found = answers(boot(qemu, options.kernel, disk, cpu, append))
        differ = differences(ARCH, version(qemu[0]), executed(ARCH, ran), json.loads(found))
        print(f"{cpu} {append}: {len(differ)} differences", flush=True)
        for difference in differ:
            print("   ", *difference, sep="  ", flush=True)
        unexplained += sum(not difference.reason for difference in differ)
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())
