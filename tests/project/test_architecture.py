"""How the modules rest on one another, and what the first moments of a process load, open and map."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cpufeat
from cpufeat import native
from cpufeat.features import table

PACKAGE = Path(cpufeat.__file__).parent

# From the ground up. A module, or a package as a whole, may import those of the lines below its own.
LAYERS = """
value errors
tables decisions native triples files
features
levels llvm machine
recording
probe systems
absence arch
host
request
target
resolution
crosscheck auditing
explain recorder aot
cli
__main__
"""
HEIGHT = {unit: height for height, line in enumerate(LAYERS.split("\n")) for unit in line.split()}

HEAVY = {"archspec", "cpuinfo", "ctypes", "dataclasses", "enum", "json", "llvmlite", "re", "rich", "typing"}
STARTS_A_PROCESS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}


def unit_of(path: Path) -> str:
    """The module, or the package below cpufeat, that a file belongs to; cpufeat itself only forwards names."""
    first, *rest = path.relative_to(PACKAGE).parts
    return first if rest else path.stem


def imported(tree: ast.AST) -> set[str]:
    """The units of cpufeat that a file imports anywhere, also for the type checker alone."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("cpufeat.")} & HEIGHT.keys()


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if unit_of(path) != "__init__"]


def test_every_module_has_a_layer() -> None:
    assert {unit_of(path) for path in FILES} == HEIGHT.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    unit = unit_of(path)
    others = imported(ast.parse(path.read_text())) - {unit}
    assert {other for other in others if HEIGHT[other] >= HEIGHT[unit]} == set()


CONVENIENCES = {("artifact", "linking"), ("artifact", "library")}
"""Methods of an artifact that only hand it on: ``link`` and ``load``."""


class _Imported(ast.NodeVisitor):
    """The modules that one of a package imports when it runs: not those that only the type checker sees."""

    def __init__(self, package: str, tree: ast.AST) -> None:
        self.package, self.names = package, set[str]()
        self.visit(tree)

    def visit_If(self, node: ast.If) -> None:
        for child in node.orelse if getattr(node.test, "id", "") == "TYPE_CHECKING" else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        head, _, module = (node.module or "").partition(f"cpufeat.{self.package}.")
        self.names |= {module} if module and not head else set()
        self.names |= {alias.name for alias in node.names} if node.module == f"cpufeat.{self.package}" else set()


@pytest.mark.parametrize("package", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_no_module_of_a_package_rests_on_itself(package: str) -> None:
    files = [path for path in (PACKAGE / package).glob("*.py") if path.stem != "__init__"]
    left = {path.stem: _Imported(package, ast.parse(path.read_text())).names for path in files}
    while left:
        rests_on = {
            name: {one for one in names & left.keys() if (name, one) not in CONVENIENCES}
            for name, names in left.items()
        }
        free = {name for name, names in rests_on.items() if not names}
        assert free, {name: sorted(names) for name, names in rests_on.items()}
        left = {name: names for name, names in left.items() if name not in free}


def start(code: str) -> dict[str, list[str]]:
    """What a process without site-packages has loaded, opened and started after running ``code``."""
    watched = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
events, loaded_before = [], set(sys.modules)
sys.addaudithook(lambda name, arguments: events.append((name, str(arguments[0]) if arguments else "")))
{code}
seen, loaded = list(events), sorted(set(sys.modules) - loaded_before)
import json
print(json.dumps({{
    "loaded": loaded,
    "opened": [path for name, path in seen if name == "open"],
    "events": [name for name, _ in seen],
}}))
"""
    result = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", watched], capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


def test_importing_does_nothing() -> None:
    done = start("import cpufeat")
    assert [name for name in done["loaded"] if name not in ("cpufeat", "__future__")] == []
    assert [path for path in done["opened"] if not path.endswith((".py", ".pyc"))] == []


def test_answering_for_this_machine_loads_little_and_starts_nothing() -> None:
    done = start("import cpufeat; cpufeat.target_for_host()")
    assert HEAVY.intersection(done["loaded"]) == set()
    assert STARTS_A_PROCESS.intersection(done["events"]) == set()
    assert any(path.endswith("features.tsv") for path in done["opened"])


def test_answers_come_from_the_second_call_without_a_look_at_the_machine() -> None:
    done = start("import cpufeat; cpufeat.target_for_host(); events.clear(); cpufeat.target_for_host()")
    assert done["events"] == []


def test_no_memory_is_writable_and_executable_at_once(qemu: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import cpufeat; print(cpufeat.detect().source)"
    command = [qemu, "-strace", sys.executable, "-I", "-S", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    mappings = [line for line in result.stderr.splitlines() if " mmap(" in line or " mprotect(" in line]
    made_executable = [line for line in mappings if " mprotect(" in line and "PROT_EXEC" in line]
    assert result.stdout.strip() == "CPUID"
    assert [line for line in mappings if "PROT_WRITE" in line and "PROT_EXEC" in line] == []
    assert len(made_executable) == 1


def test_where_cpuid_is_refused_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    by_cpuid = cpufeat.detect()
    monkeypatch.setattr(native, "load", lambda arch: None)
    by_kernel = cpufeat.detect()
    assert (by_cpuid.source, by_kernel.source) == ("CPUID", "/proc/cpuinfo")
    for fact in ("vendor", "family", "model", "stepping", "brand", "cpu", "level"):
        assert getattr(by_kernel, fact) == getattr(by_cpuid, fact)
    assert by_kernel.features.isa <= by_cpuid.features
    flags = set(Path("/proc/cpuinfo").read_text().split())
    lost = [table("x86_64")[name] for name in (by_cpuid.features - by_kernel.features).isa]
    assert [feature for feature in lost if flags.intersection(feature.spellings.get("kernel", (feature.name,)))] == []


REFUSE_EXECUTABLE_MEMORY = """
import ctypes, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit("this kernel has no PR_SET_MDWE")
import cpufeat
print(cpufeat.detect().source)
"""


def test_where_the_kernel_refuses_executable_memory_its_flags_are_read() -> None:
    command = [sys.executable, "-c", REFUSE_EXECUTABLE_MEMORY]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no PR_SET_MDWE" in result.stderr:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert (result.stdout, result.stderr) == ("/proc/cpuinfo\n", "")
