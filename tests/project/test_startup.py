"""What the first moments of a process load, open, start and map."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cpufeat
from cpufeat.detection import instructions
from cpufeat.features import table

PACKAGE = Path(cpufeat.__file__).parent
HEAVY = {"archspec", "cpuinfo", "ctypes", "dataclasses", "enum", "json", "llvmlite", "re", "rich", "typing"}
STARTS_A_PROCESS = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}


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
    process = start("import cpufeat")
    assert [name for name in process["loaded"] if name not in ("cpufeat", "__future__")] == []
    assert [path for path in process["opened"] if not path.endswith((".py", ".pyc"))] == []


def test_answering_for_this_machine_loads_little_and_starts_nothing() -> None:
    process = start("import cpufeat; cpufeat.target_for_host()")
    assert HEAVY.intersection(process["loaded"]) == set()
    assert STARTS_A_PROCESS.intersection(process["events"]) == set()
    assert any(path.endswith("features.tsv") for path in process["opened"])


def test_answers_come_from_the_second_call_without_a_look_at_the_machine() -> None:
    process = start("import cpufeat; cpufeat.target_for_host(); events.clear(); cpufeat.target_for_host()")
    assert process["events"] == []


def test_no_memory_is_writable_and_executable_at_once(qemu: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import cpufeat; print(cpufeat.detect().source)"
    command = [qemu, "-strace", sys.executable, "-I", "-S", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    mappings = [line for line in result.stderr.splitlines() if " mmap(" in line or " mprotect(" in line]
    in_memory = result.stderr.partition(" memfd_create(")[2]
    assert result.stdout.strip() == "CPUID"
    assert [line for line in mappings if "PROT_WRITE" in line and "PROT_EXEC" in line] == []
    assert [line for line in mappings if " mprotect(" in line and "PROT_EXEC" in line] == []
    assert len(re.findall(r" mmap\(NULL,\d+,PROT_EXEC\|PROT_READ,MAP_PRIVATE,", in_memory)) >= 1


@pytest.mark.parametrize("refused", ["memfd_create", "memfd_create mmap"])
def test_where_files_in_memory_are_refused_a_page_is_made_executable(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    expected = cpufeat.detect().features
    monkeypatch.setattr(os, "memfd_create", refuse)
    if "mmap" in refused.split():
        monkeypatch.setattr(instructions, "_executable", lambda *_: None)
    host = cpufeat.detect(cpufeat.ThisMachine())
    assert host.source == ("/proc/cpuinfo" if "mmap" in refused.split() else "CPUID")
    assert (host.features == expected) == (host.source == "CPUID")


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


def test_cpuid_runs_where_the_kernel_lets_no_writable_memory_become_executable() -> None:
    command = [sys.executable, "-c", REFUSE_EXECUTABLE_MEMORY]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no PR_SET_MDWE" in result.stderr:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert (result.stdout, result.stderr) == ("CPUID\n", "")
