"""Try each extra alone: ``python .ci/extras.py [--lowest] [--tests LEAST] WHEEL [EXTRA ...]`` (default: all of them).

Each is installed from the wheel into an environment of its own, with the oldest version that pyproject.toml permits of
each dependency if ``--lowest`` is given. There every module is imported, and commands run: they work, or say in one
line which extra they lack. With ``--tests`` the tests with the marker "quick" run in the environment of the extra
``all``: LEAST of them pass, or more.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

EXTRAS = ("all", "", "aot", "audit", "c", "cli", "compat")
"""``all`` comes first: it makes the files that the others read."""
IMPORT_ALL = """
import importlib, pkgutil, sys, cpufeat
names = {module.name for module in pkgutil.walk_packages(cpufeat.__path__, "cpufeat.")}
for name in sorted(name for name in names if not name.startswith("cpufeat.__")):
    try:
        importlib.import_module(name)
    except cpufeat.MissingExtraError as error:
        assert error.extra not in sys.argv[1:] and "all" not in sys.argv[1:], error
class Unknown(cpufeat.Machine):
    arch = "x86_64"
    def py_cpuinfo(self):
        return cpufeat.ThisMachine().py_cpuinfo()
try:
    last_resort = cpufeat.detect(Unknown()).source
except cpufeat.CpufeatError as error:
    last_resort = str(error)
assert (last_resort == "py-cpuinfo") == (sys.argv[1] in ("all", "compat")), last_resort
print(len(names), "modules, on", cpufeat.target_for_host().cpu)
"""


class Command(NamedTuple):
    """A command line, and the sets of extras that each suffice for it."""

    line: str
    suffice: tuple[set[str], ...] = (set(),)


COMMANDS = (
    Command("explain"),
    Command("--color always help explain"),  # of Python 3.14 on, in colour
    Command("target x86-64-v3 --print features"),
    Command("target haswell,-avx2 --llvm 15 --json"),
    Command("record machine.json --force"),
    Command("identify machine.json"),
    Command("compile one.ll -o made.o --target x86-64-v3", ({"aot"},)),
    Command("compile one.ll -o made-arm.o --triple aarch64-unknown-linux-gnu", ({"aot"},)),
    Command("compile one.ll -o made.obj --triple x86_64-pc-windows-msvc", ({"aot"},)),
    Command("compile one.ll -o made-macho.o --triple arm64-apple-macosx11", ({"aot"},)),
    Command("compile one.c -o made-c.o --target x86-64-v3", ({"aot", "c"},)),
    Command("audit one.o", ({"aot"}, {"audit"})),
    Command("audit one-arm.o"),
    Command("audit one.obj", ({"aot"}, {"audit"})),
    Command("audit one-macho.o", ({"aot"}, {"audit"})),
    Command("audit one.a", ({"aot"}, {"audit"})),
    Command("check one.o --cpu haswell", ({"aot"}, {"audit"})),
)
TOO_OLD = "pip install -U llvmlite"
"""Zig's clang writes IR that an old llvmlite does not read: with those, only IR is compiled."""
TEST_NEEDS = ("archspec>=0.2.5", "hypothesis", "jsonschema>=4.18", "pyelftools>=0.31", "pytest")
"""Those packages of the extra ``test`` that the quick tests need."""
MAY_LACK = "^needs |needs llvmlite|LLVM before|pip install 'llvmlite"
"""Why a quick test may be skipped: it needs a tool or another LLVM."""


def main() -> None:
    """Exit with a message at the first command that neither works nor names what it lacks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--lowest", action="store_true")
    parser.add_argument("--tests", type=int, metavar="LEAST")
    parser.add_argument("extras", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        inputs(work)
        constraints = work / "constraints.txt"
        constraints.write_text(lowest() if options.lowest else "")
        for extra in options.extras or EXTRAS:
            python = install(options.wheel.resolve(), extra, work / f"with-{extra}", constraints)
            run_commands(python, extra, work, is_lowest=options.lowest)
            if extra == "all":
                keep(work)
                if options.tests:
                    run_tests(python, work, options.tests)


def inputs(work: Path) -> None:
    """Write a module of IR and a C file."""
    (work / "one.ll").write_text("define i32 @main() { ret i32 0 }\n")
    (work / "one.c").write_text("int main(void) { return 0; }\n")


def keep(work: Path) -> None:
    """Rename what was compiled, so that it is there to be audited, and put an object into an archive."""
    for made in work.glob("made*"):
        made.rename(work / made.name.replace("made", "one"))
    content = (work / "one.o").read_bytes()
    header = f"{'one.o/':16}{0:<12}{0:<6}{0:<6}{644:<8}{len(content):<10}`\n".encode()
    (work / "one.a").write_bytes(b"!<arch>\n" + header + content)


def lowest() -> str:
    """Return pip's constraints for the oldest version of each dependency that an extra for users permits."""
    table = Path("pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2]
    bounds = sorted(set(re.findall(r'"([\w-]+)>=([\w.]+)', table.partition("\ntest =")[0])))
    return "".join(f"{name}=={version}\n" for name, version in bounds)


def install(wheel: Path, extra: str, folder: Path, constraints: Path) -> Path:
    """Install the wheel with an extra into a new environment, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    what = f"cpufeat[{extra}] @ {wheel.as_uri()}" if extra else wheel.as_uri()
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", constraints, what], check=True)
    return python


def run_commands(python: Path, extra: str, work: Path, *, is_lowest: bool) -> None:
    """Import every module, ask py-cpuinfo, the last resort, and run every command whose input there is."""
    done = subprocess.run(
        [python, "-W", "error", "-", extra], input=IMPORT_ALL, text=True, cwd=work, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"[{extra}]: {done.stderr}")
    print(f"[{extra}]: {done.stdout}", end="", flush=True)
    installed = {"aot", "audit", "c"} if extra == "all" else {extra}
    worked = []
    for line, suffice in COMMANDS:
        arguments = line.split()
        if arguments[0] in ("audit", "check") and not (work / arguments[1]).exists():
            continue
        done = subprocess.run(
            [python, "-m", "cpufeat", *arguments], cwd=work, capture_output=True, text=True, check=False
        )
        works = any(extras <= installed for extras in suffice)
        lacks = re.fullmatch(r"cpufeat: .*: pip install 'cpufeat\[(\w+)\]'\n", done.stderr)
        if is_lowest and works and TOO_OLD in done.stderr and ".c " in line:
            worked.append("(" + line + ": needs a newer llvmlite, and says so)")
        elif works and done.returncode == 0:
            worked.append(line)
        elif works or done.returncode != 2 or not lacks or lacks[1] in installed:
            sys.exit(f"[{extra}] cpufeat {line}: status {done.returncode}\n{done.stdout}{done.stderr}")
    print("   ", "\n    ".join(worked), flush=True)


def run_tests(python: Path, work: Path, least: int) -> None:
    """Run the quick tests, and exit with a message if one fails or too few pass."""
    report = work / "tests.xml"
    constraints = work / "constraints.txt"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", constraints, *TEST_NEEDS], check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "CPUFEAT_LLVM_PYTHONS")}
    options = ["-q", "-p", "no:cacheprovider", "-m", "quick", f"--junit-xml={report}"]
    subprocess.run([python, "-m", "pytest", *options], env=environment, check=True)
    subprocess.run([sys.executable, ".ci/outcome.py", report, str(least), MAY_LACK], check=True)


if __name__ == "__main__":
    main()
