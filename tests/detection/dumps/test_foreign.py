"""The output of another program is read, or refused by its name with what to give instead."""

from __future__ import annotations

import pytest
from helpers.dumps import CPUID_R, CPUINFO, EVEREST, LSCPU, SYSCTL

from cpufeat import tables
from cpufeat.detection import dumps
from cpufeat.detection.detect import detect
from cpufeat.errors import DumpError

OUTPUTS = {
    "cpuid (the decoded text)": """\
CPU:
   vendor_id = "AuthenticAMD"
   version information (1/eax):
      processor type  = primary processor (0)
   feature information (1/edx):
      x87 FPU on chip                        = true
   cache and TLB information (2):
      0x63: data TLB: 2M/4M pages, 4-way, 32 entries
   (synth) = AMD EPYC (4th Gen) (Genoa B1) [Zen 4]
""",
    "Slurm's `scontrol show node`": """\
NodeName=node01 Arch=x86_64 CoresPerSocket=64
   CPUAlloc=0 CPUEfctv=256 CPUTot=256 CPULoad=0.01
   AvailableFeatures=zen4,avx512
   OS=Linux 6.1.0-50-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-06-01)
   BootTime=2026-06-02T10:00:00 SlurmdStartTime=2026-06-02T10:01:00
""",
    "Node Feature Discovery": '{"feature.node.kubernetes.io/cpu-cpuid.AVX2": "true", "kubernetes.io/arch": "amd64"}\n',
    "Ansible's facts": """\
node01 | SUCCESS => {
    "ansible_facts": {
        "ansible_architecture": "x86_64",
        "ansible_processor": ["0", "AuthenticAMD", "AMD EPYC 9754 128-Core Processor"]
    },
    "changed": false
}
""",
    "libvirt's capabilities": """\
<capabilities>
  <host>
    <cpu>
      <arch>x86_64</arch>
      <model>EPYC-Rome</model>
      <feature name='x2apic'/>
    </cpu>
  </host>
</capabilities>
""",
    "libvirt's domain capabilities": "<domainCapabilities>\n  <arch>x86_64</arch>\n</domainCapabilities>\n",
    "libvirt's definition of a guest": "<domain type='kvm'>\n  <cpu mode='host-model'/>\n</domain>\n",
    "`lscpu -p`": "# The following is the parsable format, which can be fed to other\n# CPU,Core\n0,0\n1,1\n",
    "`lscpu -e`": "CPU NODE SOCKET CORE L1d:L1i:L2:L3 ONLINE\n  0    0      0    0 0:0:0:0          yes\n",
    "`lscpu -e --json`": '{\n   "cpus": [\n      {\n         "cpu": 0,\n         "node": 0\n      }\n   ]\n}\n',
    "py-cpuinfo": '{"python_version": "3.12.1", "arch": "X86_64", "brand_raw": "AMD EPYC", "flags": ["avx"]}\n',
    "cpu_features' `list_cpu_features --json`": '{"arch":"x86","microarchitecture":"AMD_ZEN4","flags":["avx"]}\n',
    "libcpuid's raw data": "version=0.6.0\nbasic_cpuid[0]=00000010 68747541 444d4163 69746e65\n",
    "x86info": "x86info v1.31pre\nFound 4 identical CPUs\nFamily: 6 Model: 94\n",
    "dmidecode": "# dmidecode 3.4\nHandle 0x0004, DMI type 4\nProcessor Information\n\tFlags:\n\t\tFPU (FPU)\n",
    "lshw": "  *-cpu\n       description: CPU\n       product: AMD EPYC\n       capabilities: lm fpu sse avx\n",
    "hwinfo": "01: None 00.0: 10103 CPU\n  Hardware Class: cpu\n  Arch: X86-64\n  Features: fpu,vme,de,avx\n",
    "CPU-Z": "CPU-Z TXT Report\n-----\nProcessors Information\nInstructions sets\tMMX, SSE, AVX\n",
    "Coreinfo": "Coreinfo v3.6 - Dump information on system CPU\nAMD EPYC\nHTT       \t*\tHyperthreading enabled\n",
    "Windows' systeminfo": "Host Name:    A\nOS Name:      Microsoft Windows 11 Pro\nSystem Type:  x64-based PC\n",
    "FreeBSD's boot messages": "CPU: AMD EPYC (2000.00-MHz K8-class CPU)\n  Features=0x178bfbff<FPU,VME,DE,SSE>\n",
}
"""The beginning of what each program prints."""


def test_every_program_of_the_table_has_an_example() -> None:
    assert [program for _, program, _ in tables.rows("foreign_dumps.tsv")] == list(OUTPUTS)


@pytest.mark.parametrize("program", OUTPUTS)
def test_the_output_of_another_program_is_refused_by_name_with_what_to_give_instead(program: str) -> None:
    (instead,) = (cell for _, other, cell in tables.rows("foreign_dumps.tsv") if other == program)
    with pytest.raises(DumpError) as caught:
        dumps.parse(OUTPUTS[program].encode(), "dump")
    assert str(caught.value) == f"dump: the output of {program}; give {instead}"


def test_a_damaged_recording_is_no_output_of_what_it_has_recorded() -> None:
    with pytest.raises(DumpError, match="not JSON"):
        dumps.parse(b'{"cpufeat": 1, "py-cpuinfo": {"brand_raw": ', "dump")


# --- pdsh and clush


@pytest.mark.parametrize("text", [CPUINFO, LSCPU, SYSCTL, CPUID_R, EVEREST])
@pytest.mark.parametrize("node", ["node01: ", "10.0.0.7: ", "c1-n2.example.org: "])
def test_the_lines_of_one_node_are_read_without_its_name(text: str, node: str) -> None:
    name, machine = dumps.parse(text.encode(), "dump")
    fetched = "".join(f"{node}{line}\n" for line in text.splitlines())
    other_name, other = dumps.parse(fetched.encode(), "dump")
    assert (other_name, other) == (name, machine)


@pytest.mark.parametrize("text", [CPUINFO, LSCPU, SYSCTL, CPUID_R])
def test_the_lines_of_several_nodes_are_refused(text: str) -> None:
    mixed = "".join(f"node{number}: {line}\n" for line in text.splitlines() for number in (1, 2, 3, 4))
    with pytest.raises(DumpError) as caught:
        dumps.parse(mixed.encode(), "dump")
    assert str(caught.value) == (
        "dump: lines of 4 machines (node1, node2, node3, ...), as pdsh and clush print them; give those of one"
    )


@pytest.mark.parametrize("text", [CPUINFO, LSCPU])
def test_the_headings_of_dshbak_and_clush_are_skipped(text: str) -> None:
    _, machine = dumps.parse(text.encode(), "dump")
    for heading in (
        "----------------\nnode[1-4]\n----------------\n",
        "---------------\nnode[1-4] (4)\n---------------\n",
    ):
        assert detect(dumps.parse((heading + text).encode(), "dump")[1]) == detect(machine)
        twice = dumps.parse((heading + text + heading + text).encode(), "dump")[1]
        assert "occurs twice" in str(twice.remarks[0])


# --- several machines, or none


def test_several_machines_in_dumps_of_cpuid_and_sysctl_are_said() -> None:
    leaf = "   0x00000000 0x00: eax=0x00000020 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
    _, machine = dumps.parse((CPUID_R + CPUID_R).encode(), "dump")
    assert [str(remark).partition(",")[0] for remark in machine.remarks] == ["CPU: 0 occurs twice"]
    assert len(machine.leaves) == 4
    assert not dumps.parse(CPUID_R.encode(), "dump")[1].remarks
    assert not dumps.parse((leaf * 3).encode(), "dump")[1].remarks
    _, machine = dumps.parse((SYSCTL + SYSCTL.replace("DotProd: 1", "DotProd: 0")).encode(), "dump")
    assert machine.sysctl("hw.optional.arm.FEAT_DotProd") is None
    assert machine.sysctl("hw.optional.arm64") == 1
    assert "hw.optional.arm.FEAT_DotProd occurs twice" in str(machine.remarks[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hw.ncpu: 8\nhw.memsize: 8\n", "dump: no variable tells features: cut or filtered?"),
        ("processor: 0\nisa: what\n", "dump: nothing tells the architecture: cut or filtered?"),
    ],
)
def test_a_filtered_dump_is_said_to_be_one(text: str, message: str) -> None:
    with pytest.raises(DumpError) as caught:
        dumps.parse(text.encode(), "dump")
    assert str(caught.value).startswith(message)
