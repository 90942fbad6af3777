"""macOS, Windows, Android and the BSDs: their systems' calls by fakes of the C libraries, their machines by recordings.

Values written here: hw.cpufamily and hw.perflevel of an Apple M1 Pro, MIDRs of Qualcomm's Oryon (0x51, 0x001) and of
the Cortex-A76 and -A55, as LLVM's lib/TargetParser/Host.cpp has them; AT_HWCAP of a Cortex-A72 (Raspberry Pi 4). Whole
machines: archspec-json's recordings of sysctl and of CPUID under Windows, in ../shared/corpora.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.corpora import needs_corpora
from helpers.llvm_data import features_of
from helpers.machines import leaves, machine
from helpers.paths import CORPORA
from llvmlite import binding

import cpufeat
from cpufeat.detection import host, instructions, systems
from cpufeat.detection.detect import detect
from cpufeat.detection.dumps import load, parse
from cpufeat.detection.recorder import record
from cpufeat.detection.recording import Recording
from cpufeat.detection.systems import ThisMachine, sysctl, windows
from cpufeat.detection.systems.base import process_arch
from cpufeat.detection.systems.bsd import Bsd
from cpufeat.detection.systems.darwin import Darwin
from cpufeat.detection.systems.linux import Linux
from cpufeat.detection.systems.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

ARCHSPEC = CORPORA / "raw" / "archspec-json" / "tests" / "targets"
needs_x86_64 = pytest.mark.skipif(ThisMachine().cpuid(0) is None or sys.maxsize < 2**32, reason="needs x86-64's CPUID")
INTEL = "GenuineIntel"


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux", "Linux"),
        ("android", "Linux"),
        ("darwin", "Darwin"),
        ("win32", "Windows"),
        ("freebsd14", "Bsd"),
        ("openbsd7", "Bsd"),
        ("netbsd10", "Bsd"),
        ("dragonfly6", "Bsd"),
        ("cygwin", "NativeMachine"),
        ("sunos5", "NativeMachine"),
    ],
)
def test_this_machine_is_the_class_of_the_running_system(
    platform: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert runpy.run_path(systems.__file__)["ThisMachine"].__name__ == name


class Library:
    """A C library of Python functions, which ctypes' callers may give argtypes."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        for name, function in functions.items():
            setattr(self, name, Function(function))


class Function:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def kernel_of(values: dict[str, bytes]) -> Library:
    """A C library whose sysctlbyname knows these variables."""

    def sysctlbyname(name: bytes, buffer: Any, length: Any, new: None, new_length: int) -> int:
        assert (new, new_length) == (None, 0)
        value = values.get(name.decode())
        if value is None:
            return -1
        ctypes.memmove(buffer, value, len(value))
        length._obj.value = len(value)
        return 0

    return Library(sysctlbyname=sysctlbyname)


def word(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


# --- macOS


MAC = {
    "kern.osproductversion": b"14.5\0",
    "hw.optional.AdvSIMD": word(1),
    "hw.optional.floatingpoint": word(1),
    "hw.optional.neon": word(1),
    "hw.optional.arm.FEAT_DotProd": word(1),
    "hw.optional.arm.FEAT_BF16": word(0),
    "hw.cpufamily": word(0x1B588BB3),
    "hw.cpusubfamily": word(4),
    "hw.nperflevels": word(2),
    "hw.perflevel0.physicalcpu": word(6),
    "hw.perflevel1.physicalcpu": word(2),
    "machdep.cpu.brand_string": b"Apple M1 Pro\0",
}


@pytest.fixture
def on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")


def mac(values: dict[str, bytes], arch: str = "aarch64") -> Darwin:
    system = Darwin(kernel_of(values))
    system.arch = arch
    return system


@pytest.mark.usefixtures("on_macos")
def test_a_mac_is_asked_by_sysctl() -> None:
    detected = detect(mac(MAC))
    assert (detected.cpu, detected.name, detected.brand) == ("apple-m1", "M1 Pro", "Apple M1 Pro")
    assert detected.cores == (host.Core("apple-m1", 8),)
    assert {"neon", "dotprod"} <= detected.features.names
    assert "bf16" not in detected.features
    assert detected.evidence["dotprod"] == "hw.optional.arm.FEAT_DotProd"
    assert cpufeat.resolve("native", host=detected).target.triple == "arm64-apple-macosx14.5.0"


@pytest.mark.parametrize(("longest", "usable"), [(64, True), (16, True), (0, False), (None, False)])
def test_scalable_matrices_need_a_vector_length(longest: int | None, usable: bool) -> None:
    """iOS reports SME and permits no user code to use it: pytorch/cpuinfo #432."""
    told = ["AdvSIMD", *(f"FEAT_{name}" for name in ("BF16", "FP16", "SME", "SME2", "SME_F64F64", "SME_I16I64"))]
    values: dict[str, int | str] = {f"hw.optional.arm.{name}": 1 for name in told}
    values["hw.optional.floatingpoint"] = 1
    if longest is not None:
        values["hw.optional.arm.sme_max_svl_b"] = longest
    detected = detect(Recording(system="darwin", libc="", arch="aarch64", sysctls=values))
    assert {"bf16", "fullfp16"} <= detected.features.names
    matrices = {"streaming_sve", "sme", "sme2", "sme_f64f64", "sme_i16i64"}
    assert matrices & detected.features.names == (matrices if usable else set())
    if longest == 0:
        assert detected.why_missing("sme").evidence == "sysctl FEAT_SME, sme_max_svl_b is 0"


@needs_x86_64
@pytest.mark.usefixtures("on_macos")
def test_a_mac_with_an_x86_processor_executes_cpuid() -> None:
    values = {"sysctl.proc_translated": word(1), "hw.optional.avx512f": word(1)}
    detected = detect(mac(values, "x86_64"))
    assert (detected.source, detected.hypervisor) == ("CPUID", "Rosetta 2")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (word(1), 1),
        (word(0x1B588BB3), 0x1B588BB3),
        ((1 << 40).to_bytes(8, sys.byteorder), 1 << 40),
        (b"Apple M1\0", "Apple M1"),
        (b"10.15.7\0", "10.15.7"),
        (b"\0", ""),
        (word(1) * 3, word(1).decode() * 3),
    ],
)
def test_bytes_of_sysctl_are_decoded_as_a_number_or_text(value: bytes, expected: int | str) -> None:
    answer = sysctl.decoded(value)
    assert answer == (expected if isinstance(expected, int) else expected.rstrip("\0"))


def test_avx512_of_a_mac_is_usable_though_xcr0_does_not_have_it_yet() -> None:
    """Darwin gives a thread AVX-512's state when it first uses it (LLVM's Host.cpp)."""
    recorded = machine(INTEL, 6, 85, features_of("skylake-avx512"), xcr0=0x7).replace(system="darwin", libc="")
    assert detect(recorded).level == "x86-64-v3"
    detected = detect(recorded.replace(sysctls={"hw.optional.avx512f": 1}))
    assert (detected.level, detected.cpu) == ("x86-64-v4", "skylake-avx512")
    assert detect(recorded.replace(sysctls={"hw.optional.avx512f": 1}, xcr0=0)).level == "x86-64-v2"


@needs_corpora
@pytest.mark.parametrize(
    ("name", "cpu", "count"),
    [
        ("darwin-bigsur-m1", "apple-m1", 8),
        ("darwin-monterey-m1", "apple-m1", 8),
        ("darwin-monterey-m2", "apple-m2", 8),
        ("darwin-sequoia-m3", "apple-m3", 14),
        ("darwin-sequoia-m4", "apple-m4", 16),
        ("darwin-mojave-haswell", "haswell", 1),
        ("darwin-mojave-ivybridge", "ivybridge", 4),
        ("darwin-mojave-skylake", "skylake", 1),
    ],
)
def test_recorded_macs_are_the_cpus_that_archspec_names(name: str, cpu: str, count: int) -> None:
    """archspec's names for them; LLVM's features of that CPU, of which none is reported that it has not."""
    form, recorded = load(str(ARCHSPEC / name))
    detected = detect(recorded)
    assert (form, detected.cpu, detected.cores) == ("sysctl", cpu, (host.Core(cpu, count),))
    beyond = {"ecv", "aes", "rtm"}  # LLVM leaves out what some of these models lack
    beyond |= {"crypto"}  # it is aes and sha2
    assert detected.features.isa.names <= features_of(cpu, detected.arch) | beyond
    assert detect(record(recorded)) == detected
    assert cpufeat.resolve("native", host=detected).target.triple.endswith("-apple-macosx")


@needs_corpora
def test_a_mac_that_refuses_cpuid_has_avx_and_no_avx512() -> None:
    detected = detect(load(str(ARCHSPEC / "darwin-mojave-haswell"))[1])
    assert (detected.source, detected.level) == ("sysctl", "x86-64-v3")
    flags = b"FPU CX8 CMOV MMX FXSR SSE SSE2 SSE3 SSSE3 SSE4.1 SSE4.2 XSAVE AVX1.0"
    text = b"machdep.cpu.vendor: GenuineIntel\nmachdep.cpu.features: %b\nmachdep.cpu.extfeatures: EM64T SYSCALL\n"
    without = detect(parse(text % flags, "a mac")[1])
    assert without.withheld["avx"].reason == "OS state not enabled"


# --- Windows


@needs_corpora
@pytest.mark.parametrize(
    ("name", "cpu"), [("windows-cpuid-broadwell", "broadwell"), ("windows-cpuid-icelake", "tigerlake")]
)
def test_recorded_cpuid_of_windows_is_the_cpu_that_archspec_names(name: str, cpu: str) -> None:
    """archspec has no Tiger Lake: the second, family 6 model 140 with the brand "11th Gen", is an Ice Lake there."""
    lines = [line.split(", ") for line in (ARCHSPEC / name).read_text().splitlines()]
    words = {(int(leaf), int(sub)): (int(a), int(b), int(c), int(d)) for leaf, sub, a, b, c, d in lines}
    recorded = Recording(system="windows", libc="msvc", leaves={0: words}, xcr0=0xE7)
    detected = detect(recorded)
    assert detected.cpu == cpu
    assert cpufeat.resolve("native", host=detected).target.triple == "x86_64-pc-windows-msvc"
    assert detect(recorded.replace(xcr0=None)).withheld["avx"].evidence.startswith("avx: XCR0 was not recorded")


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "version", "3.12.4 (tags/v3.12.4) [MSC v.1940 64 bit (AMD64)]")


def kernel32(native_machine: int = 0x8664) -> Library:
    """What of Windows is asked, on top of POSIX."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    read_write, read_execute = 0x04, 0x20

    def allocate(address: None, size: int, kind: int, protection: int) -> int:
        assert (address, kind, protection) == (None, 0x3000, read_write)
        both = mmap.PROT_READ | mmap.PROT_WRITE
        return int(libc.mmap(None, size, both, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0))

    def protect(address: int, size: int, protection: int, before: Any) -> int:
        assert protection == read_execute
        before._obj.value = read_write
        return int(libc.mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC) == 0)

    def is_wow64(process: Any, emulated: Any, system: Any) -> int:
        system._obj.value = native_machine
        return 1

    return Library(
        VirtualAlloc=allocate,
        VirtualProtect=protect,
        IsWow64Process2=is_wow64,
        IsProcessorFeaturePresent=lambda number: int(number in (18, 19, 43)),
        SetThreadAffinityMask=lambda thread, mask: 0xFF if mask & 0xFF else 0,
    )


@needs_x86_64
@pytest.mark.usefixtures("on_windows")
def test_windows_executes_cpuid_from_memory_that_it_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        windows, "CODE", {"x86_64": instructions.CODE["x86_64"][:2]}
    )  # POSIX's calls: this is no Windows
    system = Windows(kernel32())
    assert system.cpuid(0) == system.cpuid(0, cpu=3)
    assert system.cpuid(0, cpu=9) is None
    assert detect(system).vendor == found_vendor()
    assert (system.system, system.arch, system.libc, system.emulator) == ("windows", "x86_64", "msvc", "")


def found_vendor() -> str:
    return next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "vendor_id" in line).split()[-1]


@pytest.mark.usefixtures("on_windows")
@pytest.mark.parametrize(
    ("version", "arch", "libc"),
    [
        ("3.12.4 [MSC v.1940 64 bit (AMD64)]", "x86_64", "msvc"),
        ("3.12.4 [MSC v.1940 64 bit (ARM64)]", "aarch64", "msvc"),
        ("3.11.6 [GCC UCRT 13.2.0 64 bit (AMD64)]", "x86_64", "gnu"),
    ],
)
def test_a_python_for_windows_tells_its_architecture_and_libc(
    version: str, arch: str, libc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version", version)
    system = Windows(kernel32())
    assert (system.arch, system.libc) == (arch, libc)


@pytest.mark.usefixtures("on_windows")
def test_x64_that_windows_on_arm_emulates_is_named() -> None:
    assert Windows(kernel32(native_machine=0xAA64)).emulator == "Windows on Arm"


@pytest.mark.usefixtures("on_windows")
def test_windows_that_grants_no_memory_has_no_cpuid(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = kernel32()
    monkeypatch.setattr(refusing, "VirtualProtect", Function(lambda *_: 0))
    assert Windows(refusing).cpuid(0) is None


PROCESSOR = "HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\"
ORYON, A55, A76 = 0x511F0011, 0x412FD050, 0x414FD0B1


def on_arm(*registers: int, present: tuple[int, ...] = (18, 19, 30, 31, 34, 43, 45)) -> Recording:
    values: dict[str, int | str] = {f"{PROCESSOR}{cpu}\\CP 4000": midr for cpu, midr in enumerate(registers)}
    values[f"{PROCESSOR}0\\ProcessorNameString"] = "A processor "
    return Recording(
        system="windows",
        arch="aarch64",
        libc="msvc",
        online=tuple(range(len(registers))),
        processor_features=present,
        registry_values=values,
    )


def test_windows_on_arm_reads_the_registry() -> None:
    detected = detect(on_arm(ORYON, ORYON))
    assert (detected.cpu, detected.cores, detected.source) == (
        "oryon-1",
        (host.Core("oryon-1", 2),),
        "IsProcessorFeaturePresent",
    )
    assert {"neon", "aes", "crc", "lse", "dotprod", "rcpc"} <= detected.features.names
    assert not {"jsconv", "sve", "bf16"} & detected.features.names
    assert cpufeat.resolve("native", host=detected).target.triple == "aarch64-pc-windows-msvc"


def test_windows_on_arm_is_tuned_for_its_big_cores() -> None:
    detected = detect(on_arm(A55, A55, A55, A55, A76, A76))
    assert detected.cpu == "cortex-a76"
    assert set(detected.cores) == {host.Core("cortex-a55", 4), host.Core("cortex-a76", 2)}


# --- the BSDs, Android, Linux without glibc


def bsd(platform: str, release: str, libc: Library, arch: str, monkeypatch: pytest.MonkeyPatch) -> Bsd:
    monkeypatch.setattr(sys, "platform", platform)
    this = os.uname_result((platform, "a node", release, "a kernel", arch))
    monkeypatch.setattr(os, "uname", lambda: this)
    return Bsd(libc)


def test_freebsd_on_a_raspberry_pi_is_read_by_sysctl_and_elf_aux_info(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = kernel_of({"hw.model": b"ARM Cortex-A72 r0p3\0", "hw.machine_arch": b"aarch64\0"})

    def elf_aux_info(kind: int, buffer: Any, length: int) -> int:
        if kind != 25:
            return 2
        buffer._obj.value = 0x887  # fp, asimd, evtstrm, crc32, cpuid
        return 0

    libc.elf_aux_info = Function(elf_aux_info)  # type: ignore[attr-defined]
    detected = detect(bsd("freebsd14", "14.1-RELEASE-p5", libc, "arm64", monkeypatch))
    assert detected.cpu == "cortex-a72"
    assert {"fp_armv8", "neon", "crc"} == detected.features.isa.names
    assert detected.evidence["crc"] == "AT_HWCAP bit 7"
    assert cpufeat.resolve("native", host=detected).target.triple == "aarch64-unknown-freebsd14.1"


@needs_x86_64
def test_openbsd_without_sysctlbyname_is_read_by_cpuid(monkeypatch: pytest.MonkeyPatch) -> None:
    system = bsd("openbsd7", "7.6", Library(), "amd64", monkeypatch)
    assert (system.arch, system.getauxval(16), system.sysctl("hw.ncpu")) == ("x86_64", None, None)
    assert detect(system).source == "CPUID"
    assert cpufeat.resolve("native", host=detect(system)).target.triple == "x86_64-unknown-openbsd7.6"


def test_android_is_linux_with_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "android")
    monkeypatch.setattr(sys, "getandroidapilevel", lambda: 24, raising=False)
    system = Linux()
    assert (system.system, system.libc, system.version) == ("linux", "android", "24")


def test_a_c_library_that_is_not_glibc_is_musl(monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> str:
        raise ValueError(f"unrecognized configuration name {name}")

    monkeypatch.setattr(os, "confstr", confstr)
    assert Linux().libc == "musl"
    monkeypatch.delattr(os, "confstr")
    assert Linux().libc == "musl"


@pytest.mark.parametrize(
    ("kernel", "bits", "expected"),
    [
        ("x86_64", 64, "x86_64"),
        ("x86_64", 32, "i686"),
        ("i586", 32, "i686"),
        ("amd64", 64, "x86_64"),
        ("i86pc", 64, "x86_64"),
        ("arm64", 64, "aarch64"),
        ("aarch64", 32, "armv8l"),
        ("ppc64", 32, "ppc"),
        ("armv7l", 32, "armv7l"),
        ("s390x", 64, "s390x"),
        ("i686", 64, "x86_64"),
        ("armv8l", 64, "aarch64"),
        ("ppc", 64, "ppc64"),
        ("ppcle", 64, "ppc64le"),
        ("s390", 64, "s390x"),
    ],
)
def test_a_process_is_of_fewer_bits_than_its_kernel_or_of_more_than_that_says(
    kernel: str, bits: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    assert process_arch(kernel) == expected


@needs_x86_64
def test_a_kernel_that_calls_itself_a_32_bit_one_takes_nothing_from_a_64_bit_process() -> None:
    """personality(2): under ``setarch linux32`` uname says i686, whose machine code crashes this process."""
    program = (
        "import ctypes, cpufeat; assert ctypes.CDLL(None).personality(8) != -1; host = cpufeat.detect();"
        "print(host.arch, host.source, len(host.features))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    here = detect()
    assert (process.stdout, process.stderr) == (f"{here.arch} {here.source} {len(here.features)}\n", "")


# --- triples


@pytest.mark.parametrize(
    ("system", "version", "libc", "arch", "expected"),
    [
        ("linux", "", "gnu", "x86_64", "x86_64-unknown-linux-gnu"),
        ("linux", "", "musl", "x86_64", "x86_64-unknown-linux-musl"),
        ("linux", "", "musl", "armv7l", "armv7-unknown-linux-musleabihf"),
        ("linux", "24", "android", "aarch64", "aarch64-unknown-linux-android24"),
        ("linux", "24", "android", "armv7l", "armv7-unknown-linux-android24"),
        ("darwin", "14.0.0", "", "x86_64", "x86_64-apple-macosx14.0.0"),
        ("darwin", "14.0.0", "", "aarch64", "arm64-apple-macosx14.0.0"),
        ("windows", "", "msvc", "x86_64", "x86_64-pc-windows-msvc"),
        ("windows", "", "gnu", "x86_64", "x86_64-w64-windows-gnu"),
        ("windows", "", "cygnus", "x86_64", "x86_64-unknown-windows-cygnus"),
        ("freebsd", "14.1", "", "x86_64", "x86_64-unknown-freebsd14.1"),
        ("netbsd", "10.0", "", "aarch64", "aarch64-unknown-netbsd10.0"),
        ("haiku", "", "", "x86_64", "x86_64-unknown-haiku"),
    ],
)
def test_triples_are_those_of_clang(system: str, version: str, libc: str, arch: str, expected: str) -> None:
    """As clang spells them on each system; LLVM takes every one, and gives it back unchanged."""
    detected = detect(machine(INTEL, 6, 60, features_of("haswell")))
    triple = detected.replace(system=system, version=version, libc=libc, arch=arch).triple
    assert triple == expected
    binding.initialize_all_targets()
    assert binding.Target.from_triple(triple).triple == triple
    assert cpufeat.Target.parse("generic" if "86" not in arch else "haswell", triple).triple == triple


def test_the_triple_here_is_the_one_that_llvm_was_made_for() -> None:
    assert detect().triple == binding.get_process_triple()


# --- hypervisors and translators


def with_signature(leaf: int, text: str) -> Recording:
    recorded = machine(INTEL, 6, 60, features_of("haswell"))
    words = dict(recorded.leaves[0])
    first, second, third = (int.from_bytes(text.encode().ljust(12, b"\0")[at : at + 4], "little") for at in (0, 4, 8))
    highest = words[0, 0][0] if leaf == 0 else leaf
    words[leaf, 0] = (highest, first, third, second) if leaf == 0 else (highest, first, second, third)
    eax, ebx, ecx, edx = words[1, 0]
    words[1, 0] = (eax, ebx, ecx | 1 << 31, edx)
    return recorded.replace(leaves={0: words})


@pytest.mark.parametrize(
    ("leaf", "signature", "name"),
    [
        (0x40000000, "KVMKVMKVM\0\0\0", "KVM"),
        (0x40000000, "Microsoft Hv", "Hyper-V"),
        (0x40000000, "bhyve bhyve ", "bhyve"),
        (0x40000000, " lrpepyh  vr", "Parallels"),
        (0x40000000, "TCGTCGTCGTCG", "QEMU"),
        (0x40000000, "MadeUpByUs!!", "MadeUpByUs!!"),
        (0, "VirtualApple", "Rosetta 2"),
        (0, "MicrosoftXTA", "Windows on Arm"),
    ],
)
def test_hypervisors_are_named(leaf: int, signature: str, name: str) -> None:
    """The 12 bytes that Linux arch/x86/kernel/cpu compares, and what translators put into leaf 0."""
    assert detect(with_signature(leaf, signature)).hypervisor == name


def test_rosetta_is_known_by_its_brand() -> None:
    """Up to macOS 13 the vendor is Intel's, and the brand is ``VirtualApple @ 2.50GHz``."""
    words = leaves(INTEL, 6, 44, 0, features_of("westmere"))
    text = b"VirtualApple @ 2.50GHz".ljust(48, b"\0")
    words[0x80000000, 0] = (0x80000008, 0, 0, 0)
    for index in range(3):
        at = [int.from_bytes(text[16 * index + 4 * word : 16 * index + 4 * word + 4], "little") for word in range(4)]
        words[0x80000002 + index, 0] = (at[0], at[1], at[2], at[3])
    detected = detect(Recording(system="darwin", libc="", leaves={0: words}))
    assert (detected.brand, detected.hypervisor, detected.cpu) == ("VirtualApple @ 2.50GHz", "Rosetta 2", "westmere")


# --- py-cpuinfo, where nothing better answers


def test_py_cpuinfo_does_not_tell_what_the_system_enabled() -> None:
    flags = "fpu cx8 cmov mmx fxsr sse sse2 lm nopl pni cx16 lahf_lm ssse3 sse4_1 sse4_2 popcnt xsave avx avx2"
    answer = {"vendor_id_raw": INTEL, "family": 6, "model": 60, "stepping": 3, "count": 4, "flags": flags.split(" ")}
    detected = detect(Recording(system="netbsd", libc="", version="10.0", cpuinfo=answer))
    assert (detected.source, detected.level, detected.cores) == ("py-cpuinfo", "x86-64-v2", (host.Core("haswell", 4),))
    assert detected.withheld["avx2"].reason == "OS state not enabled"


# --- machine code of other calling conventions

_TO_MICROSOFTS = bytes.fromhex("4889f9 4989d0 4889f2")  # mov rcx, rdi; mov r8, rdx; mov rdx, rsi


@needs_x86_64
def test_code_of_the_microsoft_calling_convention_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executed here, behind three instructions that move System V's arguments to where Microsoft's are."""
    pieces = tuple(_TO_MICROSOFTS + piece for piece in windows.CODE["x86_64"])
    monkeypatch.setitem(instructions.CODE, "x86_64", pieces)
    microsofts = instructions.load("x86_64")
    monkeypatch.undo()
    ours = instructions.load("x86_64")
    assert microsofts is not None
    assert ours is not None
    for leaf, subleaf in ((0, 0), (7, 0), (7, 1), (0x80000000, 0), (0x80000002, 0)):
        assert microsofts.cpuid(leaf, subleaf) == ours.cpuid(leaf, subleaf)
    assert microsofts.xgetbv(0) == ours.xgetbv(0)


_HARNESS = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
typedef void function(unsigned long, unsigned long, uint32_t[4]);
static const unsigned char code[] = {%s};
int main(void) {
    unsigned char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    if (mprotect(page, 4096, PROT_READ | PROT_EXEC)) return 1;
    uint32_t leaf[4], ours[4] = {0}, xcr0[4] = {0};
    ((function *)page)(0, 0, leaf);
    ((function *)page)(1, 0, ours);
    if (ours[2] >> 27 & 1) ((function *)(page + %d))(0, 0, xcr0);
    printf("%%.4s%%.4s%%.4s %%u\\n", (char *)&leaf[1], (char *)&leaf[3], (char *)&leaf[2], xcr0[0]);
}
"""


@pytest.mark.slow
@needs_x86_64
def test_code_of_32_bits_reads_what_64_bit_code_reads(tmp_path: Path) -> None:
    """In a C program for 32-bit x86 that zig builds: vendor and XCR0 are those that 64-bit code reads."""
    pytest.importorskip("ziglang", reason="needs ziglang, a C compiler for 32-bit x86")
    code = ",".join(map(str, instructions.joined(instructions.CODE["i686"])))
    (tmp_path / "main.c").write_text(_HARNESS % (code, instructions.ALIGNMENT))
    built = [sys.executable, "-m", "ziglang", "cc", "-target", "x86-linux-musl", "-O1", "-o", "main", "main.c"]
    subprocess.run(built, cwd=tmp_path, check=True)
    try:
        printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    except OSError:
        pytest.skip("needs a kernel that runs 32-bit programs")
    here = ThisMachine()
    assert printed == [detect(here).vendor, str((here.xgetbv(0) or 0) & 0xFFFFFFFF)]


@pytest.mark.parametrize(
    ("variables", "cpu", "name"),
    [
        ("machdep.cpu.brand_string: Apple M2 Pro", "apple-m2", "M2"),
        (
            "machdep.cpu.brand_string: Apple M9\nhw.optional.arm.FEAT_SME: 1\nhw.optional.arm.sme_max_svl_b: 64",
            "apple-m4",
            "",
        ),
        ("machdep.cpu.brand_string: Apple M9\nhw.optional.arm.FEAT_BF16: 1", "apple-m2", ""),
        ("machdep.cpu.brand_string: Apple processor", "apple-m1", ""),
        ("hw.cpufamily: 99", "apple-m1", ""),
    ],
)
def test_a_mac_without_a_known_number_is_told_by_its_name_or_is_the_generation_of_its_features(
    variables: str, cpu: str, name: str
) -> None:
    detected = detect(parse(f"hw.optional.arm64: 1\nhw.optional.neon: 1\n{variables}\n".encode(), "sysctl")[1])
    assert (detected.cpu, detected.name, len(detected.decisions)) == (cpu, name, 0 if name else 1)
