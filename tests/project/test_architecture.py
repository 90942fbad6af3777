"""How the modules depend on one another, and what the first moments of a process load, open and map."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cpufeat
from cpufeat.detection import instructions
from cpufeat.features import table

PACKAGE = Path(cpufeat.__file__).parent
ROOM = 12
"""The most modules, besides ``__init__`` and ``__main__``, that a folder holds."""

# What lies directly in cpufeat, from the ground up: each imports only from the lines above its own. Inside a folder
# any order will do that has no circle. A new module or folder is placed here.
LAYERS = """
support
errors
tables decisions binary_format
features triples
levels llvm_tables
detection
cpus
request
target
resolution
explain auditing
aot
running
cli
__init__
__main__
"""
HEIGHT = {unit: height for height, line in enumerate(LAYERS.strip().split("\n")) for unit in line.split()}

HEAVY = {"archspec", "cpuinfo", "ctypes", "dataclasses", "enum", "json", "llvmlite", "re", "rich", "typing"}
STARTS_A_PROCESS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}


def dotted(path: Path) -> str:
    """The name of a module, ``cpufeat.aot.__init__`` for a package's own file."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FOLDERS = sorted({path.parent for path in MODULES.values()})


def named(text: str) -> str | None:
    """The module that a dotted name means: itself, its package's ``__init__``, or the module that has the attribute."""
    while text:
        for name in (text, f"{text}.__init__"):
            if name in MODULES:
                return name
        text = text.rpartition(".")[0]
    return None


def names_a_module(text: str) -> bool:
    """Whether a string is a module's name; that of the whole package is said for other reasons too."""
    return text.startswith("cpufeat.") and named(text) in (text, f"{text}.__init__")


def imports(name: str) -> set[str]:
    """The modules that one imports: anywhere, for type checkers alone, or by a string that names it."""
    texts: set[str] = set()
    package = name.removesuffix(".__init__") if name.endswith(".__init__") else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            texts.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            texts.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.JoinedStr):
            texts |= by_pattern(node, package)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and names_a_module(node.value):
            texts.add(node.value)
    found = {named(text) for text in texts if text.partition(".")[0] == "cpufeat"}
    return {other for other in found if other is not None} - {name}


def by_pattern(node: ast.JoinedStr, package: str) -> set[str]:
    """The modules that an f-string such as ``f"cpufeat.cli.{verb}"`` or ``f"{__name__}.{family}"`` may name."""
    parts = [
        part.value if isinstance(part, ast.Constant) else package if ast.unparse(part.value) == "__name__" else "*"
        for part in node.values
        if isinstance(part, (ast.Constant, ast.FormattedValue))
    ]
    pattern = "".join(map(str, parts))
    return set(fnmatch.filter(MODULES, pattern)) if re.fullmatch(r"cpufeat(\.[\w*]+)+", pattern) else set()


IMPORTS = {name: imports(name) for name in MODULES}


def child(folder: str, name: str) -> str:
    """What of a folder a module belongs to: a module of it, or a folder in it."""
    return name[len(folder) + 1 :].partition(".")[0]


def arrows(folder: str) -> dict[str, set[str]]:
    """For each module or folder that lies directly in a folder, those beside it that it depends on."""
    inside = {name for name in MODULES if name.startswith(f"{folder}.")}
    found: dict[str, set[str]] = {child(folder, name): set() for name in inside}
    for name in inside:
        found[child(folder, name)] |= {child(folder, other) for other in IMPORTS[name] & inside}
    return {unit: others - {unit} for unit, others in found.items()}


def test_every_module_has_a_layer() -> None:
    assert arrows("cpufeat").keys() == HEIGHT.keys()


def test_imports_point_down() -> None:
    upward = {
        (unit, other) for unit, others in arrows("cpufeat").items() for other in others if HEIGHT[other] >= HEIGHT[unit]
    }
    assert upward == set()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE.parent)))
def test_no_module_depends_on_itself(folder: Path) -> None:
    left = arrows(dotted(folder))
    assert left
    while left:
        free = {unit for unit, others in left.items() if not others & left.keys()}
        assert free, f"a circle: { {unit: sorted(others & left.keys()) for unit, others in left.items()} }"
        left = {unit: others for unit, others in left.items() if unit not in free}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE.parent)))
def test_a_folder_holds_about_a_dozen_modules(folder: Path) -> None:
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    assert len(modules) <= ROOM
    assert (folder / "__init__.py").read_text().startswith('"""')


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
    monkeypatch.setattr(instructions, "load", lambda arch: None)
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
