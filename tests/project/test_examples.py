"""Each example does what it says, on this machine and on emulated CPUs with fewer features."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from helpers.build_binaries import build_kernel
from helpers.environment import ENVIRONMENT
from helpers.paths import MACHINES, PROJECT
from helpers.qemu import run
from helpers.requirements import unavailable

import cpufeat

EXAMPLES = PROJECT / "examples"
SUM = str(sum(number * number for number in range(1000)))
"""The result of compile_for_host.py."""
SQUARES = """
define void @squares(<16 x i32>* %p) {
  %a = load <16 x i32>, <16 x i32>* %p
  %r = mul <16 x i32> %a, %a
  store <16 x i32> %r, <16 x i32>* %p
  ret void
}
"""


def command(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]


def here(name: str, *arguments: str | Path) -> str:
    process = subprocess.run(command(name, *arguments), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("request_", [(), ("x86-64",), ("native-avx",)])
def test_compile_for_host_computes_the_sum_for_each_request(request_: tuple[str, ...]) -> None:
    assert here("compile_for_host.py", *request_).startswith(f"{SUM}, by code for ")


def test_compile_for_host_compiles_for_an_emulated_cpu(qemu: str) -> None:
    process = run(qemu, "Nehalem", command("compile_for_host.py"), ENVIRONMENT)
    assert process.stdout == f"{SUM}, by code for nehalem at x86-64-v2\n", process.stderr


def test_ship_levels_picks_the_best_object_and_says_what_better_ones_lack(tmp_path: Path, qemu: str) -> None:
    module = tmp_path / "module.ll"
    module.write_text(SQUARES)
    here("ship_levels.py", "build", tmp_path, module)
    assert here("ship_levels.py", "pick", tmp_path).endswith(f"{cpufeat.detect().level}.o\n")
    lines = run(qemu, "Nehalem", command("ship_levels.py", "pick", tmp_path), ENVIRONMENT).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["not x86-64-v4.o", "not x86-64-v3.o", "x86-64-v2.o"]
    assert "; avx2 is not reported (CPUID" in lines[1]


def test_explain_fallback_prints_each_dropped_feature(qemu: str) -> None:
    granted = here("explain_fallback.py", "x86-64,+popcnt")
    assert granted.startswith("x86-64,+popcnt: compiling for x86-64, ")
    lines = run(qemu, "Haswell", command("explain_fallback.py"), ENVIRONMENT).stdout.splitlines()
    assert lines[0].endswith(", level x86-64-v3")
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"  dropped {name}" for name in ("avx512f", "evex512", "avx512cd", "avx512bw", "avx512dq", "avx512vl")
    ]


def test_cluster_report_finds_the_common_target_and_each_nodes_variant() -> None:
    report = json.loads(here("cluster_report.py", MACHINES, "haswell", "x86-64-v2", "x86-64"))
    assert report["everywhere"]["level"] == "x86-64"
    assert report["held_back_by"] == {"qemu-qemu64": ["ssse3", "sse4_1"]}
    variants = {node: told["variant"] for node, told in report["nodes"].items()}
    assert variants["qemu-haswell"] == "haswell"
    assert variants["qemu-haswell-without-avx"] == variants["qemu-nehalem"] == "x86-64-v2"
    assert report["variants"]["x86-64"] == sum(variant == "x86-64" for variant in variants.values()) > 0


def test_cluster_report_names_a_recording_that_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "node7.json").write_text("{")
    done = subprocess.run(command("cluster_report.py", tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cluster_report: {tmp_path / 'node7.json'}: not JSON")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with one library, for x86-64-v3."""
    folder = tmp_path_factory.mktemp("wheel")
    kernel = build_kernel(folder, triple="x86_64-linux-gnu", cpu="x86_64_v3")
    with zipfile.ZipFile(folder / "dot-1.0-py3-none-any.whl", "w") as archive:
        archive.write(kernel, "dot/kernel.cpython-311-x86_64-linux-gnu.so")
        archive.writestr("dot/__init__.py", "")
    return folder / "dot-1.0-py3-none-any.whl"


def gate(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(command("gate_wheels.py", *arguments), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_gate_wheels_fails_for_a_library_beyond_the_level_and_names_the_first_use(wheel: Path) -> None:
    assert gate("x86-64-v3", wheel) == (0, f"ok {wheel.name}/dot/kernel.cpython-311-x86_64-linux-gnu.so\n")
    status, said = gate("x86-64-v2", wheel)
    assert (status, said.splitlines()[0]) == (1, f"FAIL {wheel.name}/dot/kernel.cpython-311-x86_64-linux-gnu.so")
    assert re.search(r"^    fma without a check: vfmadd\w+ .* at \.text\+0x\w+ in dot_float \(.*\)", said, re.MULTILINE)
    assert "xsave" not in said


def test_gate_wheels_permits_what_its_list_allows(wheel: Path, tmp_path: Path) -> None:
    allow = tmp_path / "allow"
    allow.write_text("# known\ndot-*/*.so avx2 fma  # checked by the caller\ngone-* avx\n")
    status, said = gate("x86-64-v2", wheel, "--allow", allow)
    assert (status, said.splitlines()[-1]) == (0, f"{allow}: gone-* matches no file any more")
    allow.write_text("other-* avx2 fma\n")
    assert gate("x86-64-v2", wheel, "--allow", allow)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x86-64-v9"], "unknown x86 feature 'v9'"),
        (["x86-64-v2", "--allow", "absent"], "No such file or directory: 'absent'"),
        (["armv8-a", "--triple", "aarch64-linux-gnu"], "code of x86_64, compared with features of aarch64"),
    ],
)
def test_gate_wheels_ends_with_2_for_what_it_cannot_do(wheel: Path, arguments: list[str], message: str) -> None:
    status, said = gate(arguments[0], wheel, *arguments[1:])
    assert (status, message in said) == (2, True), said


def test_embed_compiles_and_calls_code_in_a_c_program(compiler: str, tmp_path: Path) -> None:
    config = Path(sys.base_exec_prefix, "bin", f"python{sysconfig.get_python_version()}-config")
    if not config.exists():
        unavailable(str(config), "apt-get install python3-dev")
    listed = subprocess.run([config, "--includes", "--ldflags", "--embed"], capture_output=True, text=True, check=True)
    flags = [*listed.stdout.split(), f"-Wl,-rpath,{sysconfig.get_config_var('LIBDIR')}"]
    program = tmp_path / "embed"
    subprocess.run([compiler, EXAMPLES / "embed.c", "-Wall", "-Werror", "-o", program, *flags], check=True)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([program, sys.executable], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    wrong = subprocess.run(
        [program, sys.executable],
        env={**environment, "CPUFEAT_TARGET": "haswel"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.endswith("CPUFEAT_TARGET: unknown x86 CPU 'haswel'; did you mean haswell?\n")
