"""Python and cpufeat run as programs of other architectures, by qemu-user: foreign.py says how to ask for it.

What is found there is held against LLVM: its own detection where llvmlite runs there too (aarch64), and what it says
that a CPU of that name has. QEMU's models are a little less, or more, than the cores; reasons stand with the names.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.foreign_python import ARM64, ARMHF, I386, PPC64EL, RISCV64, S390X, Foreign, run
from helpers.paths import KERNELS, SCRIPTS
from helpers.zig import capabilities

from cpufeat import aot, llvm_tables
from cpufeat.detection.detect import detect
from cpufeat.detection.recording import Recording
from cpufeat.features import FeatureSet, find, table
from cpufeat.levels import level_features
from cpufeat.target import Target

DETECT = str(SCRIPTS / "foreign_host.py")
ASK_BOTH = str(SCRIPTS / "llvm_host.py")


@functools.cache
def found_on(foreign: Foreign, model: str, cpuinfo: str = "") -> dict[str, Any]:
    """What cpufeat finds on a CPU model; without ``cpuinfo``, /proc/cpuinfo may be this machine's."""
    return _answer(foreign, model, DETECT, cpuinfo)


def _answer(foreign: Foreign, model: str, script: str, cpuinfo: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as private:
        files = {"/proc/cpuinfo": cpuinfo} if cpuinfo else {}
        answer: dict[str, Any] = json.loads(run(foreign, model, [script], files, Path(private)))
    return answer


def cpuinfo(midr: int, architecture: int, flags: list[str], processors: int) -> str:
    """What Linux on Arm writes."""
    return "".join(
        f"processor\t: {number}\nBogoMIPS\t: 125.00\nFeatures\t: {' '.join(flags)}\n"
        f"CPU implementer\t: {midr >> 24:#x}\nCPU architecture: {architecture}\n"
        f"CPU variant\t: {midr >> 20 & 15:#x}\nCPU part\t: {midr >> 4 & 0xFFF:#05x}\nCPU revision\t: {midr & 15}\n\n"
        for number in range(processors)
    )


def against_llvm(arch: str, cpu: str, features: list[str]) -> tuple[set[str], set[str]]:
    """What can be detected and LLVM says that the CPU has, but is not found; and what is found beyond that."""
    by_name = llvm_tables.cpu_features(arch, cpu)
    assert by_name
    rows = table(arch)
    detectable = {name for name in by_name.isa if rows[name].bit}
    return detectable - set(features), set(FeatureSet(arch, features).isa) - by_name.names


# --- AArch64


CI_MODELS = {"cortex-a53", "cortex-a76", "neoverse-n1", "a64fx", "max"}
ASKED_BY_LLVM = "fp_armv8 neon crc lse sha2 aes sha3 sm4 sve sve2 sve_aes sve_sha3 sve_sm4 rand"
"""All that the detection of LLVM 22 asks Linux about; the rest it takes from the CPU's name."""
LACKS = {"ssbs": "QEMU leaves it out of AT_HWCAP"}
OPTIONAL = {
    "crypto": "a bundle of aes and sha2, which LLVM leaves out of what a CPU has",
    "rand": "the Neoverse N2 may have it",
    **dict.fromkeys(
        (
            *("aes", "sha2", "sha3", "sm4", "sve_aes", "sve_sha3", "sve_sm4"),
            *("sve2_aes", "sve2_sha3", "sve2_sm4", "sve2_bitperm"),
        ),
        "the Cortex-A710 and the Neoverse N2 are sold with and without cryptography",
    ),
}


def aarch64_models() -> list[str]:
    """All that qemu has; CI runs the most telling, since LLVM's library takes ten seconds to load on each."""
    emulator = shutil.which(ARM64.emulator)
    if not emulator or os.environ.get("CI") == "true":
        return sorted(CI_MODELS)
    listed = subprocess.run([emulator, "-cpu", "help"], capture_output=True, text=True, check=False, timeout=60).stdout
    return re.findall(r"^  (\S+)", listed, re.M)


@pytest.mark.parametrize("model", aarch64_models())
def test_aarch64_is_detected_as_llvm_detects_it(model: str) -> None:
    bare = found_on(ARM64, model)
    words = dict(zip(("HWCAP", "HWCAP2", "HWCAP3"), bare["words"], strict=True))
    flags = [name.lower().replace("_", "") for word, name, bit in capabilities("aarch64") if words[word] >> bit & 1]
    both = _answer(ARM64, model, ASK_BOTH, cpuinfo(bare["midr"], 8, flags, bare["online"]))
    named = {find("aarch64", name).name: has for name, has in both["llvm features"].items()}
    asked = {name: name in both["features"] for name in named.keys() | set(ASKED_BY_LLVM.split())}
    assert asked == {**dict.fromkeys(asked, False), **named}
    assert both["cpu"] == both["llvm cpu"] == ("generic" if model == "max" else model)
    assert both["features"] == bare["features"]
    if model != "max":
        lacks, more = against_llvm("aarch64", both["cpu"], both["features"])
        assert (lacks - LACKS.keys(), more - OPTIONAL.keys()) == (set(), set())


def test_qemu_has_the_aarch64_models_that_ci_runs() -> None:
    assert set(aarch64_models()) >= CI_MODELS


AARCH64_LEVELS = {
    "cortex-a53": "armv8-a",
    "cortex-a76": "armv8.2-a",
    "neoverse-n1": "armv8.2-a",
    "a64fx": "armv8.2-a",
}


@pytest.mark.parametrize("model", AARCH64_LEVELS)
def test_without_an_identity_the_auxiliary_vector_tells(model: str) -> None:
    bare = found_on(ARM64, model)
    assert (bare["source"], bare["level"], bare["cores"]) == ("AT_HWCAP", AARCH64_LEVELS[model], bare["online"])
    assert bare["without_proc"] == bare["features"], "the C library has the vector too"


# --- the others


class Model(NamedTuple):
    """One of QEMU's CPU models, what is found there, and how that may differ from LLVM's idea of the CPU."""

    foreign: Foreign
    name: str
    cpu: str
    level: str
    lacks: str = ""
    more: str = ""
    reason: str = ""
    midr: int = 0
    """The Main ID Register by QEMU's target/arm, which 32-bit programs cannot read, to write /proc/cpuinfo with."""


MODELS = [
    Model(ARMHF, "cortex-a7", "cortex-a7", "armv7ve", midr=0x410FC075),
    Model(ARMHF, "cortex-a8", "cortex-a8", "armv7-a", midr=0x410FC080),
    Model(
        *(ARMHF, "cortex-a9", "cortex-a9", "armv7-a"),
        lacks="mp fp16",
        reason="AT_HWCAP has no bits for these; VFPv4 and the virtualization extensions tell, which it lacks",
        midr=0x410FC090,
    ),
    Model(ARMHF, "cortex-a15", "cortex-a15", "armv7ve", midr=0x412FC0F1),
    Model(PPC64EL, "power8", "pwr8", "power8", lacks="htm", reason="QEMU has no transactions"),
    Model(PPC64EL, "power9", "pwr9", "power9", lacks="htm", reason="QEMU has no transactions"),
    Model(PPC64EL, "power10", "pwr10", "power10"),
    Model(
        *(I386, "n270", "bonnell", "i686"),
        lacks="cx16 64bit",
        reason="the N270 is a Bonnell of 32 bits",
    ),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.foreign.debian}-{model.name}")
def test_named_cores_have_what_llvm_says(model: Model) -> None:
    detected = found_on(model.foreign, model.name, cpuinfo(model.midr, 7, [], 1) if model.midr else "")
    assert (detected["arch"], detected["cpu"], detected["level"]) == (model.foreign.arch, model.cpu, model.level)
    assert against_llvm(detected["arch"], model.cpu, detected["features"]) == (
        set(model.lacks.split()),
        set(model.more.split()),
    )


def test_s390x_is_at_least_a_z13() -> None:
    detected = found_on(S390X, "max")
    z13 = llvm_tables.cpu_features("s390x", "z13")
    assert z13
    no_transactions_and_no_decimals = {"transactional_execution", "dfp_zoned_conversion", "dfp_packed_conversion"}
    missing = set(z13.isa) - set(detected["features"])
    assert (detected["source"], detected["level"], missing) == ("AT_HWCAP", "z13", no_transactions_and_no_decimals)


@pytest.mark.parametrize("model", ["rv64", "sifive-u54"])
def test_riscv_letters_are_bits_of_the_auxiliary_vector(model: str) -> None:
    detected = found_on(RISCV64, model)
    letters = {chr(ord("a") + bit) for bit in range(26) if detected["words"][0] >> bit & 1}
    assert letters >= set("imafdc")
    user_code = FeatureSet("riscv64", detected["features"]).isa
    assert {name for name in user_code if len(name) == 1} - {"b"} == letters - set("hsu")
    assert level_features("riscv64", "rv64gc") <= FeatureSet("riscv64", detected["features"])


def test_riscv_finds_no_more_than_the_model_has() -> None:
    features = FeatureSet("riscv64", found_on(RISCV64, "sifive-u54")["features"]).isa.names
    u54 = llvm_tables.cpu_features("riscv64", "sifive-u54")
    assert u54
    counters, c_with_d = {"zicntr", "zihpm"}, {"zcd"}
    assert features <= u54.closed().names | counters | c_with_d


def test_riscv_vectors_are_usable_only_if_hwprobe_reports_them() -> None:
    with_vectors, without = (found_on(RISCV64, f"rv64,v={value}") for value in ("true", "false"))
    assert ("v" in with_vectors["features"]) == (with_vectors["source"] == "riscv_hwprobe")
    assert (with_vectors["words"][0] ^ without["words"][0]) == 1 << 21
    assert "v" not in without["features"]


EVERYWHERE = [
    (ARM64, "cortex-a76"),
    (ARMHF, "max"),
    (I386, "Haswell"),
    (PPC64EL, "power10"),
    (RISCV64, "rv64"),
    (S390X, "max"),
]


@pytest.mark.parametrize(
    ("foreign", "model"), EVERYWHERE, ids=lambda value: value if isinstance(value, str) else value.debian
)
def test_a_recording_made_there_is_the_same_machine_here(foreign: Foreign, model: str) -> None:
    detected = found_on(foreign, model)
    replayed = detect(Recording.from_json(detected["recording"]))
    same = (replayed.arch, replayed.source, replayed.cpu, replayed.level, list(replayed.features))
    assert same == tuple(detected[key] for key in ("arch", "source", "cpu", "level", "features"))
    assert sum(core.count for core in replayed.cores) == detected["cores"] == detected["online"]


# --- code for what is found runs there


ZIG_TRIPLES = {
    "arm64": "aarch64-linux-musl",
    "armhf": "arm-linux-musleabihf",
    "i386": "x86-linux-musl",
    "ppc64el": "powerpc64le-linux-musl",
    "riscv64": "riscv64-linux-musl",
    "s390x": "s390x-linux-musl",
}


def zig(triple: str, *arguments: str | Path) -> None:
    """Zig builds its C library for a triple when that is first asked for, which takes a minute."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-g0", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert process.returncode == 0, process.stderr


def kernels() -> list[Path]:
    return [KERNELS / f"{name}.c" for name in ("dot", "scan", "matrix", "base64", "population")]


@pytest.fixture(scope="session")
def printed_here(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("here") / "print"
    zig("x86_64-linux-musl", "-O0", "-static", KERNELS / "print.c", *kernels(), "-o", program)
    return subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize(
    ("foreign", "model"),
    [(ARM64, "a64fx"), *EVERYWHERE],
    ids=lambda value: value if isinstance(value, str) else value.debian,
)
def test_code_for_what_is_found_runs_there(
    foreign: Foreign, model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Compiled here, of IR without a CPU's name, in which case LLVM and cpufeat have nothing to say."""
    target = Target.from_json(json.dumps(found_on(foreign, model)["target"]))
    target = target.replace(triple=target.triple.replace("-gnu", "-musl"))
    objects = []
    for source in kernels():
        ir, content = tmp_path / f"{source.stem}.ll", tmp_path / f"{source.stem}.o"
        zig(ZIG_TRIPLES[foreign.debian], "-O2", "-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm", source, "-o", ir)
        ir.write_text(re.sub(r'"(target-cpu|target-features|tune-cpu)"="[^"]*"', "", ir.read_text()))
        artifact = aot.compile(ir, target, opt=3)
        assert artifact.decisions == ()
        content.write_bytes(artifact.object)
        objects.append(content)
    program = tmp_path / "print"
    zig(ZIG_TRIPLES[foreign.debian], "-static", KERNELS / "print.c", *objects, "-o", program)
    command = [foreign.emulator, "-cpu", model, str(program)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (process.returncode, process.stdout) == (0, request.getfixturevalue("printed_here"))
