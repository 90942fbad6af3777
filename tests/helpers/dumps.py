"""A machine as each common program writes it down."""

from __future__ import annotations

CPUID_R = """\
CPU 0:
   0x00000000 0x00: eax=0x00000020 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69
   0x00000007 0x00: eax=0x00000001 ebx=0x239ca7eb ecx=0x98c027ac edx=0xfc1cc410
   0x00000007 0x01: eax=0x00400810 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
   0x80000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000121 edx=0x2c100800
CPU 12:
   0x00000000 0x00: eax=0x00000020 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69
   0x0000001a 0x00: eax=0x20000001 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
   0x80000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000121 edx=0x2c100800
"""


INSTLATX64 = """\
------[ Logical CPU #0 ]------
CPUID 00000000: 00000016-756E6547-6C65746E-49656E69 [GenuineIntel]
CPUID 00000004: 1C004121-01C0003F-0000003F-00000000 [SL 00]
CPUID 00000004: 1C004122-01C0003F-0000003F-00000000 [SL 01]
CPUID 0000000D: 0000001F-00000440-00000440-00000000
CPUID 0000000D: 0000000F-000003C0-00000100-00000000
CPUID 80000001: 00000000-00000000-00000121-2C100800
XCR0: 0x7

CPUID 00000000: 00000016-756E6547-6C65746E-49656E69 [GenuineIntel]
CPUID 80000001: 00000000-00000000-00000121-2C100800
"""


EVEREST = """\
CPUID Registers (CPU #1):
CPUID 00000000  \t00000005-68747541-444D4163-69746E65
CPUID 00000001  \t00100F42-00030800-00802009-178BFBFF
CPUID 80000000  \t8000001B-68747541-444D4163-69746E65
CPUID 80000001  \t00100F42-10004146-000037FF-EFD3FBFF
"""


CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 94
model name\t: Intel(R) Core(TM)   i5-6600 CPU @ 3.30GHz
stepping\t: 3
flags\t\t: fpu lm avx2

processor  :  1
vendor_id  :GenuineIntel
cpu family: 6
model: 94
model name: Intel(R) Core(TM) i5-6600 CPU @ 3.30GHz
stepping: 3
flags: avx2 lm fpu
"""


LSCPU = """\
Architecture:             x86_64
  CPU op-mode(s):         32-bit, 64-bit
CPU(s):                   6
  On-line CPU(s) list:    0-2, 4
Vendor ID:                AuthenticAMD
  BIOS Vendor ID:         Advanced Micro Devices, Inc.
  Model name:             AMD EPYC 7451 24-Core Processor
    BIOS Model name:      AMD EPYC 7451
    CPU family:           23
    Model:                1
    Stepping:             2
    Flags:                fpu lm avx2
Vulnerabilities:
  Meltdown:               Not affected
"""


LSCPU_JSON = """\
{"lscpu": [
  {"field": "Architecture:", "data": "x86_64", "children": [{"field": "Byte Order:", "data": "Little Endian"}]},
  {"field": "CPU(s):", "data": "6", "children": [{"field": "On-line CPU(s) list:", "data": "0-2,4"}]},
  {"field": "Vendor ID:", "data": "AuthenticAMD", "children": [
    {"field": "Model name:", "data": "AMD EPYC 7451 24-Core Processor", "children": [
      {"field": "CPU family:", "data": "23"},
      {"field": "Model:", "data": "1"},
      {"field": "Stepping:", "data": "2"},
      {"field": "Flags:", "data": "fpu lm avx2"}]}]},
  {"field": "Vulnerabilities:", "data": null}]}
"""


SYSCTL = """\
hw.ncpu: 8
hw.activecpu: 8
hw.optional.arm64: 1
hw.optional.arm.FEAT_DotProd: 1
machdep.cpu.brand_string: Apple M1 Pro
"""


RECORDED = (
    '{"cpufeat": 1, "arch": "x86_64", "cpuid": {"0": {"7.1": "00000001 00000002 00000003 00000004"}}, "xcr0": "7"}'
)


EXAMPLES = {
    "recording": [RECORDED],
    "cpuid": [CPUID_R, INSTLATX64, EVEREST],
    "cpuinfo": [CPUINFO],
    "lscpu": [LSCPU, LSCPU_JSON],
    "sysctl": [SYSCTL],
}
"""Dumps by the name of their format."""
