"""Ask cpufeat and LLVM's own host detection about one machine, and print both answers: a line of JSON a machine.

    python llvm_host.py               this machine
    python llvm_host.py --recorded    each recording on standard input, one a line

LLVM sees a recording because the CPUID and XGETBV instructions in this process's copy of LLVM are replaced by UD2, for
which a signal handler answers in the CPU's place.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llvmlite import binding

import cpufeat

if TYPE_CHECKING:
    from cpufeat.detection.machine import Machine

CPUID, XGETBV, UD2 = b"\x0f\xa2", b"\x0f\x01\xd0", b"\x0f\x0b"
SA_SIGINFO = 4
# ucontext_t of x86-64 Linux: the general registers begin at byte 40, in the order of glibc's <sys/ucontext.h>.
REGISTERS, RBX, RDX, RAX, RCX, RIP = 40, 11, 12, 13, 14, 16
LEAVES_WITH_SUBLEAVES = (0x7, 0xD, 0x14, 0x1D, 0x1E)
"""Those of CPUID that mind ECX, as far as LLVM asks (SDM volume 2A)."""


class SigAction(ctypes.Structure):
    """glibc's struct sigaction."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def answers(machine: Machine | None = None) -> str:
    """Both answers as a line of JSON; LLVM's is about the CPU, or about what takes its place."""
    host = cpufeat.detect(machine)
    content = json.dumps(
        {
            "cpu": host.cpu,
            "features": list(host.features),
            "llvm": binding.llvm_version_info[0],
            "llvm cpu": binding.get_host_cpu_name(),
            "llvm features": dict(binding.get_host_cpu_features()),
        }
    )
    return f"{content}\n"


def begins_an_instruction(code: bytes, at: int) -> bool:
    """Whether disassembly that starts well before ``at`` comes to it: x86 code soon falls into step."""
    from iced_x86 import Decoder

    start = max(0, at - 256)
    return any(instruction.ip == at for instruction in Decoder(64, code[start : at + 3], ip=start))


def mapped_code(path_part: str) -> tuple[int, int]:
    """The addresses between which a library's code is mapped into this process."""
    match = re.search(rf"^(\w+)-(\w+) r-xp .*{path_part}", Path("/proc/self/maps").read_text(), re.M)
    assert match, f"no {path_part} in this process"
    return int(match[1], 16), int(match[2], 16)


def replace_instructions(answer: ctypes._CFuncPtr) -> dict[int, int]:
    """Replace LLVM's CPUID and XGETBV by UD2, with a handler. Returns each one's address and length."""
    libc = ctypes.CDLL(None)
    libc.sigaction(signal.SIGILL, ctypes.byref(SigAction(ctypes.cast(answer, ctypes.c_void_p), flags=SA_SIGINFO)), None)
    start, end = mapped_code("libllvmlite")
    code = ctypes.string_at(start, end - start)
    permissions = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    assert libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), permissions) == 0
    replaced = {}
    for match in re.finditer(CPUID + b"|" + XGETBV, code):
        if begins_an_instruction(code, match.start()):
            ctypes.memmove(start + match.start(), UD2, len(UD2))
            replaced[start + match.start()] = len(match.group())
    return replaced


def replay(lines: list[str]) -> None:
    """Print the answers about each recording."""
    replaced: dict[int, int] = {}
    machine = cpufeat.Recording()

    def answer(_signal: int, _info: int, context: int) -> None:
        registers = (ctypes.c_uint64 * (RIP + 1)).from_address(context + REGISTERS)
        length = replaced.get(registers[RIP]) or os.abort()
        leaf, subleaf = registers[RAX] & 0xFFFFFFFF, registers[RCX] & 0xFFFFFFFF
        if length == len(CPUID):
            words = machine.cpuid(leaf, subleaf if leaf in LEAVES_WITH_SUBLEAVES else 0) or (0, 0, 0, 0)
            registers[RAX], registers[RBX], registers[RCX], registers[RDX] = words
        else:
            xcr0 = machine.xgetbv() or 0
            registers[RAX], registers[RDX] = xcr0 & 0xFFFFFFFF, xcr0 >> 32
        registers[RIP] += length

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(answer)
    replaced.update(replace_instructions(handler))
    for line in lines:
        machine = cpufeat.Recording.from_json(line)
        sys.stdout.write(answers(machine))


if __name__ == "__main__":
    if sys.argv[1:] == ["--recorded"]:
        replay(sys.stdin.readlines())
    else:
        sys.stdout.write(answers())
